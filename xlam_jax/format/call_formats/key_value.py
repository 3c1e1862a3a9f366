"""Calls as plain text: `call: name`, one indented `key = value` a line, `end`.

Values are JSON. Names and keys are bare where they are ASCII words and JSON strings elsewhere. A thought
stands first as `thought: text`; its further lines are indented by two spaces. `no calls` says that there
are none. A call without its `end` is taken for cut off, unless the next one begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from xlam_jax.format.call_formats.base import LEADS, Piece, Plain, Writer, dumps
from xlam_jax.format.call_formats.lark import answer_rule, literal
from xlam_jax.format.call_formats.reading import (
    BLANK,
    SPACE,
    Reading,
    TextSource,
    Wait,
)
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import Worded
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_WORD = re.compile(r"[A-Za-z0-9_.\-]+")
_KEY = re.compile(r"[^=\n]*")


def _word(text: str) -> str:
    return text if _WORD.fullmatch(text) else dumps(text, "name")


class KeyValue(Worded):
    """`call: f`, `  city = "Oslo"`, `end`."""

    name = "key-value"
    plain = Plain(("thought:", "no calls", "call:", "```"), ("call:",), LEADS)

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        if thought:
            dumps(thought, "thought")
            out.add("thought: ")
            out.add(thought.replace("\n", "\n  "), "thought")
            out.add("\n")
        for i, call in enumerate(calls):
            dumps(call.arguments, f"arguments of {call.name}")
            out.add("\ncall: " if i else "call: ")
            out.add(_word(call.name), "name")
            out.add("\n")
            lines = (f"  {_word(k)} = {dumps(v, k)}\n" for k, v in call.arguments.items())
            out.add("".join(lines), "arguments")
            out.add("end")
        out.add("" if calls else "no calls")
        return out.piece()

    def _shape(self, source: TextSource) -> Wait:
        if (yield from source.accept("no calls")):
            return not (yield from source.line()).strip()
        if not (yield from source.accept("call:")):
            return True
        _read_word(source, (yield from source.line()))
        yield from source.take(SPACE)
        if (yield from source.follows(("end", "call:", '"'))) or not (yield from source.peek(1)):
            return True
        return bool(_WORD.fullmatch((yield from source.take(_KEY)).strip())) and (
            (yield from source.peek(1)) in ("", "=")
        )

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        thought = ""
        if (yield from source.accept("thought:")):
            yield from source.accept(" ")
            yield (thought := (yield from source.line()))
            while (yield from source.accept("  ")):
                yield (more := "\n" + (yield from source.line()))
                thought += more
        yield from source.take(SPACE)
        if (yield from source.accept("no calls")):
            return thought
        if not (yield from source.accept("call:")):
            source.fail("neither 'call: name' nor 'no calls'")
        while True:
            yield from source.attempt(self._read_call(source), ("call:",))
            yield from source.take(SPACE)
            if not (yield from source.accept("call:")):
                return thought

    def _read_call(self, source: TextSource) -> Wait:
        name = _read_word(source, (yield from source.line()))
        arguments: dict[str, Any] = {}
        source.note(name, arguments)
        while not (yield from self._at_end(source)):
            yield from self._argument(source, arguments)
        return ToolCall(name, arguments)

    def _at_end(self, source: TextSource) -> Wait:
        """Takes whitespace and the mark that ends a call; a mark stands at the start of a line."""
        while True:
            yield from source.take(_NEWLINES)
            if (yield from source.peek(1)) not in (" ", "\t"):
                break
            yield from source.take(BLANK)
            if (yield from source.peek(1)) != "\n":
                return False
        # No look further ahead than "end": the call is complete with its last letter.
        if (yield from source.peek(1)) == "e":
            return (yield from source.accept("end"))
        return (yield from source.peek(5)) == "call:"

    def _argument(self, source: TextSource, arguments: dict[str, Any]) -> Wait:
        if (yield from source.accept('"')):
            key = source.json('"' + (yield from source.quoted('"')))
            yield from source.take(BLANK)
        else:
            key = (yield from source.take(_KEY)).strip()
            if not _WORD.fullmatch(key):
                source.fail("an argument is expected: key = value")
        yield from source.expect("=")
        if key in arguments:
            source.fail(f"argument {key[:80]!r} is given twice")
        arguments[key] = source.json((yield from source.line()))

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = Values(None)
        calls = []
        for tool in tools:
            body = ""
            for key, schema, required in values.parameters(tool):
                line = f'({literal(f"  {_word(key)} = ")} {values.value(schema)} "\\n")'
                body += line + (" " if required else "? ")
            calls.append((f"call: {_word(tool.name)}\n", f'{body}"end"'))
        values.choice("call", calls)
        body = answer_rule(tools, min_calls, max_calls, '"\\n"', '"no calls"')
        if not with_thought:
            return f"answer: {body}\n{values.text}"
        thought = '("thought: " /[^\\n]*\\n(  [^\\n]*\\n)*/)?'
        return f"answer: {thought} ({body})\n{values.text}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "thought: why\n" if with_thought else ""
        first = " Begin with a line 'thought: why'." if with_thought else ""
        return (
            f'Reply with calls as text, or "no calls":\n{why}call: tool\n  key = "text"\n  other = 1\nend',
            f"Write each tool call as a block of lines: 'call:' and the tool's name, one indented "
            f"'key = JSON value' for every argument, 'end'.{first} If no tool fits, write 'no calls'.",
            f"Use plain text for the tool calls, values as JSON, 'no calls' where none is needed.{first} "
            f"Example:\n{why}call: tool_name\n  argument = [1, 2]\nend\ncall: other_tool\nend",
        )

    def jinja(self) -> str:
        return jinja_source(self.name)


_NEWLINES = re.compile(r"[\r\n]*")


def _read_word(source: TextSource, text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        return str(source.json(text))
    if not _WORD.fullmatch(text):
        source.fail("a name is a word, or a JSON string")
    return text
