"""Formats that are JSON as a whole: xLAM-1's object, OpenAI's message, and a call a line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from xlam_jax.format.call_formats.base import ParseError, Piece, Plain, Writer, dumps
from xlam_jax.format.call_formats.json_reading import (
    call_of,
    call_rules,
    has_key,
    looks_like_call,
    looks_like_calls,
    read_call,
    read_calls,
    read_members,
    write_call,
    write_calls,
)
from xlam_jax.format.call_formats.lark import Spelling, answer_rule, json_value, literal
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait
from xlam_jax.format.call_formats.under_way import JsonCall
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import Worded
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_TEXT = {"type": "string"}


class XlamJson(Worded):
    """xLAM's JSON object `{"thought": ..., "tool_calls": [{"name": ..., "arguments": {...}}]}`.

    A bare list of calls is accepted, and so are further keys.
    """

    name = "xlam-json"
    plain = Plain(("{", "[", "```"), parts=('"tool_calls"', '"thought"', '"name"'))
    opening = re.compile(r'\{\s*"(tool_calls|thought)"|\[\s*\{\s*"name"')
    cut = False

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        out.add("{")
        if thought is not None:
            out.add('"thought": ')
            out.add_string(thought, "thought")
            out.add(", ")
        out.add('"tool_calls": ')
        write_calls(out, calls)
        out.add("}")
        return out.piece()

    def _shape(self, source: TextSource) -> Wait:
        if (yield from source.peek(1)) == "[":
            return (yield from looks_like_calls(source))
        return (yield from has_key(source, ("tool_calls", "thought")))

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        members: dict[str, Any] = {"tool_calls": []}
        if (yield from source.peek(1)) == "[":
            yield from read_calls(source)
        else:
            members = yield from read_members(source, "thought")
        if members.get("tool_calls") != []:
            source.fail("tool_calls is no list" if "tool_calls" in members else "there is no key tool_calls")
        thought = members.get("thought") or ""
        if not isinstance(thought, str):
            source.fail("thought is no text")
        return thought

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = Values(None)
        call_rules(values, tools)
        body = answer_rule(tools, min_calls, max_calls, '", "', '""')
        head = f'"{{\\"thought\\": " {values.value(_TEXT)} ", "' if with_thought else '"{"'
        return f'answer: {head} "\\"tool_calls\\": [" ({body}) "]}}"\n{values.text}'

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = '"thought": "why", ' if with_thought else ""
        first = " Say in thought why." if with_thought else ""
        form = f'{{{why}"tool_calls": [{{"name": "tool", "arguments": {{"key": value}}}}]}}'
        return (
            f"Reply with JSON: {form}",
            f"Write one JSON object with the list of tool calls, in the order to run them; leave the list "
            f"empty if no tool fits.{first}\n{form}",
            f"Your answer must be valid JSON in exactly this form, with no text around it:\n{form}\nNo call "
            f"is needed? Then tool_calls is [].",
        )

    def jinja(self) -> str:
        return jinja_source("json-calls") + jinja_source(self.name)


def _escaped(text: str) -> str:
    """What stands for `text` inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


# A character of a text inside the string that the arguments are: every quote and backslash doubled once more.
_IN_TEXT = r'[^"\\\x00-\x1f]|\\\\(\\"|\\\\|[\/bfnrt]|u00[01][0-9a-f])'


class OpenAI(Worded):
    """OpenAI's message `{"content": null, "tool_calls": [{"type": "function", "function": {...}}]}`.

    Arguments are JSON text. The thought is the content; without calls the content is the reply and there is
    no key `tool_calls`. Call ids and further keys are read over, arguments may be objects.
    """

    name = "openai"
    plain = Plain(("{", "```"), parts=('"content"', '"tool_calls"'))
    opening = re.compile(r'\{\s*"(content|tool_calls)"')

    @property
    def words(self) -> None:
        """None: words are the message's content."""

    cut = False

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        out.add('{"content": ')
        if thought:
            out.add_string(thought, "thought")
        else:
            out.add("null")
        for i, call in enumerate(calls):
            out.add(", " if i else ', "tool_calls": [')
            out.add('{"type": "function", "function": {"name": ')
            out.add_string(call.name, "name")
            out.add(', "arguments": ')
            out.add_string(dumps(call.arguments, f"arguments of {call.name}"), "arguments")
            out.add("}}")
        out.add("]}" if calls else "}")
        return out.piece()

    def _shape(self, source: TextSource) -> Wait:
        return (yield from has_key(source, ("content", "tool_calls")))

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        members = yield from read_members(source, "content", _function)
        content = members.get("content", "")
        if not members.keys() & {"content", "tool_calls"} or members.get("tool_calls"):
            source.fail("neither content nor tool_calls")
        if content is not None and not isinstance(content, str):
            source.fail("content is no text")
        return content or ""

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        spelling = Spelling(
            lambda value: _escaped(json.dumps(value, ensure_ascii=False)), _IN_TEXT, quote=r'\\"'
        )
        values = Values(spelling)
        calls = []
        for tool in tools:
            head = f'{{"type": "function", "function": {{"name": "{_escaped(tool.name)}", "arguments": "'
            calls.append((head, f"{values.arguments(tool)} {literal(chr(34) + '}}')}"))
        values.choice("call", calls)
        values.add("text", json_value(_TEXT))
        content = '("null" | text)' if with_thought else '"null"'
        head = f'"{{\\"content\\": " {content}'
        wrap = (f'{head} ", \\"tool_calls\\": ["', '"]}"')
        none = '"{\\"content\\": " ("null" | text) "}"'
        body = answer_rule(tools, min_calls, max_calls, '", "', none, wrap)
        return f"answer: {body}\n{values.text}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        content = '"why"' if with_thought else "null"
        first = " Say why in content." if with_thought else ""
        call = '{"type": "function", "function": {"name": "tool", "arguments": "{\\"key\\": 1}"}}'
        form = f'{{"content": {content}, "tool_calls": [{call}]}}'
        return (
            f"Reply with an OpenAI message as JSON, arguments as JSON text:\n{form}",
            f"Write the assistant message of OpenAI's API as one JSON object; the arguments of a function "
            f'are a string that holds JSON.{first} Without a call: {{"content": "your words"}}.\n{form}',
            f"Your answer is a single JSON object in the form of an OpenAI chat message:\n{form}\n"
            f"If no tool fits, leave tool_calls out and answer in content.",
        )

    def jinja(self) -> str:
        return jinja_source(self.name)


