"""Published results, dated and with their source, and a run of one's own among them.

A run on BFCL stands among published rows by the columns that it has: theirs are put together from the same columns, by
the weights of the whole, so that no partial score is held against an overall one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, unknown
from xlam_jax.evaluation.bfcl.aggregate import OVERALL

_DATA = Path(__file__).with_name("published.json")
_GROUPS = {"ast": 4, "exec": 4}  # prefixes of columns that a narrow table shows as their mean


@dataclass(frozen=True)
class Published:
    """A table as it was published.

    Attributes:
      date: of the measurement, or of the paper where it names none.
      unit: of every value; "" for fractions of 1.
      rows: (model, value of each column or None where it was not published).
    """

    name: str
    title: str
    date: str
    source: str
    unit: str
    columns: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]

    def values(self, row: tuple[float | None, ...]) -> dict[str, float | None]:
        """Column -> value."""
        return dict(zip(self.columns, row, strict=True))


@functools.cache
def published() -> dict[str, Published]:
    """Every table by its name."""
    tables = {}
    for name, given in json.loads(_DATA.read_text("utf-8")).items():
        rows = tuple((model, tuple(values)) for model, *values in given.pop("rows"))
        columns, notes = tuple(given.pop("columns")), tuple(given.pop("notes"))
        tables[name] = Published(name, columns=columns, notes=notes, rows=rows, **given)
    return tables


def find_published(name: str) -> Published:
    """The table called `name`.

    Raises:
      InputError: no such table; the hint is the nearest one.
    """
    if name not in published():
        raise unknown("published table", name, published(), where="TABLE")
    return published()[name]


def lines(table: Published) -> list[dict[str, Any]]:
    """A line a model; of columns with one prefix their mean, where all of them were published."""
    return [{"model": model, **_narrow(table.values(row))} for model, row in table.rows]


def _narrow(values: Mapping[str, float | None]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for column, value in values.items():
        group = column.partition("_")[0]
        if group not in _GROUPS:
            out[column] = value
        elif group not in out:
            parts = [v for c, v in values.items() if c.startswith(f"{group}_") and v is not None]
            out[group] = round(sum(parts) / len(parts), 2) if len(parts) == _GROUPS[group] else None
    return out


@dataclass(frozen=True)
class Ours:
    """A run on BFCL as it enters a published table; percent."""

    name: str
    rule: str
    columns: dict[str, dict[str, float]]


def of_run(folder: Path, summary: Mapping[str, Any], version: str, rule: str) -> Ours:
    """What `xlam eval bfcl --out` kept, by one of the two rules.

    Args:
      folder: of the run, which is called by its name.
      summary: the content of its summary.json.
      version: of the published table, a key of `OVERALL`.
      rule: "bfcl" or "strict".

    Raises:
      InputError: another version, or fewer than two columns of its board.
    """
    if summary.get("version") != version:
        raise InputError(
            f"the run is of {summary.get('version', 'no BFCL version')}, the table of {version}",
            where=str(folder),
            hint=f"a run with --version {version}",
        )
    of_board = {column if isinstance(column, str) else column.name for column in OVERALL[version].parts}
    columns = {
        name: {key: 100 * score[key] for key in ("value", "low", "high")}
        for name, score in summary[rule]["columns"].items()
        if name in of_board and "missing" not in score
    }
    if len(columns) < 2:
        raise InputError(
            f"the run has {len(columns)} columns of the board",
            where=str(folder),
            hint="--category single_turn",
        )
    return Ours(folder.name, rule, columns)


def among(table: Published, version: str, runs: list[Ours]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The published models and `runs`, best first by the mean of the columns that all runs have.

    Returns:
      (a line a model: rank among the published, `overall` as published, `alike` from the columns named; the columns).
    """
    whole = OVERALL[version]
    names = [part if isinstance(part, str) else part.name for part in whole.parts]
    weights = dict(zip(names, whole.shares(), strict=True))
    common = tuple(n for n in names if all(n in run.columns for run in runs))
    if not common:
        raise InputError("the runs have no column in common", where="RUN", hint="one run at a time")
    share = sum(weights[n] for n in common)

    def alike(values: Mapping[str, Any]) -> float | None:
        parts = [values[n] for n in common]
        return None if None in parts else sum(weights[n] * values[n] for n in common) / share

    standings: list[dict[str, Any]] = []
    for model, row in table.rows:
        values = table.values(row)
        standings.append(
            {"model": model, "overall": values.get("overall"), "alike": alike(values), "ours": False}
        )
    for run in runs:
        own = alike({name: score["value"] for name, score in run.columns.items()})
        standings.append(
            {"model": f"{run.name} ({run.rule} rules)", "overall": None, "alike": own, "ours": True}
        )
    standings = sorted(
        (f for f in standings if f["alike"] is not None), key=lambda f: (-f["alike"], not f["ours"])
    )
    rank = 0
    for line in standings:
        rank += not line["ours"]
        line["rank"] = None if line["ours"] else rank
    return standings, common


def nearest(found: list[dict[str, Any]], beside: int = 2) -> list[dict[str, Any]]:
    """The best line, those of xLAM, ours, and so many on either side of ours."""
    own = [i for i, line in enumerate(found) if line["ours"]]
    return [
        line
        for i, line in enumerate(found)
        if i == 0 or "xLAM" in line["model"] or any(abs(i - j) <= beside for j in own)
    ]
