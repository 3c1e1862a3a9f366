"""xLAM-1's JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_formats.base import Answer, Piece, Writer, dumps, fail, read_call, read_json
from xlam_jax.format.call_formats.schema import call_schema, closed
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall


class XlamJson:
    """xLAM's JSON object `{"thought": ..., "tool_calls": [{"name": ..., "arguments": {...}}]}`."""

    name = "xlam-json"

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        out.add("{")
        if thought is not None:
            out.add('"thought": ')
            out.add_string(thought, "thought")
            out.add(", ")
        out.add('"tool_calls": [')
        for i, call in enumerate(calls):
            out.add(', {"name": ' if i else '{"name": ')
            out.add_string(call.name, "name")
            out.add(', "arguments": ')
            out.add(dumps(call.arguments, f"arguments of {call.name}"), "arguments")
            out.add("}")
        out.add("]}")
        return out.piece()

    def parse(self, text: str, stop: str) -> Answer:
        value = read_json(text, stop)
        thought: Any = ""
        if isinstance(value, dict):
            if "tool_calls" not in value:
                fail('the object has no key "tool_calls"', text)
            thought, value = value.get("thought") or "", value["tool_calls"]
        if not isinstance(thought, str):
            fail("thought is no text", text)
        if not isinstance(value, list):
            fail("tool_calls is no list", text)
        return Answer(thought, tuple(read_call(item, text) for item in value))

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> dict[str, Any]:
        if min_calls and not tools:
            raise InputError("a call is demanded, but there are no tools", hint="min_calls=0")
        calls: dict[str, Any] = {"type": "array", "minItems": min_calls}
        if max_calls is not None:
            calls["maxItems"] = max_calls
        if tools:
            calls["items"] = {"anyOf": [call_schema(tool) for tool in tools]}
        else:
            calls["maxItems"] = 0
        properties = {"thought": {"type": "string"}} if with_thought else {}
        return {
            # Separators as `render` writes them; without this the model may pad with whitespace for ever.
            "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
            **closed({**properties, "tool_calls": calls}),
        }

    def instruction(self, with_thought: bool) -> str:
        thought = '"thought": "why", ' if with_thought else ""
        return (
            f'Reply with JSON: {{{thought}"tool_calls": [{{"name": "tool", "arguments": {{"key": value}}}}]}}'
        )

    def jinja(self) -> str:
        return jinja_source(self.name)
