"""What a source is: how a public data set's files become rows, and a row becomes a Record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_keys import arguments_of
from xlam_jax.format.pair import Pair
from xlam_jax.format.record import Record
from xlam_jax.format.tools import normalise_tool
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.rows import read_rows
from xlam_jax.records.sources.values import Refused, Row

__all__ = ["Refused", "Row", "Source", "as_json", "call", "row_id", "tool", "tools"]


@dataclass(frozen=True)
class Source:
    """A public data set's format.

    Attributes:
      name: what the user types.
      summary: one line for the list of sources.
      license: of the public set, SPDX where it has a name there; "" when it depends on the user's data.
      url: where the public set is published.
      convert: a row to its Record (or preference Pair, or a plain tool description); a function of a module,
        so that workers can import it. Raises Refused, or InputError for a record that is malformed.
      rows: how a file or folder becomes rows.
      kind: `records`, or `tools` for sets that hold tool descriptions without queries.
      calls: whether answers of the set may call; where not, their words may look like anything.
    """

    name: str
    summary: str
    license: str
    url: str
    convert: Callable[[Row], Record | Pair | dict[str, Any]]
    rows: Callable[[Path], Iterator[Row]] = read_rows
    kind: str = "records"
    calls: bool = True


def as_json(value: Any) -> Any:
    """`value`, read from JSON where it is text; typed tables carry nested values that way.

    Raises:
      Refused: `bad_json`.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as e:
        raise Refused("bad_json", f"{value[:80]!r}: {e}") from None


def tool(obj: Any) -> Tool:
    """A tool in any known spelling; Refused `bad_tool` otherwise."""
    try:
        return normalise_tool(obj)
    except InputError as e:
        raise Refused("bad_tool", f"{e.where}: {e.what}") from None


def tools(value: Any) -> tuple[Tool, ...]:
    """A list of tools, or the JSON text of one; equal tools under one name count once.

    Raises:
      Refused: `bad_tool`, or `ambiguous_tool` for two different tools of one name.
    """
    value = as_json(value) if value else []
    by_name: dict[str, Tool] = {}
    for one in map(tool, value if isinstance(value, list) else [value]):
        if by_name.setdefault(one.name, one) != one:
            raise Refused("ambiguous_tool", one.name)
    return tuple(by_name.values())


def call(obj: Any) -> ToolCall:
    """`{name, arguments}` (or OpenAI's object around it), arguments an object or its JSON text, by any known key.

    Raises:
      Refused: `bad_call`, `bad_json`.
    """
    outer: dict[str, Any] = {}
    if isinstance(obj, dict) and isinstance(obj.get("function"), dict):
        outer, obj = obj, obj["function"]
    if not isinstance(obj, dict) or not isinstance(obj.get("name"), str) or not obj["name"]:
        raise Refused("bad_call", f"no name in {str(obj)[:80]}")
    try:
        arguments = arguments_of(obj, outer)
    except InputError as e:
        raise Refused("bad_call", f"{obj['name']}: {e.what}") from None
    blank = arguments is None or (isinstance(arguments, str) and arguments.strip() in ("", "null"))
    arguments = {} if blank else as_json(arguments)
    if not isinstance(arguments, dict):
        raise Refused("bad_call", f"arguments of {obj['name']} are no object")
    return ToolCall(obj["name"], arguments)


def row_id(source: str, row: Row, own: Any = None) -> str:
    """The row's own id behind the source's name, else a hash of its content."""
    if isinstance(own, str | int) and str(own):
        return f"{source}-{own}"
    text = row.raw if row.raw is not None else json.dumps(row.parsed, sort_keys=True, default=str).encode()
    return f"{source}-{hashlib.sha256(text).hexdigest()[:16]}"
