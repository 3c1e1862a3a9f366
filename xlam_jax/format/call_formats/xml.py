"""Calls as XML: as elements, or with names and values in attributes.

A text argument is its escaped text; any other value is JSON and is marked `type="json"`, so that text which
looks like JSON stays text. Carriage returns (and line feeds and tabs in attributes) are character references,
because XML readers change them. Other control characters, which XML 1.0 has no spelling for, stay as they
are. An own scanner reads the text; there are no entities but XML's five and character references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from xlam_jax.format.call_formats.base import Piece, Plain, Writer, dumps
from xlam_jax.format.call_formats.lark import Spelling, answer_rule, literal
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import Worded
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_ATTRIBUTE = {**_TEXT, '"': "&quot;", "\n": "&#10;", "\t": "&#9;"}
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_REFERENCE = re.compile(r"&(amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});")
_UP_TO_TAG = re.compile(r"[^<]*")
_TAG_NAME = re.compile(r"[A-Za-z0-9_:.\-]*")
_UP_TO = {'"': re.compile(r'[^"<]*'), "'": re.compile(r"[^'<]*")}


def escape(text: str, table: dict[str, str]) -> str:
    for char, spelled in table.items():
        text = text.replace(char, spelled)
    return text


def _unescape(source: TextSource, text: str) -> str:
    def char(match: re.Match[str]) -> str:
        reference = match.group(1)
        if reference[0] != "#":
            return _NAMED[reference]
        code = int(reference[2:], 16) if reference[1] == "x" else int(reference[1:])
        if code > 0x10FFFF:
            source.fail("a character reference beyond Unicode")
        return chr(code)

    return _REFERENCE.sub(char, text) if "&" in text else text


def _write_thought(out: Writer, thought: str | None) -> None:
    if thought:
        dumps(thought, "thought")
        out.add("<thought>")
        out.add(escape(thought, _TEXT), "thought")
        out.add("</thought>\n")


def _tag(source: TextSource) -> Wait:
    """A tag as `(name, attributes)`: `/name` for a closing one, `name/` for an empty one."""
    yield from source.expect("<")
    name = "/" if (yield from source.accept("/")) else ""
    name += yield from source.take(_TAG_NAME)
    attributes: dict[str, str] = {}
    while True:
        yield from source.take(SPACE)
        if (yield from source.accept(">")):
            return name, attributes
        if (yield from source.accept("/")):
            yield from source.expect(">")
            return name + "/", attributes
        key = yield from source.take(_TAG_NAME)
        yield from source.take(SPACE)
        yield from source.expect("=")
        yield from source.take(SPACE)
        quote = yield from source.peek(1)
        if quote not in ('"', "'") or not key or key in attributes or name[:1] == "/":
            source.fail(f"broken attributes of <{name[:80]}>")
        source.skip(1)
        value = yield from source.take(_UP_TO[quote])
        yield from source.expect(quote)
        attributes[key] = _unescape(source, value)


def _next_tag(source: TextSource) -> Wait:
    yield from source.take(SPACE)
    return (yield from _tag(source))


def _text(source: TextSource, name: str) -> Wait:
    """The text of the element `name`, whose opening tag has been read, and its closing tag."""
    text = yield from source.take(_UP_TO_TAG)
    yield from source.expect(f"</{name}")
    yield from source.take(SPACE)
    yield from source.expect(">")
    return _unescape(source, text)


def _open(source: TextSource, name: str) -> Wait:
    yield from source.take(SPACE)
    tag, attributes = yield from _tag(source)
    if tag != name or attributes:
        source.fail(f"<{name}> is expected, found <{tag[:80]}>")


def _close(source: TextSource, name: str) -> Wait:
    yield from _open(source, f"/{name}")


def _typed(source: TextSource, text: str, attributes: dict[str, str]) -> Any:
    """Takes `type` out of the attributes and reads the value by it."""
    kind = attributes.pop("type", "string")
    if kind not in ("json", "string"):
        source.fail(f"type {kind[:80]!r} is neither json nor string")
    return source.json(text) if kind == "json" else text


def _add(source: TextSource, arguments: dict[str, Any], name: str, value: Any) -> None:
    if name in arguments:
        source.fail(f"argument {name[:80]!r} is given twice")
    arguments[name] = value


class _Xml(Worded):
    """What both spellings share: root element, thought, streaming."""

    name: str
    root: str
    call: str

    def _write_call(self, out: Writer, call: ToolCall) -> None:
        raise NotImplementedError

    def _read_call(self, source: TextSource, tag: str, attributes: dict[str, str]) -> Wait:
        raise NotImplementedError

    def _call_head(self, tool: Tool) -> str:
        """What a call of this tool begins with."""
        raise NotImplementedError

    def _call_rule(self, values: Values, tool: Tool) -> str:
        raise NotImplementedError

    def _values(self) -> Values:
        raise NotImplementedError

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        out.add(f"<{self.root}>\n")
        _write_thought(out, thought)
        for call in calls:
            dumps(call.name, "name")
            dumps(call.arguments, f"arguments of {call.name}")
            self._write_call(out, call)
        out.add(f"</{self.root}>")
        return out.piece()

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        if (yield from source.accept("<?xml")):
            yield from source.take(_DECLARATION)
            yield from source.expect(">")
        yield from _open(source, self.root)
        thought = None
        while True:
            tag, attributes = yield from _next_tag(source)
            if tag == f"/{self.root}":
                break
            if tag == "thought" and thought is None and not attributes:
                yield (thought := (yield from _text(source, "thought")))
            else:
                resume = (f"<{self.call}>", f"<{self.call} ", f"</{self.root}>")
                yield from source.attempt(self._read_call(source, tag, attributes), resume)
        return thought or ""

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = self._values()
        end = literal(f"</{self.call}>\n")
        calls = [(self._call_head(tool), f"{self._call_rule(values, tool)} {end}") for tool in tools]
        values.choice("call", calls)
        thought = f'("<thought>" /({_TEXT_CHARACTER})*/ "</thought>\\n")?' if with_thought else ""
        body = answer_rule(tools, min_calls, max_calls, "", '""')
        return f'answer: "<{self.root}>\\n" {thought} ({body}) "</{self.root}>"\n{values.text}'

    def jinja(self) -> str:
        return jinja_source("xml-values") + jinja_source(self.name)


_DECLARATION = re.compile(r"[^>]*")
_TEXT_CHARACTER = r"[^<>&\r]|&(amp|lt|gt|#13);"
_JSON_TEXT = r'[^"\\\x00-\x1f<>&]|&(amp|lt|gt);|\\(@|[\\\/bfnrt]|u00[01][0-9a-f])'


def _json(table: dict[str, str]) -> Spelling:
    """JSON whose special characters are escaped for XML."""
    quote = escape('"', table)  # an attribute's own quotes are references
    return Spelling(
        lambda value: escape(json.dumps(value, ensure_ascii=False), table),
        _JSON_TEXT.replace("@", quote),
        quote,
    )


class XmlElements(_Xml):
    """`<tool_call><name>f</name><arguments><argument><name>city</name><value>Oslo</value>...`."""

    name = "xml-elements"
    plain = Plain(("<", "```"), parts=("<tool_calls>",))
    opening = re.compile("<tool_calls>")
    root = "tool_calls"
    call = "tool_call"

    def _write_call(self, out: Writer, call: ToolCall) -> None:
        out.add("<tool_call>\n<name>")
        out.add(escape(call.name, _TEXT), "name")
        out.add("</name>\n<arguments>\n")
        lines = []
        for key, value in call.arguments.items():
            text = isinstance(value, str)
            shown = value if text else dumps(value, key)
            lines.append(
                f"<argument><name>{escape(key, _TEXT)}</name>{'<value>' if text else _VALUE_JSON}"
                f"{escape(shown, _TEXT)}</value></argument>\n"
            )
        out.add("".join(lines), "arguments")
        out.add("</arguments>\n</tool_call>\n")

    def _read_call(self, source: TextSource, tag: str, attributes: dict[str, str]) -> Wait:
        if tag != self.call or attributes:
            source.fail(f"<tool_call> is expected, found <{tag[:80]}>")
        yield from _open(source, "name")
        name = yield from _text(source, "name")
        arguments: dict[str, Any] = {}
        source.note(name, arguments)
        tag, attributes = yield from _next_tag(source)
        if tag == "arguments" and attributes in ({}, {"type": "json"}):
            yield from source.take(SPACE)
            for nothing in ("null", "{}"):
                yield from source.accept(nothing)
            while (tag := (yield from _next_tag(source))) == ("argument", {}):
                yield from _open(source, "name")
                key = yield from _text(source, "name")
                tag, attributes = yield from _next_tag(source)
                if tag not in ("value", "value/"):
                    source.fail(f"<value> is expected, found <{tag[:80]}>")
                text = (yield from _text(source, "value")) if tag == "value" else ""
                _add(source, arguments, key, _typed(source, text, attributes))
                if attributes:
                    source.fail("unknown attributes of <value>")
                yield from _close(source, "argument")
            if tag != ("/arguments", {}):
                source.fail(f"<argument> is expected, found <{tag[0][:80]}>")
        elif tag == f"/{self.call}":
            return ToolCall(name, arguments)
        elif tag != "arguments/" or attributes:
            source.fail(f"<arguments> is expected, found <{tag[:80]}>")
        yield from _close(source, self.call)
        return ToolCall(name, arguments)

    def _values(self) -> Values:
        return Values(_json(_TEXT))

    def _call_head(self, tool: Tool) -> str:
        return f"<tool_call>\n<name>{escape(tool.name, _TEXT)}</name>\n<arguments>\n"

    def _call_rule(self, values: Values, tool: Tool) -> str:
        rule = ""
        for key, schema, required in values.parameters(tool):
            head = literal(f"<argument><name>{escape(key, _TEXT)}</name>")
            value = _text_or_json(values, schema, _TEXT, "<value>", _VALUE_JSON)
            rule += f' ({head} {value} "</value></argument>\\n"){"" if required else "?"}'
        return rule + ' "</arguments>\\n"'

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "<thought>why</thought>\n" if with_thought else ""
        first = " The first element is <thought> with your reason." if with_thought else ""
        argument = "<argument><name>key</name><value>text</value></argument>\n"
        number = '<argument><name>other</name><value type="json">1</value></argument>\n'
        call = f"<tool_call>\n<name>tool</name>\n<arguments>\n{argument}{number}</arguments>\n</tool_call>\n"
        return (
            f"Reply with XML:\n<tool_calls>\n{why}{call}</tool_calls>",
            f'Write the tool calls as XML elements; a value that is no text is JSON with type="json".{first} '
            f"Without calls leave <tool_calls> empty.\n<tool_calls>\n{why}{call}</tool_calls>",
            f"Your answer is one <tool_calls> element with a <tool_call> for every call, special characters "
            f"escaped as XML wants it:\n<tool_calls>\n{why}{call}</tool_calls>",
        )


class XmlAttributes(_Xml):
    """`<call name="f"><arg name="city" value="Oslo"/></call>`."""

    name = "xml-attributes"
    plain = Plain(("<", "```"), parts=("<calls>",))
    opening = re.compile("<calls>")
    root = "calls"
    call = "call"

    def _write_call(self, out: Writer, call: ToolCall) -> None:
        out.add('<call name="')
        out.add(escape(call.name, _ATTRIBUTE), "name")
        out.add('">\n')
        lines = []
        for key, value in call.arguments.items():
            text = isinstance(value, str)
            shown = value if text else dumps(value, key)
            kind = "" if text else 'type="json" '
            lines.append(
                f'<arg name="{escape(key, _ATTRIBUTE)}" {kind}value="{escape(shown, _ATTRIBUTE)}"/>\n'
            )
        out.add("".join(lines), "arguments")
        out.add("</call>\n")

    def _read_call(self, source: TextSource, tag: str, attributes: dict[str, str]) -> Wait:
        if tag not in ("call", "call/") or list(attributes) != ["name"]:
            source.fail(f'<call name="..."> is expected, found <{tag[:80]}>')
        name = attributes["name"]
        arguments: dict[str, Any] = {}
        source.note(name, arguments)
        while tag != "call/":
            tag, attributes = yield from _next_tag(source)
            if tag == "/call":
                break
            if tag == "arg":
                yield from _close(source, "arg")
            elif tag != "arg/":
                source.fail(f"<arg> is expected, found <{tag[:80]}>")
            if not {"name", "value"} <= attributes.keys() <= {"name", "value", "type"}:
                source.fail("<arg> wants name and value")
            _add(source, arguments, attributes["name"], _typed(source, attributes["value"], attributes))
        return ToolCall(name, arguments)

    def _values(self) -> Values:
        return Values(_json(_ATTRIBUTE))

    def _call_head(self, tool: Tool) -> str:
        return f'<call name="{escape(tool.name, _ATTRIBUTE)}">\n'

    def _call_rule(self, values: Values, tool: Tool) -> str:
        rule = ""
        for key, schema, required in values.parameters(tool):
            head = literal(f'<arg name="{escape(key, _ATTRIBUTE)}" ')
            value = _text_or_json(values, schema, _ATTRIBUTE, 'value="', 'type="json" value="')
            rule += f" ({head} {value} {literal(chr(34) + '/>' + chr(10))}){'' if required else '?'}"
        return rule

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "<thought>why</thought>\n" if with_thought else ""
        first = " Say why in <thought> first." if with_thought else ""
        arg = '<arg name="key" value="text"/>\n<arg name="other" type="json" value="1"/>\n'
        example = f'<calls>\n{why}<call name="tool">\n{arg}</call>\n</calls>'
        return (
            f"Reply with XML:\n{example}",
            f'Write each call as a <call> with an <arg/> for every argument; type="json" marks values that '
            f"are no text.{first} No call: <calls></calls>.\n{example}",
            f"Your answer is one <calls> element, names and values in attributes, special characters "
            f"escaped as XML wants it:\n{example}",
        )


_VALUE_JSON = '<value type="json">'
_ATTRIBUTE_CHARACTER = r"""[^<>&"\r\n\t]|&(amp|lt|gt|quot|#13|#10|#9);"""


def _text_or_json(values: Values, schema: Any, table: dict[str, str], text: str, marked: str) -> str:
    """Lark expression for a top-level value: text as it is, anything else as marked JSON."""
    texts, others = values.split(schema)
    character = _TEXT_CHARACTER if table is _TEXT else _ATTRIBUTE_CHARACTER
    options = []
    for option in texts:
        if "enum" in option:
            said = values.texts([escape(choice, table) for choice in option["enum"]])
        else:
            said = values.characters(option, character, "")
        options.append(f"{literal(text)} ({said})")
    options += [f"{literal(marked)} {values.value(other)}" for other in others]
    return f"({' | '.join(options)})"
