"""Two evaluations of the same rows against each other, row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.harness import CaseResult


@dataclass(frozen=True)
class Paired:
    """How the verdicts of two evaluations lie on the rows that both have.

    Attributes:
      only_first, only_second: rows that one has right and the other has not.
      p: exact two-sided McNemar test: how often a fair coin would split the rows that differ at least so unevenly.
      low, high: 95 % interval of the difference second - first (R. G. Newcombe, Stat. Med. 17 (1998), 2635-2650,
        method 10 without continuity correction), fractions of 1.
    """

    n: int
    both: int
    only_first: int
    only_second: int
    p: float
    difference: float
    low: float
    high: float

    @property
    def neither(self) -> int:
        return self.n - self.both - self.only_first - self.only_second


def compare_rows(
    first: Sequence[CaseResult], second: Sequence[CaseResult], strict: bool = False
) -> dict[str, Any]:
    """Pairs of each style and of all, the rows that changed, and how many rows only one of the two has.

    Raises:
      InputError: no row in common.
    """
    a, b = ({row.key: row for row in rows} for rows in (first, second))
    shared = [key for key in a if key in b]
    if not shared:
        raise InputError("the two evaluations have no row in common", hint="evaluate both on the same rows")
    verdicts = [(key, _right(a[key], strict), _right(b[key], strict)) for key in shared]
    styles = list(dict.fromkeys(key[0] for key in shared))
    groups = {style: [v[1:] for v in verdicts if v[0][0] == style] for style in styles}
    changed = [(key, mine, theirs) for key, mine, theirs in verdicts if mine != theirs]
    return {
        "styles": {style: paired(pairs) for style, pairs in groups.items()},
        "all": paired([v[1:] for v in verdicts]),
        "lost": [_row(a[key], b[key]) for key, mine, _ in changed if mine],
        "won": [_row(a[key], b[key]) for key, mine, _ in changed if not mine],
        "only_in_one": len(a.keys() ^ b.keys()),
        "errors": _errors(a, b, shared),
    }


def _right(row: CaseResult, strict: bool) -> bool:
    return row.strict if strict else row.valid


def _row(mine: CaseResult, theirs: CaseResult) -> dict[str, Any]:
    said = {"first": mine, "second": theirs}
    return {
        "id": mine.id,
        "style": mine.style,
        "step": mine.step,
        **{f"{name} {key}": value for name, row in said.items() for key, value in
           (("error", row.error), ("detail", row.detail), ("text", row.text))},
    }  # fmt: skip


def _errors(
    a: dict[Any, CaseResult], b: dict[Any, CaseResult], shared: Sequence[Any]
) -> list[dict[str, Any]]:
    first, second = (Counter(rows[key].error or rows[key].outcome for key in shared) for rows in (a, b))
    names = sorted(first | second, key=lambda name: (-(first[name] + second[name]), name))
    return [{"outcome": name, "first": first[name], "second": second[name]} for name in names]


def paired(verdicts: Sequence[tuple[bool, bool]]) -> Paired:
    """The counts of pairs (first right, second right), and what they say."""
    counts = Counter(verdicts)
    both, lost, won = counts[True, True], counts[True, False], counts[False, True]
    n, m = len(verdicts), lost + won
    tail = sum(math.comb(m, k) for k in range(min(lost, won) + 1)) / 2**m if m else 1.0
    low, high = _newcombe(both, lost, won, n)
    return Paired(n, both, lost, won, min(1.0, 2 * tail), (won - lost) / n, low, high)


def _newcombe(both: int, lost: int, won: int, n: int) -> tuple[float, float]:
    from xlam_jax.scoring.intervals import wilson

    p1, p2 = (both + won) / n, (both + lost) / n
    (l1, u1), (l2, u2) = wilson(both + won, n), wilson(both + lost, n)
    margins = (both + won) * (lost + n - both - lost - won) * (both + lost) * (won + n - both - lost - won)
    phi = (both * (n - both - lost - won) - lost * won) / math.sqrt(margins) if margins else 0.0
    below = math.sqrt(max(0.0, (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2))
    above = math.sqrt(max(0.0, (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2))
    return p1 - p2 - below, p1 - p2 + above
