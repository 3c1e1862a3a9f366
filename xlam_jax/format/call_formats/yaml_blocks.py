"""Calls as YAML blocks, closed by YAML's document end mark `...`.

Values are JSON on one line, which is YAML's flow style; keys and names are bare where they are plain ASCII
words that no YAML reader takes for anything else. Lines as `render` writes them are read directly; a call
written otherwise (plain scalars, nested blocks) is read from PyYAML's events with JSON's idea of scalars, so
`yes`, `no` and dates are text, and anchors, aliases, tags, infinities and duplicate keys are refused. Text
without `...`, a stop token or a closing fence is refused as cut off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from xlam_jax.format.call_formats.base import DECODER, LEADS, Piece, Plain, Writer, dumps
from xlam_jax.format.call_formats.lark import Spelling, answer_rule, literal
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import Worded
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_RESERVED = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")  # in any case, by YAML 1.1
# Legal in JSON strings, but line breaks or not printable for YAML.
_ESCAPED = {c: f"\\u{ord(c):04x}" for c in "\x7f\x85\u2028\u2029\ufeff"}
_CHARACTER = (
    r'[^"\\\x00-\x1f\x7f\x{85}\x{2028}\x{2029}\x{feff}]|'
    r'\\(["\\\/bfnrt]|u(00[01][0-9a-f]|007f|0085|2028|2029|feff))'
)
_ITEM = re.compile(r"( *)- ")
_NAMED = re.compile(r"- name\s*:")
_NAME_LINE = re.compile(r"- name: (.+)")
_PAIR_LINE = re.compile(r'    ([A-Za-z_][A-Za-z0-9_.\-]*|"(?:[^"\\]|\\.)*"): (.+)')
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


def yaml_value(value: Any) -> str:
    """A checked JSON value in flow style."""
    text = json.dumps(value, ensure_ascii=False)
    for char, spelled in _ESCAPED.items():
        text = text.replace(char, spelled)
    return text


def _word(text: str) -> str:
    return text if _WORD.fullmatch(text) and text.lower() not in _RESERVED else yaml_value(text)


class Yaml(Worded):
    """`tool_calls:`, `- name: f`, `  arguments:`, `    city: "Oslo"`, `...`."""

    name = "yaml"
    plain = Plain(
        ("tool_calls:", "thought:", "- name", '- "name', "- {", "-\n", "---", "...", "```"),
        ("tool_calls:",),
        LEADS,
    )

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        if thought:
            dumps(thought, "thought")
            out.add('thought: "')
            out.add(yaml_value(thought)[1:-1], "thought")
            out.add('"\n')
        out.add("tool_calls:\n" if calls else "tool_calls: []\n")
        for call in calls:
            dumps(call.name, "name")
            dumps(call.arguments, f"arguments of {call.name}")
            out.add("- name: ")
            out.add(_word(call.name), "name")
            out.add("\n  arguments:" + ("\n" if call.arguments else " "))
            lines = (f"    {_word(k)}: {yaml_value(v)}" for k, v in call.arguments.items())
            out.add("\n".join(lines) or "{}", "arguments")
            out.add("\n")
        out.add("...")
        return out.piece()

    def _shape(self, source: TextSource) -> Wait:
        if not (yield from source.follows(("- name",))):
            return True
        return bool(_NAMED.match((yield from source.line())))

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        thought = None
        found = False
        while not (yield from _at_end(source)):
            if (yield from source.peek(1)) in (" ", "-") and (yield from source.peek(3)) != "---":
                yield from _calls(source)
                found = True
                break
            line = (yield from source.line()).rstrip()
            if line.startswith("thought:") and thought is None:
                lines = [line]
                while (yield from source.peek(1)) in (" ", "\n"):
                    lines.append((yield from source.line()))
                yield (thought := _thought(source, lines))
            elif line == "tool_calls: []":
                found = True
            elif line and line not in ("tool_calls:", "---") and line[0] != "#":
                source.fail("neither thought nor tool_calls")
        if not found:
            source.fail("no tool_calls")
        ended = (yield from source.accept("...")) or source.stopped
        if not ended and (yield from source.peek(1)) != "`":
            source.fail("the answer has no end: it may be cut off")
        yield from source.take(SPACE)
        yield from source.accept("```")
        return thought or ""

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = Values(Spelling(yaml_value, _CHARACTER))
        calls = []
        for tool in tools:
            head = f"- name: {_word(tool.name)}\n  arguments:"
            items = [
                (f"({literal(f'    {_word(key)}: ')} {values.value(schema)} {literal(chr(10))})", required)
                for key, schema, required in values.parameters(tool)
            ]
            lines = f"{literal(chr(10))} {values.sequence(items, '')}" if items else ""
            none = literal(" {}\n")
            if any(required for _, required in items):
                body = lines
            else:
                body = f"({none} | {lines})" if items else none
            calls.append((head, body))
        values.choice("call", calls)
        thought = f'("thought: " {values.value({"type": "string"})} "\\n")?' if with_thought else ""
        wrap = (literal("tool_calls:\n"), '"..."')
        body = answer_rule(tools, min_calls, max_calls, "", literal("tool_calls: []\n..."), wrap)
        return f"answer: {thought} ({body})\n{values.text}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = 'thought: "why"\n' if with_thought else ""
        first = " The first key is thought, your reason." if with_thought else ""
        call = 'tool_calls:\n- name: tool\n  arguments:\n    key: "text"\n    other: 1\n...'
        return (
            f"Reply with YAML (tool_calls: [] for no call):\n{why}{call}",
            f"Write the tool calls as YAML, texts in double quotes, and close with '...'.{first} If no tool "
            f"fits, write tool_calls: [].\n{why}{call}",
            f"Your answer is a YAML document and nothing else: a list of calls with name and arguments, "
            f"and the document end mark.\n{why}{call}",
        )

    def jinja(self) -> str:
        return jinja_source(self.name)


def _at_end(source: TextSource) -> Wait:
    """Whether the text, the document or the fence ends at this start of a line."""
    if (yield from source.peek(1)) not in ("", ".", "`"):
        return False
    return (yield from source.peek(3)) in ("", "...", "```")


def _calls(source: TextSource) -> Reading:
    """The items of the list of calls, up to the end."""
    source.begin()
    lines = [(yield from source.line())]
    item = _ITEM.match(lines[0])
    if item is None:
        source.fail("a call is expected: - name: ...")
    mark = item.group()
    while True:
        ended = yield from _at_end(source)
        if not ended and (yield from source.peek(len(mark))) != mark:
            lines.append((yield from source.line()))
            if begun := _strict_call(lines):
                source.note(begun.name, begun.arguments)
            continue
        if ended and not source.stopped and not (yield from source.peek(1)):
            source.fail("the answer has no end: it may be cut off")
        yield from source.attempt(_call(source, lines))
        if ended:
            return
        source.begin()
        lines = [(yield from source.line())]


def _call(source: TextSource, lines: list[str]) -> Wait:
    return _strict_call(lines) or _loose_call(source, lines)
    yield


def _strict_call(lines: list[str]) -> ToolCall | None:
    """The call, where it is written the way `render` writes; None where it is not."""
    name = _NAME_LINE.fullmatch(lines[0])
    if name is None or len(lines) < 2:
        return None
    arguments: dict[str, Any] = {}
    try:
        if lines[1:] != ["  arguments: {}"]:
            if lines[1] != "  arguments:" or len(lines) == 2:
                return None
            for line in lines[2:]:
                pair = _PAIR_LINE.fullmatch(line)
                if pair is None:
                    return None
                key = _read_word(pair.group(1))
                if key in arguments:
                    return None
                arguments[key] = DECODER.decode(pair.group(2))
        return ToolCall(_read_word(name.group(1)), arguments)
    except (ValueError, RecursionError):
        return None


def _read_word(text: str) -> str:
    if _WORD.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    if text[0] != '"':
        raise ValueError("neither a word nor a quoted text")
    return DECODER.decode(text)


def _thought(source: TextSource, lines: list[str]) -> str:
    text = lines[0][len("thought:") :].strip()
    if text[:1] == '"' and not "".join(lines[1:]).strip():
        try:
            return DECODER.decode(text)
        except ValueError:
            pass  # YAML has more escapes than JSON
    block = _loose(source, lines)
    thought = block.get("thought") if isinstance(block, dict) and len(block) == 1 else block
    if thought is not None and not isinstance(thought, str):
        source.fail("thought is no text")
    return thought or ""


def _loose_call(source: TextSource, lines: list[str]) -> ToolCall:
    items = _loose(source, lines)
    item = items[0] if isinstance(items, list) and len(items) == 1 else None
    if not isinstance(item, dict) or not item.keys() <= {"name", "arguments"}:
        source.fail("a call wants name and arguments, and nothing else")
    name, arguments = item.get("name"), item.get("arguments")
    arguments = {} if arguments in (None, "") else arguments
    if not isinstance(name, str) or not isinstance(arguments, dict):
        source.fail("a call wants a name and a mapping of arguments")
    return ToolCall(name, arguments)


def _loose(source: TextSource, lines: list[str]) -> Any:
    """The value of a block of general YAML."""
    import yaml

    try:
        # The two events before it open stream and document.
        events = iter(list(_shallow(yaml.parse("\n".join(lines), Loader=yaml.SafeLoader)))[2:])
        value = _build(next(events), events)
        if not isinstance(next(events), yaml.DocumentEndEvent):
            raise ValueError("more than one value")
        return value
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, StopIteration) as e:
        source.fail(f"not YAML: {e}")


def _shallow(events: Iterator[Any]) -> Iterator[Any]:
    """The events as they are; stops a text that only opens brackets before its cost grows."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > 80:
            raise ValueError("nested too deeply")
        yield event


def _build(event: Any, events: Iterator[Any]) -> Any:
    kind = type(event).__name__
    if getattr(event, "anchor", None) or kind == "AliasEvent":
        raise ValueError("anchors and aliases have no place in calls")
    if getattr(event, "tag", None):
        raise ValueError("tags have no place in calls")
    if kind == "ScalarEvent":
        return _scalar(event.value) if event.implicit[0] else event.value
    if kind == "SequenceStartEvent":
        items = []
        while type(event := next(events)).__name__ != "SequenceEndEvent":
            items.append(_build(event, events))
        return items
    if kind != "MappingStartEvent":
        raise ValueError("no value")
    mapping: dict[str, Any] = {}
    while type(event := next(events)).__name__ != "MappingEndEvent":
        key = getattr(event, "value", None)
        if key is None or key in mapping or key == "<<" or event.anchor or event.tag:
            raise ValueError("a key that is no text, or is given twice")
        mapping[key] = _build(next(events), events)
    return mapping


def _scalar(text: str) -> Any:
    """A plain scalar by JSON's rules: what is no number, truth value or null is text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ValueError(f"{text} is no JSON number")
    return DECODER.decode(text) if _NUMBER.fullmatch(text) else text
