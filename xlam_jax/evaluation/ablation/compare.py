"""Arms against each other, row by row and seed by seed.

All arms of a seed answer the same rows, so a difference is taken within a row before it is averaged. Intervals draw
seeds and rows with replacement (A. B. Owen, The pigeonhole bootstrap, Ann. Appl. Stat. 1 (2007), 386-411): a few
rows that happen to be easy and a few seeds that happen to be lucky are both in them. Three seeds are few: such an
interval is a little too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xlam_jax.errors import InputError, unknown
from xlam_jax.evaluation.harness import CaseResult
from xlam_jax.scoring.intervals import wilson

_DRAWS = 4000
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Mean:
    """A mean over rows and seeds, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Arm:
    """What became of an arm.

    Attributes:
      seeds: the mean of each seed alone.
      by_style: style -> mean over seeds and rows.
      difference: to the baseline, within rows; None for the baseline itself.
      better, worse: rows of a seed that have a higher or a lower score than under the baseline.
      outcomes: outcome or error -> number of rows of a seed.
    """

    name: str
    rows: int
    score: Mean
    seeds: list[float]
    by_style: dict[str, float]
    difference: Mean | None
    better: int
    worse: int
    outcomes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def score_of(row: CaseResult, score: str) -> float:
    """The score of a row, a number.

    Raises:
      InputError: the rows have no such score.
    """
    if score in ("ast", "strict"):
        return float(row.valid if score == "ast" else row.strict)
    if score not in row.metrics:
        raise unknown("score", score, ["ast", "strict", *row.metrics], where="score")
    return float(row.metrics[score])


def compare(rows: Mapping[str, Sequence[Sequence[CaseResult]]], baseline: str, score: str) -> list[Arm]:
    """One `Arm` an arm, in the order given.

    Args:
      rows: arm -> for each seed, its rows.

    Raises:
      InputError: arms that answered other rows for one seed, or a score that the rows lack.
    """
    keys = [{row.key: row for row in of_seed}.keys() for of_seed in rows[baseline]]
    shared = all(set(k) == set(keys[0]) for k in keys)
    if shared:
        keys = [keys[0]] * len(keys)
    tables = {name: _table(name, seeds, keys, score) for name, seeds in rows.items()}
    return [_arm(name, tables[name], tables[baseline] if name != baseline else None, rows[name], keys, shared)
            for name in rows]  # fmt: skip


def _table(
    name: str, seeds: Sequence[Sequence[CaseResult]], keys: Sequence[Any], score: str
) -> list[np.ndarray]:  # fmt: skip
    """The scores of an arm, for each seed in the order of the baseline's rows."""
    out = []
    for of_seed, wanted in zip(seeds, keys, strict=True):
        scores = {row.key: score_of(row, score) for row in of_seed}
        if other := scores.keys() ^ set(wanted):
            raise InputError(
                f"arm {name} answered other rows than the baseline, {len(other)} of them such as {sorted(other)[0][1]}",
                where="arms", hint="evaluate all arms of a seed on the same rows",
            )  # fmt: skip
        out.append(np.array([scores[key] for key in wanted]))
    return out


def _arm(
    name: str, table: list[np.ndarray], base: list[np.ndarray] | None, rows: Sequence[Sequence[CaseResult]],
    keys: Sequence[Any], shared: bool,
) -> Arm:  # fmt: skip
    styles: dict[str, list[float]] = {}
    outcomes: dict[str, int] = {}
    for scores, wanted in zip(table, keys, strict=True):
        for value, (style, *_) in zip(scores, wanted, strict=True):
            styles.setdefault(style, []).append(float(value))
    for row in (row for of_seed in rows for row in of_seed):
        kind = row.error or row.outcome
        outcomes[kind] = outcomes.get(kind, 0) + 1
    difference = None if base is None else [a - b for a, b in zip(table, base, strict=True)]
    return Arm(
        name=name,
        rows=sum(map(len, table)),
        score=_widened(mean(table, shared), np.concatenate(table)),
        seeds=[float(scores.mean()) for scores in table],
        by_style={style: float(np.mean(values)) for style, values in sorted(styles.items())},
        difference=None if difference is None else mean(difference, shared),
        better=0 if difference is None else sum(int((d > 0).sum()) for d in difference),
        worse=0 if difference is None else sum(int((d < 0).sum()) for d in difference),
        outcomes=dict(sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))),
    )


def _widened(mean: Mean, scores: np.ndarray) -> Mean:
    """At least Wilson's interval where scores are yes or no: a bootstrap of equal scores has no width."""
    if not np.isin(scores, (0.0, 1.0)).all():
        return mean
    low, high = wilson(int(scores.sum()), len(scores))
    return Mean(mean.value, min(mean.low, low), max(mean.high, high))


def mean(table: Sequence[np.ndarray], shared: bool, seed: int = 0) -> Mean:
    """The mean over seeds of the means over rows, and its interval.

    Args:
      table: for each seed, a score a row.
      shared: whether the rows of all seeds are the same, in the same order; they are then drawn together.
      seed: of the draws.
    """
    draw, n = np.random.default_rng(seed), len(table)
    value = float(np.mean([scores.mean() for scores in table]))
    seeds = _weights(draw, n)
    if shared:
        means = ((seeds @ np.array(table)) * _weights(draw, len(table[0]))).sum(axis=1)
    else:
        drawn = np.stack([_weights(draw, len(scores)) @ scores for scores in table], axis=1)
        means = (seeds * drawn).sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Mean(value, float(low), float(high))


def _weights(draw: np.random.Generator, n: int) -> np.ndarray:
    """The share that each of n things has in a sample of n with replacement, for every draw."""
    return draw.multinomial(n, np.full(n, 1 / n), size=_DRAWS) / n
