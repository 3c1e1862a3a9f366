"""`NousResearch/hermes-function-calling-v1`: ShareGPT with tools and calls in tags inside the text."""

from __future__ import annotations

from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.format.values import Tool
from xlam_jax.records.sources import sharegpt
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id, tools
from xlam_jax.records.sources.call_text import literal, tagged
from xlam_jax.records.sources.conversation import record_from_messages


def convert(row: Row) -> Record:
    """Tools from `<tools>` in the system text (or the field `tools`), calls from `<tool_call>`.

    Both are JSON or Python literals. A system text with `<tools>` is the set's own format instruction and is
    left out (lineage: `cut_native_prompt`); any other, such as the JSON mode's, is the task instruction.

    Raises:
      Refused: `bad_call`, `bad_tool`, and those of `record_from_messages`.
    """
    obj = row.obj
    messages: list[dict[str, Any]] = []
    offered, lineage = tools(obj.get("tools")), ()
    for role, value in sharegpt.turns(obj):
        if role == "system" and isinstance(value, str) and "</tools>" in value:
            offered, lineage = offered or _tools(value), ("cut_native_prompt",)
        elif role == "assistant" and isinstance(value, str):
            text, inside = tagged(value, "tool_call")
            calls = [call for part in inside for call in _calls(part)]
            messages.append({"role": role, "content": text, "tool_calls": calls})
        elif role == "tool" and isinstance(value, str):
            outside, inside = tagged(value, "tool_response")
            if outside and inside:
                raise Refused("bad_message", f"text beside <tool_response>: {outside[:80]!r}")
            messages += [_result(text) for text in inside or [value]]
        else:
            messages.append(sharegpt.message(role, value))
    return record_from_messages(
        messages,
        id=row_id(SOURCE.name, row, obj.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=offered,
        lineage=lineage,
    )


def _tools(system: str) -> tuple[Tool, ...]:
    # The text may speak of the tags before it uses them: the last pair that holds anything is the list.
    inside = [t for t in tagged(system, "tools")[1] if t]
    if not inside:
        return ()
    try:
        return tools(literal(inside[-1]))
    except Refused as e:
        raise Refused("bad_tool", e.detail) from None


def _calls(text: str) -> list[Any]:
    calls = literal(text)
    return calls if isinstance(calls, list) else [calls]


def _result(text: str) -> dict[str, Any]:
    """`{name, content}` is taken apart, so that results find their calls; anything else stays text."""
    try:
        value = as_json(text)
    except Refused:
        value = None
    if isinstance(value, dict) and set(value) == {"name", "content"}:
        return {"role": "tool", **value}
    return {"role": "tool", "content": text}


SOURCE = Source(
    name="hermes",
    summary="<tools>, <tool_call> and <tool_response> in text (hermes-function-calling-v1)",
    license="Apache-2.0",
    url="https://huggingface.co/datasets/NousResearch/hermes-function-calling-v1",
    convert=convert,
)
