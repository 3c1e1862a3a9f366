"""Call formats: how tool calls are written as text, read back, constrained and asked for.

A format is one object with the five methods of `CallFormat` and an entry in `CALL_FORMATS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from xlam_jax.errors import InputError, XlamError
from xlam_jax.format.record import Tool, ToolCall, check_json
from xlam_jax.format.templates import jinja_source


class ParseError(XlamError):
    """Text that is no answer in the expected call format."""


@dataclass(frozen=True)
class Answer:
    """What a model said: its thought (may be empty) and its calls (may be none)."""

    thought: str
    tool_calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class Piece:
    """Rendered text with `(start, end, kind)` of its parts; kinds `thought`, `name`, `arguments`."""

    text: str
    parts: tuple[tuple[int, int, str], ...]


class CallFormat(Protocol):
    """One way to write calls. `thought` is None where the codec writes no thoughts."""

    @property
    def name(self) -> str: ...

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        """Text and parts; raises InputError for arguments that JSON cannot hold."""
        ...

    def parse(self, text: str, stop: str) -> Answer:
        """The inverse of `render`; raises ParseError and nothing else."""
        ...

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> dict[str, Any]:
        """JSON Schema whose instances, written in key order, are exactly the answers."""
        ...

    def instruction(self, with_thought: bool) -> str:
        """The default format instruction."""
        ...

    def jinja(self) -> str:
        """Jinja source of the macro `answer(thought, calls)`."""
        ...


class XlamJson:
    """xLAM's JSON object `{"thought": ..., "tool_calls": [{"name": ..., "arguments": {...}}]}`."""

    name = "xlam-json"

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = _Writer()
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
            out.add(_dumps(call.arguments, f"arguments of {call.name}"), "arguments")
            out.add("}")
        out.add("]}")
        return out.piece()

    def parse(self, text: str, stop: str) -> Answer:
        value = _read_json(text, stop)
        thought: Any = ""
        if isinstance(value, dict):
            if "tool_calls" not in value:
                _fail('the object has no key "tool_calls"', text)
            thought, value = value.get("thought") or "", value["tool_calls"]
        if not isinstance(thought, str):
            _fail("thought is no text", text)
        if not isinstance(value, list):
            _fail("tool_calls is no list", text)
        return Answer(thought, tuple(_call(item, text) for item in value))

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> dict[str, Any]:
        if min_calls and not tools:
            raise InputError("a call is demanded, but there are no tools", hint="min_calls=0")
        calls: dict[str, Any] = {"type": "array", "minItems": min_calls}
        if max_calls is not None:
            calls["maxItems"] = max_calls
        if tools:
            calls["items"] = {"anyOf": [_call_schema(tool) for tool in tools]}
        else:
            calls["maxItems"] = 0
        properties = {"thought": {"type": "string"}} if with_thought else {}
        return {
            # Separators as `render` writes them; without this the model may pad with whitespace for ever.
            "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
            **_closed({**properties, "tool_calls": calls}),
        }

    def instruction(self, with_thought: bool) -> str:
        thought = '"thought": "why", ' if with_thought else ""
        return (
            f'Reply with JSON: {{{thought}"tool_calls": [{{"name": "tool", "arguments": {{"key": value}}}}]}}'
        )

    def jinja(self) -> str:
        return jinja_source(self.name)


CALL_FORMATS: dict[str, CallFormat] = {f.name: f for f in (XlamJson(),)}


class _Writer:
    """Collects text and the places of its parts."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._length = 0
        self._parts: list[tuple[int, int, str]] = []

    def add(self, text: str, kind: str = "") -> None:
        if kind:
            self._parts.append((self._length, self._length + len(text), kind))
        self._chunks.append(text)
        self._length += len(text)

    def add_string(self, value: str, kind: str) -> None:
        """A JSON string; the part is what stands between the quotes."""
        self.add('"')
        self.add(_dumps(value, kind)[1:-1], kind)
        self.add('"')

    def piece(self) -> Piece:
        return Piece("".join(self._chunks), tuple(self._parts))


def _dumps(value: Any, what: str) -> str:
    try:
        check_json(value)
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as e:  # ValueError also for integers beyond Python's digit limit
        raise InputError(f"{what} cannot be written as JSON: {e}") from None


_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\r?\n?")


def _read_json(text: str, stop: str) -> Any:
    """The one JSON value that is `text`, up to fences, surrounding whitespace and the stop token."""
    start = len(text) - len(text.lstrip())
    fenced = _FENCE.match(text, start)
    if fenced:
        start = fenced.end()
        start += len(text[start:]) - len(text[start:].lstrip())
    try:
        value, end = _DECODER.raw_decode(text, start)
        check_json(value)
    except RecursionError:
        _fail("JSON is nested too deeply", text)
    except ValueError as e:
        _fail(f"not JSON: {e}", text)
    rest = text[end:].lstrip()
    if fenced:
        rest = rest.removeprefix("```").lstrip()
    # Text after the stop token is another turn's; before it, it means that the answer was no JSON value.
    if rest and not (stop and rest.startswith(stop)):
        _fail("text after the JSON value", text)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"the number {text[:40]} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _call(item: Any, text: str) -> ToolCall:
    if not isinstance(item, dict):
        _fail("a call is no object", text)
    name, arguments = item.get("name"), item.get("arguments")
    if not isinstance(name, str) or not name:
        _fail("a call has no name", text)
    if isinstance(arguments, str):  # OpenAI's spelling: arguments as JSON text
        arguments = _read_json(arguments, "")
    if not isinstance(arguments, dict):
        _fail(f"arguments of {name[:80]} are no object", text)
    return ToolCall(name, arguments)


def _fail(what: str, text: str) -> NoReturn:
    raise ParseError(what, where=f"answer {text[:120]!r}") from None


def _call_schema(tool: Tool) -> dict[str, Any]:
    return _closed({"name": {"const": tool.name}, "arguments": _value_schema(tool.parameters)})


def _closed(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else [k for k in properties if k in required],
        "additionalProperties": False,
    }


def _value_schema(schema: Any) -> dict[str, Any]:
    """Keeps what shapes a value, and drops what grammar engines refuse (formats, defaults, references)."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(schema.get("properties"), dict):
        properties = {k: _value_schema(v) for k, v in schema["properties"].items()}
        return _closed(properties, schema.get("required") or ())
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return {"enum": schema["enum"]}
    if "const" in schema:
        return {"const": schema["const"]}
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return {"anyOf": [_value_schema(option) for option in schema[key]]}
    kept = {k: schema[k] for k in ("type", "minItems", "maxItems") if k in schema}
    if isinstance(schema.get("items"), dict):
        kept["items"] = _value_schema(schema["items"])
    return kept
