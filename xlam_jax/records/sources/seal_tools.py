"""Seal-Tools: queries with their gold calls, joined with the catalogue of tools beside them.

A row names its gold calls only. Offered are the tools of these calls and `OTHERS` more of the same areas
(the first word of their field, `Science/Geology`), drawn and ordered by the row's id, so that a row is the
same in every file and on every engine. Arguments that point to an earlier call's response (`API_call_0`)
stay as they are written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.base import Refused, Row, Source, row_id, tool
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.rows import data_files, read_rows

OTHERS = 4
CATALOGUE = "tool.jsonl"
_NO_ROWS = (CATALOGUE, "field.jsonl")


@dataclass(frozen=True)
class Catalogue:
    """The tools by name, as published, and the names of each area in file order."""

    tools: dict[str, dict[str, Any]]
    areas: dict[str, list[str]]


def rows(path: Path) -> Iterator[Row]:
    """Rows of the query files; `extra` is the catalogue beside the file.

    Raises:
      InputError: no catalogue.
    """
    for file in data_files(path):
        if file.name in _NO_ROWS and path.is_dir():
            continue
        catalogue = _catalogue(file.with_name(CATALOGUE))
        for row in read_rows(file):
            yield Row(row.where, row.raw, row.parsed, catalogue)


def _catalogue(path: Path) -> Catalogue:
    if not path.is_file():
        raise InputError(
            "the tools of Seal-Tools not found", where=str(path), hint=f"keep {CATALOGUE} beside it"
        )
    tools: dict[str, dict[str, Any]] = {}
    areas: dict[str, list[str]] = {}
    for row in read_rows(path):
        try:
            obj = row.obj
        except Refused as e:
            raise InputError(f"not a tool: {e}", where=row.where) from None
        if not isinstance(obj.get("api_name"), str):
            raise InputError("a tool without api_name", where=row.where)
        tools[obj["api_name"]] = obj
        areas.setdefault(_area(obj), []).append(obj["api_name"])
    return Catalogue(tools, areas)


def _area(obj: dict[str, Any]) -> str:
    return str(obj.get("field", "")).partition("/")[0]


def convert(row: Row) -> Record:
    """One step with all calls.

    Refused: `empty_query`, `no_answer`, `unknown_tool` (a call whose tool the catalogue lacks).
    """
    obj, catalogue = row.obj, row.extra
    if not str(obj.get("query") or "").strip():
        raise Refused("empty_query")
    if not obj.get("calling"):
        raise Refused("no_answer")
    calls = tuple(ToolCall(c["api"], c.get("parameters") or {}) for c in obj["calling"])
    gold = list(dict.fromkeys(call.name for call in calls))
    for name in gold:
        if name not in catalogue.tools:
            raise Refused("unknown_tool", str(name))
    names = _offered(str(obj["id"]), gold, catalogue)
    return checked(
        Record(
            id=row_id(SOURCE.name, row, obj["id"]),
            query=obj["query"],
            tools=tuple(_tool(catalogue.tools[name]) for name in names),
            steps=(Step(tool_calls=calls),),
            source=SOURCE.name,
            license=SOURCE.license,
        )
    )


def _offered(id: str, gold: list[str], catalogue: Catalogue) -> list[str]:
    areas = dict.fromkeys(_area(catalogue.tools[name]) for name in gold)
    others = [name for area in areas for name in catalogue.areas[area] if name not in gold]
    rng = np.random.default_rng([zlib.crc32(SOURCE.name.encode()), zlib.crc32(id.encode())])
    drawn = rng.choice(len(others), min(OTHERS, len(others)), replace=False)
    names = gold + [others[i] for i in drawn]
    return [names[i] for i in rng.permutation(len(names))]


def _tool(obj: dict[str, Any]) -> Tool:
    parameters = {
        name: {key: p[key] for key in ("type", "description", "default") if key in p}
        for name, p in (obj.get("parameters") or {}).items()
    }
    schema = {"type": "object", "properties": parameters, "required": obj.get("required") or []}
    return tool({"name": obj["api_name"], "description": obj.get("api_description"), "parameters": schema})


SOURCE = Source(
    name="seal-tools",
    summary="Seal-Tools queries with gold calls, tool.jsonl beside them",
    license="Apache-2.0",
    url="https://github.com/fairyshine/Seal-Tools",
    convert=convert,
    rows=rows,
)
