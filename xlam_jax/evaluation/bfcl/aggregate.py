"""BFCL's columns and overall scores, version by version, from counts of right rows a category.

Sources: the `generate_leaderboard_csv` of each version's own checker. A column is a mean of means, so that a row of a
small category weighs as much as dozens of a large one; `scoring.intervals.weighted` carries that into the interval.
The overall score needs every column. What is left of it without some is a partial, and is called so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from xlam_jax.scoring.intervals import weighted


@dataclass(frozen=True)
class Count:
    """Right rows of a category, and all of its rows."""

    right: int
    n: int


@dataclass(frozen=True)
class Score:
    """A fraction of 1 with its 95 % interval, over `n` rows."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Column:
    """A score made of others.

    Attributes:
      how: `mean` of the parts, `pool` of their rows, or `percent` by `weights`.
      parts: columns, or names of categories.
    """

    name: str
    how: Literal["mean", "pool", "percent"]
    parts: tuple[Column | str, ...]
    weights: tuple[float, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories below it."""
        below = [(p,) if isinstance(p, str) else p.categories for p in self.parts]
        return tuple(name for names in below for name in names)

    def shares(self) -> tuple[float, ...]:
        """Weight of each part, 1 together; of a `pool` only counts can say."""
        if self.how == "percent":
            return tuple(w / sum(self.weights) for w in self.weights)
        return (1 / len(self.parts),) * len(self.parts)

    def combine(self, values: Mapping[str, float]) -> float:
        """The score from its parts' scores by name, in whatever unit they are."""
        names = [p if isinstance(p, str) else p.name for p in self.parts]
        return sum(w * values[name] for w, name in zip(self.shares(), names, strict=True))

    def missing(self, counts: Mapping[str, Count]) -> tuple[str, ...]:
        """Categories without a row in `counts`."""
        return tuple(name for name in self.categories if name not in counts or not counts[name].n)

    def score(self, counts: Mapping[str, Count]) -> Score:
        """The score; every category has to have rows."""
        parts = [(w, counts[name].right, counts[name].n) for w, name in self._flat(counts)]
        return Score(*weighted(parts), sum(n for _, _, n in parts))

    def _flat(self, counts: Mapping[str, Count]) -> list[tuple[float, str]]:
        if self.how == "pool":
            total = sum(counts[name].n for name in self.categories)
            return [(counts[name].n / total, name) for name in self.categories]
        out = []
        for share, part in zip(self.shares(), self.parts, strict=True):
            below = [(1.0, part)] if isinstance(part, str) else part._flat(counts)
            out += [(share * weight, name) for weight, name in below]
        return out


def _mean(name: str, *parts: Column | str) -> Column:
    return Column(name, "mean", parts)


_AST = ("simple", "multiple", "parallel", "parallel_multiple")
_LIVE_AST = tuple(f"live_{name}" for name in _AST)
_SIMPLE = _mean("simple", "simple", "java", "javascript")
_IRRELEVANCE = _mean("irrelevance", "irrelevance", "live_irrelevance")
_MULTI_TURN = _mean(
    "multi_turn", *(f"multi_turn_{n}" for n in ("base", "miss_func", "miss_param", "long_context"))
)
_LIVE = Column("live", "pool", (*_LIVE_AST, "live_irrelevance", "live_relevance"))
_EXEC = (
    _mean("exec_simple", "exec_simple", "rest"),
    *(_mean(f"exec_{name}", f"exec_{name}") for name in _AST[1:]),
)

# The overall score of each version; its parts are the columns of the board.
OVERALL = {
    "v2": _mean(
        "overall",
        _mean("ast_simple", _SIMPLE, "live_simple"),
        *(_mean(f"ast_{name}", name, f"live_{name}") for name in _AST[1:]),
        *_EXEC,
        _IRRELEVANCE,
        _mean("relevance", "live_relevance"),
    ),
    # Since the executed categories went (2025-04-09), the non-live part is a mean of five.
    "v3": _mean("overall", _mean("non_live", _SIMPLE, *_AST[1:], "irrelevance"), _LIVE, _MULTI_TURN),
    "v4": Column(
        "overall",
        "percent",
        (
            _mean("non_live", _SIMPLE, *_AST[1:]),
            Column("live", "pool", _LIVE_AST),
            _IRRELEVANCE,
            _MULTI_TURN,
            _mean(
                "agentic",
                _mean("web_search", "web_search_base", "web_search_no_snippet"),
                _mean("memory", "memory_kv", "memory_vector", "memory_rec_sum"),
            ),
        ),
        (10, 10, 10, 30, 40),
    ),
}
# The sub-boards that a version publishes beside its columns.
BOARDS = {
    "v2": (_mean("non_live", _SIMPLE, *_AST[1:], *_EXEC, "irrelevance"), _LIVE),
    "v3": (),
    "v4": (),
}


def board(version: str, counts: Mapping[str, Count]) -> dict[str, Score | tuple[str, ...]]:
    """Every column of a version by name: its score, or the categories that it lacks."""
    columns = [p for p in OVERALL[version].parts if isinstance(p, Column)]
    columns += BOARDS[version]
    return {c.name: c.missing(counts) or c.score(counts) for c in columns}


def total(version: str, counts: Mapping[str, Count]) -> tuple[str, Score] | None:
    """The overall score by its name, or a partial of the columns that are there, with their weights; None below two."""
    whole = OVERALL[version]
    there = [
        (part, weight)
        for part, weight in zip(whole.parts, whole.shares(), strict=True)
        if isinstance(part, Column) and not part.missing(counts)
    ]
    if len(there) == len(whole.parts):
        return f"{version} overall", whole.score(counts)
    if len(there) < 2:
        return None
    parts, weights = zip(*there, strict=True)
    name = f"{version} partial, {len(there)} of {len(whole.parts)} columns"
    return name, Column(name, "percent", parts, weights).score(counts)
