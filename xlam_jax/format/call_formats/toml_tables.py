"""Calls as TOML: a table `[[tool_calls]]` with its `[tool_calls.arguments]` for each, and `# end`.

Nested values are inline tables and arrays on one line. TOML has no null: null is written `nan`, which no JSON
value needs. The comment `# end` says that the last call is whole; a stop token or a closing fence says so
too, and text without any of them is refused as cut off.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from xlam_jax.format.call_formats.base import LEADS, Piece, Plain, Writer, dumps
from xlam_jax.format.call_formats.lark import Spelling, answer_rule, literal
from xlam_jax.format.call_formats.reading import Reading, TextSource, Wait
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import Worded
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_BARE = re.compile(r"[A-Za-z0-9_\-]+")
_HEADER = "[[tool_calls]]"
_END = "# end"
_CHARACTER = r'[^"\\\x00-\x1f\x7f]|\\(["\\bfnrt]|u00[01][0-9a-f]|u007f)'


def toml_value(value: Any) -> str:
    """A checked JSON value as TOML on one line; null is `nan`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if value is None:
        return "nan"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml_value(key)


class Toml(Worded):
    """`[[tool_calls]]`, `name = "f"`, `[tool_calls.arguments]`, `city = "Oslo"`."""

    name = "toml"
    plain = Plain(("[[", "thought =", "thought=", "tool_calls", "# end", "```"), ("[[tool_calls]]",), LEADS)

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        if thought:
            dumps(thought, "thought")
            out.add('thought = "')
            out.add(toml_value(thought)[1:-1], "thought")
            out.add('"\n')
        for call in calls:
            dumps(call.name, "name")
            dumps(call.arguments, f"arguments of {call.name}")
            out.add(f'{_HEADER}\nname = "')
            out.add(toml_value(call.name)[1:-1], "name")
            out.add('"\n[tool_calls.arguments]\n')
            lines = (f"{_key(k)} = {toml_value(v)}\n" for k, v in call.arguments.items())
            out.add("".join(lines), "arguments")
        out.add(_END if calls else "tool_calls = []")
        return out.piece()

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        head: dict[str, Any] | None = None
        lines: list[str] = []
        thought: Any = ""
        while True:
            ended = yield from source.accept(_END)
            if not ended and fenced and (yield from source.accept("```")):
                ended, fenced = True, False
            at_end = ended or not (yield from source.peek(1))
            line = "" if at_end else (yield from source.line()).removesuffix("\r")
            if not at_end and line.strip() != _HEADER:
                lines.append(line)
                continue
            if head is None:
                head = _load(source, lines)
                if isinstance(thought := head.pop("thought", ""), str):
                    yield thought
            else:
                if at_end and not (ended or source.stopped):
                    source.fail("the answer has no end: it may be cut off")
                yield from source.attempt(_read_call(source, lines))
            lines = []
            if at_end:
                break
            head.setdefault("tool_calls", None)
        if not isinstance(thought, str) or head not in ({"tool_calls": None}, {"tool_calls": []}):
            source.fail("neither calls nor tool_calls = []")
        return thought

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        spelling = Spelling(toml_value, _CHARACTER, null="nan", between=" = ")
        values = Values(spelling)
        calls = []
        for tool in tools:
            rule = ""
            for key, schema, required in values.parameters(tool):
                rule += (
                    f' ({literal(f"{_key(key)} = ")} {values.value(schema)} "\\n"){"" if required else "?"}'
                )
            head = f"{_HEADER}\nname = {toml_value(tool.name)}\n[tool_calls.arguments]\n"
            calls.append((head, rule))
        values.choice("call", calls)
        thought = f'("thought = " /{spelling.string}/ "\\n")?' if with_thought else ""
        body = answer_rule(
            tools, min_calls, max_calls, "", literal("tool_calls = []"), wrap=("", literal(_END))
        )
        return f"answer: {thought} ({body})\n{values.text}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = 'thought = "why"\n' if with_thought else ""
        first = " The first key is thought, your reason." if with_thought else ""
        call = '[[tool_calls]]\nname = "tool"\n[tool_calls.arguments]\nkey = "text"\nother = 1\n# end'
        return (
            f"Reply with TOML (tool_calls = [] for no call):\n{why}{call}",
            f"Write the tool calls as TOML tables and close with the comment '# end'; null is "
            f"written nan.{first} If no tool fits, write tool_calls = [].\n{why}{call}",
            f"Your answer is a TOML document with one [[tool_calls]] table for every call, '# end' after the "
            f"last:\n{why}{call}",
        )

    def jinja(self) -> str:
        return jinja_source(self.name)


def _read_call(source: TextSource, lines: list[str]) -> Wait:
    return _call(source, _load(source, lines))
    yield


def _load(source: TextSource, lines: list[str]) -> dict[str, Any]:
    try:
        return _json_value(tomllib.loads("\n".join(lines)))
    except (ValueError, RecursionError) as e:
        source.fail(f"not TOML: {e}")


def _json_value(value: Any) -> Any:
    match value:
        case dict():
            return {k: _json_value(v) for k, v in value.items()}
        case list():
            return [_json_value(v) for v in value]
        case float() if value != value:
            return None
        case float() if value - value != 0.0:
            raise ValueError("a number is too large")
        case str() | int() | float():
            return value
    raise ValueError(f"a {type(value).__name__} is no JSON value")


def _call(source: TextSource, table: dict[str, Any]) -> ToolCall:
    # In a block of its own the header reads [tool_calls.arguments]: a table in a table.
    inner = table.pop("tool_calls", {})
    arguments = inner.pop("arguments", {}) if isinstance(inner, dict) else None
    if "arguments" in table and not arguments:
        arguments = table.pop("arguments") or {}
    name = table.pop("name", None)
    if not isinstance(name, str) or not isinstance(arguments, dict) or inner or table:
        source.fail("a call wants name and arguments, and nothing else")
    return ToolCall(name, arguments)