def _function(source: TextSource, item: dict[str, Any]) -> ToolCall:
    function = item.get("function", item)
    if not isinstance(function, dict) or item.get("type", "function") != "function":
        source.fail("a call is no function")
    return call_of(source, function, item)


class JsonLines(Worded):
    """A call object a line; `null` where there is none, before them `{"thought": "..."}`."""

    name = "json-lines"
    plain = Plain(("{", "null", "```"), parts=('"name"', '"thought"'))
    opening = re.compile(r'\{\s*"(name|thought)"')
    cut = False

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        if thought:
            out.add('{"thought": ')
            out.add_string(thought, "thought")
            out.add("}\n")
        for i, call in enumerate(calls):
            out.add("\n" if i else "")
            write_call(out, call)
        out.add("" if calls else "null")
        return out.piece()

    def _shape(self, source: TextSource) -> Wait:
        if (yield from source.accept("null")):
            return (yield from source.peek(1)) in ("", "\n", "\r", " ", "`")
        return (yield from looks_like_call(source, ("thought",)))

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        thought = ""
        if (yield from source.accept("null")):
            return thought
        if (yield from source.peek(1)) != "{":
            source.fail("not JSON: a call is no object")
        source.begin(JsonCall)
        line = yield from source.balanced()
        said = _thought(source, line)
        if said is None:
            yield from source.attempt(_call(source, line))
            yield from source.take(SPACE)
        else:
            source.forget()
            yield (thought := said)
            yield from source.take(SPACE)
            if (yield from source.accept("null")):
                return thought
            if (yield from source.peek(1)) != "{":
                source.fail("neither a call nor null after the thought")
        while (yield from source.peek(1)) == "{" and (yield from source.shaped(looks_like_call)):
            yield from source.attempt(read_call(source), sketch=JsonCall)
            yield from source.take(SPACE)
        return thought

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = Values(None)
        call_rules(values, tools)
        none, first = '"null"', "call"
        if with_thought:
            values.add("thought", f'"\\"thought\\": " {values.value(_TEXT)} "}}\\n"')
            none, first = '("{" thought)? "null"', '"{" (thought "{")? body'
        body = answer_rule(tools, min_calls, max_calls, '"\\n"', none, first=first)
        return f"answer: {body}\n{values.text}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = '{"thought": "why"}\n' if with_thought else ""
        first = ' Begin with the line {"thought": "why"}.' if with_thought else ""
        form = f'{why}{{"name": "tool", "arguments": {{"key": value}}}}'
        return (
            f"Reply with one JSON object a line for each call, or null:\n{form}",
            f"Write the tool calls as JSON Lines, one call object on each line, and nothing else.{first} "
            f"If no tool fits, write null.\n{form}",
            f"Each line of your answer is a JSON object with name and arguments of a call:\n{form}\n"
            f"A single null says that no call is needed.",
        )

    def jinja(self) -> str:
        return jinja_source("json-calls") + jinja_source(self.name)


def _thought(source: TextSource, line: str) -> str | None:
    """The thought that an object `{"thought": ...}` is; None for other objects, which may be calls."""
    try:
        item = source.json(line)
    except ParseError:
        return None
    if item.keys() != {"thought"}:
        return None
    if not isinstance(item["thought"], str):
        source.fail("thought is no text")
    return item["thought"]


def _call(source: TextSource, line: str) -> Wait:
    return call_of(source, source.json(line))
    yield
