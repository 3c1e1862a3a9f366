"""`Team-ACE/ToolACE`: tools as a JSON list in the system text, calls as `[f(a=1), Get Weather(city="x")]`."""

from __future__ import annotations

import json
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.sources import sharegpt
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id, tools
from xlam_jax.records.sources.call_text import call_list, is_call_list
from xlam_jax.records.sources.conversation import record_from_messages


def convert(row: Row) -> Record:
    """The system text is the set's own instruction of its call syntax and is left out (`cut_native_prompt`).

    Results `[{name, results}, ...]`, one for each call, are taken apart; any other text is one result. A list
    without calls is a turn without words.

    Raises:
      Refused: `no_tools`, `bad_call`, and those of `record_from_messages`.
    """
    obj = row.obj
    system = "\n".join(str(value) for role, value in sharegpt.turns(obj) if role == "system")
    offered = tools(_tool_list(system))
    names = [tool.name for tool in offered]
    messages: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for role, value in sharegpt.turns(obj):
        if role == "assistant" and isinstance(value, str):
            calls = _calls(value, names)
            listed = bool(calls) or value.split() in (["[]"], ["[", "]"])
            messages.append({"role": role, "content": "" if listed else value, "tool_calls": calls})
        elif role == "tool":
            messages += _results(value, len(calls))
        elif role != "system":
            messages.append(sharegpt.message(role, value))
    return record_from_messages(
        messages,
        id=row_id(SOURCE.name, row, obj.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=offered,
        lineage=("cut_native_prompt",),
    )


def _tool_list(system: str) -> list[Any]:
    """The JSON list of named objects in the text; brackets before it belong to the instruction's examples."""
    decoder, at = json.JSONDecoder(), system.find("[")
    while at >= 0:
        try:
            decoded, _ = decoder.raw_decode(system, at)
        except (ValueError, RecursionError):
            decoded = None
        if (
            isinstance(decoded, list)
            and decoded
            and all(isinstance(t, dict) and "name" in t for t in decoded)
        ):
            return decoded
        at = system.find("[", at + 1)
    raise Refused("no_tools", "no JSON list of functions in the system text")


def _calls(text: str, names: list[str]) -> list[dict[str, Any]]:
    if is_call_list(text, names):
        return call_list(text, names)
    if any(f"[{name}(" in text for name in names):
        raise Refused("bad_call", f"calls among words: {text[:80]!r}")
    return []


def _results(value: Any, calls: int) -> list[dict[str, Any]]:
    try:
        items = as_json(value)
    except Refused:
        items = None
    if isinstance(items, list) and len(items) == calls and all(isinstance(i, dict) for i in items):
        if all(set(item) == {"name", "results"} for item in items):
            return [{"role": "tool", "name": item["name"], "content": item["results"]} for item in items]
        if calls > 1:
            return [{"role": "tool", "content": item} for item in items]
    return [{"role": "tool", "content": value}]


SOURCE = Source(
    name="toolace",
    summary='calls as Python-like lists, [Get Weather(city="x")] (ToolACE)',
    license="Apache-2.0",
    url="https://huggingface.co/datasets/Team-ACE/ToolACE",
    convert=convert,
)
