"""Calls as Python writes them: one a line, or a list of them (ToolACE, Llama, BFCL's prompt style).

`search(q="Oslo", limit=3)`; `True`, `False`, `None`; strings as JSON writes them, which are Python literals
of the same value. Two spellings keep odd names: an argument that is no ASCII identifier is
`**{"odd key": 1}`, a function that is no dotted identifier is `call("odd name", key=1)`. A thought stands
before the calls as comment lines. The text is read by an own scanner and `ast`, never evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from xlam_jax.format.call_formats.base import LEADS, Piece, Plain, Writer, dumps
from xlam_jax.format.call_formats.lark import Spelling, answer_rule, literal
from xlam_jax.format.call_formats.python_literals import is_identifier, python_value, read_literal
from xlam_jax.format.call_formats.reading import (
    LINE,
    SPACE,
    Reading,
    TextSource,
    Wait,
)
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import Worded, is_call
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_NAME = re.compile(r"""[^()\[\]{}"'=,:;#`\\\n]*""")
_KEY = re.compile(r"""[^()\[\]{}"'=,:;#`\\\n*]*""")
_UP_TO_END = re.compile(r"[^)]*")
_VALUE = re.compile(r"""[^()\[\]{}"',#\\]*""")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def _write_call(out: Writer, call: ToolCall) -> None:
    dumps(call.arguments, f"arguments of {call.name}")
    bare = all(map(is_identifier, call.name.split(".")))
    if bare:
        out.add(call.name, "name")
        out.add("(")
    else:
        out.add("call(")
        out.add_string(call.name, "name")
        out.add(", " if call.arguments else "")
    out.add(
        ", ".join(
            _argument(k) + python_value(v) + ("" if is_identifier(k) else "}")
            for k, v in call.arguments.items()
        ),
        "arguments",
    )
    out.add(")")


def _argument(key: str) -> str:
    return f"{key}=" if is_identifier(key) else f"**{{{json.dumps(key, ensure_ascii=False)}: "


def _write_thought(out: Writer, thought: str | None) -> None:
    if thought:
        dumps(thought, "thought")
        out.add("# ")
        out.add(thought.replace("\n", "\n# "), "thought")
        out.add("\n")


def _comments(source: TextSource, thoughts: list[str]) -> Reading:
    """Takes whitespace and comment lines, which are yielded, too."""
    while True:
        yield from source.take(SPACE)
        if not (yield from source.accept("#")):
            return
        yield from source.accept(" ")
        thoughts.append((yield from source.take(LINE)))
        yield "\n" * (len(thoughts) > 1) + thoughts[-1]


def _silent(reading: Reading) -> Wait:
    """A reader that shows nothing of what it reads."""
    for item in reading:
        if item is None:
            yield


def _read_call(source: TextSource, name: str) -> Wait:
    """The rest of a call after its name, up to its closing parenthesis."""
    if not name or not (yield from source.accept("(")):
        source.fail("a call is expected: name(key=value)")
    arguments: dict[str, Any] = {}
    first = True
    while True:
        yield from source.take(SPACE)
        if (yield from source.accept(")")):
            return ToolCall(name, arguments)
        mark = yield from source.peek(1)
        if mark in ('"', "'") and first and name == "call":
            name = read_literal(source, (yield from _expression(source)))
            pairs: dict[str, Any] = {}
        elif mark == "*":
            yield from source.expect("**")
            pairs = read_literal(source, (yield from _expression(source)))
            if not isinstance(pairs, dict):
                source.fail("** wants a mapping")
        else:
            key = (yield from source.take(_KEY)).strip()
            if not key or not (yield from source.accept("=")):
                source.fail("an argument is expected: key=value")
            pairs = {key: read_literal(source, (yield from _expression(source)))}
        if not isinstance(name, str):
            source.fail("the name of a call is no text")
        source.note(name, arguments)
        for key, value in pairs.items():
            if key in arguments:
                source.fail(f"argument {key[:80]!r} is given twice")
            arguments[key] = value
        first = False
        if (yield from source.peek(1)) == ",":
            source.skip(1)


def _arguments_shape(source: TextSource) -> Wait:
    """Whether `name(` comes next and behind it what calls have there: a named argument, or none."""
    name = (yield from source.take(_NAME)).strip()
    if not name or not (yield from source.accept("(")):
        return False
    yield from source.take(SPACE)
    if (yield from source.peek(1)) in ("", ")"):
        return True
    if (yield from source.accept("**")) or (yield from source.peek(1)) in ('"', "'"):
        return name == "call" or (yield from source.peek(1)) == "{"
    key = (yield from source.take(_KEY)).strip()
    mark = yield from source.peek(2)
    return bool(key) and (not mark or (mark[0] == "=" and mark != "=="))


def _expression(source: TextSource) -> Wait:
    """Text up to the comma or parenthesis that ends an argument; brackets and strings are stepped over."""
    taken: list[str] = []
    closing: list[str] = []
    while True:
        taken.append((yield from source.take(_VALUE)))
        mark = yield from source.peek(1)
        if not closing and mark in (",", ")"):
            return "".join(taken)
        if mark == "" or mark in "#\\":
            source.fail("the call is cut off" if not mark else f"{mark!r} in a call")
        source.skip(1)
        taken.append(mark)
        if mark in ('"', "'"):
            taken.append((yield from _string(source, mark)))
        elif mark in _CLOSING:
            closing.append(_CLOSING[mark])
        elif mark != "," and (not closing or closing.pop() != mark):
            source.fail("brackets do not match")


def _string(source: TextSource, quote: str) -> Wait:
    """The rest of a string literal after its first quote."""
    if (yield from source.peek(1)) != quote:
        return (yield from source.quoted(quote))
    source.skip(1)
    if (yield from source.peek(1)) != quote:
        return quote  # the empty string
    source.skip(1)
    text = quote * 2
    while True:
        text += yield from source.quoted(quote, lines=True)
        if (yield from source.accept(quote * 2)):
            return text + quote * 2


_PYTHON = Spelling(python_value, null="None", true="True", false="False")


def _call_rules(tools: Sequence[Tool]) -> str:
    values = Values(_PYTHON)
    calls = []
    for tool in tools:
        items = []
        for key, schema, required in values.parameters(tool):
            end = "" if is_identifier(key) else ' "}"'
            items.append((f"({literal(_argument(key))} {values.value(schema)}{end})", required))
        if all(map(is_identifier, tool.name.split("."))):
            head = f"{tool.name}("
            body = values.sequence(items, literal(", ")) if items else ""
        else:
            head = f"call({json.dumps(tool.name, ensure_ascii=False)}"
            # The name is the first argument, so that every other one has a comma before it.
            body = values.sequence([('""', True), *items], literal(", "))
        calls.append((head, f'{body} ")"'))
    values.choice("call", calls)
    return values.text


_THOUGHT = 'thought: (/# [^\\n]*/ "\\n")*\n'


class PythonCalls(Worded):
    """One call a line; `pass` where there is none."""

    name = "python-calls"
    plain = Plain(("#", "```"), parts=LEADS, calls=True)

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        _write_thought(out, thought)
        for i, call in enumerate(calls):
            out.add("\n" if i else "")
            _write_call(out, call)
        out.add("" if calls else "pass")
        return out.piece()

    def _shape(self, source: TextSource) -> Wait:
        yield from _silent(_comments(source, []))
        if not (yield from is_call(source)):
            return False
        if (yield from source.follows(("pass",))) and (yield from source.peek(5)) != "pass(":
            return True
        return (yield from _arguments_shape(source))

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        thoughts: list[str] = []
        count = 0
        while True:
            yield from _comments(source, thoughts)
            if not (yield from is_call(source)) or not (yield from source.shaped(self._shape)):
                break
            if (yield from source.follows(("pass",))) and (yield from source.peek(5)) != "pass(":
                if count:
                    source.fail("pass beside calls")
                source.skip(4)
                yield from _comments(source, thoughts)
                return "\n".join(thoughts)
            yield from source.attempt(self._statement(source), ("\n",))
            count += 1
            # A second statement on one line is no call by this format.
            rest = (yield from source.line()).strip()
            if rest and not rest.startswith("#"):
                if source.strict:
                    source.fail("text after a call")
                thoughts.append(rest)
                yield "\n" * (len(thoughts) > 1) + rest
        if not count:
            source.fail("neither a call nor pass")
        return "\n".join(thoughts)

    def _statement(self, source: TextSource) -> Wait:
        name = (yield from source.take(_NAME)).strip()
        return (yield from _read_call(source, name))

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        body = answer_rule(tools, min_calls, max_calls, '"\\n"', '"pass"')
        thought = ("thought ", _THOUGHT) if with_thought else ("", "")
        return f"answer: {thought[0]}({body})\n{thought[1]}{_call_rules(tools)}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "# why\n" if with_thought else ""
        comment = " Begin with a comment that says why." if with_thought else ""
        return (
            f'Reply with Python calls, one a line, or pass:\n{why}tool(key="text", other=1)',
            f"Write each tool call as a line of Python with keyword arguments; write pass if no tool fits."
            f'{comment}\nExample:\n{why}tool_name(argument="value", flag=True)',
            f"Your answer is Python and nothing else: one function call per line, every argument by keyword, "
            f"literals as values, `pass` for no call.{comment} For instance:\n{why}function(name=[1, 2])",
        )

    def jinja(self) -> str:
        return jinja_source("python-values") + jinja_source(self.name)


# A list of calls amid words: its first call has no argument, or a named one, or says its name as `call("name"`. The
# beginnings that may still become one, and what plain words must not hold.
_LIST = re.compile(r"\[\s*(?:call\(\s*[\"']|[\w.\-]{1,80}\(\s*(?:\)\s*[,\]]|\w{1,80}\s*=[^=]|\*\*))")
_MAYBE_LIST = re.compile(r"\[\s*(?:[\w.\-]{1,80}(?:\(\s*(?:\)\s*|\w{1,80}\s*=?)?)?)?")
_LISTED = r"\[[^\[\](]*\("


class PythonList(Worded):
    """A list of calls `[f(a=1), g()]`; without calls the reply as plain text, or `[]`.

    A reply that would read as a list, a comment or a fence, or holds what may be a list, begins with a backslash.
    """

    name = "python-list"
    plain = Plain(("[", "#", "```"))
    speaks = True

    @property
    def words(self) -> None:
        """None: words stand in place of the list."""

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        if not calls and thought:
            dumps(thought, "thought")
            start = thought.strip()
            odd = start[:1] in ("", "[", "#", "\\") or start.startswith(("```", "<think>"))
            out.add("\\" if odd or re.search(_LISTED, thought) else "")
            out.add(thought, "thought")
            return out.piece()
        _write_thought(out, thought)
        out.add("[")
        for i, call in enumerate(calls):
            out.add(", " if i else "")
            _write_call(out, call)
        out.add("]")
        return out.piece()

    def _opens(self, source: TextSource, line: bool) -> Wait:
        count = 1
        while True:
            text = yield from source.peek(count)
            if _LIST.match(text):
                return True
            if len(text) < count or not _MAYBE_LIST.fullmatch(text):
                return False
            count += 1

    @property
    def _signs(self) -> str:
        return "["

    def _shape(self, source: TextSource) -> Wait:
        yield from _silent(_comments(source, []))
        yield from source.expect("[")
        yield from source.take(SPACE)
        if (yield from source.accept("]")):
            return True
        return bool((yield from source.take(_NAME)).strip()) and (yield from source.accept("("))

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        thoughts: list[str] = []
        yield from _comments(source, thoughts)
        yield from source.expect("[")
        yield from source.take(SPACE)
        while not (yield from source.accept("]")):
            yield from source.attempt(self._item(source))
            yield from source.take(SPACE)
            if not source.strict and (yield from source.peek(1)) not in (",", "]"):
                # A call broken off in its midst: the next one comes behind its closing parenthesis.
                yield from source.take(_UP_TO_END)
                yield from source.accept(")")
                if (yield from source.peek(1)):
                    continue
            if (yield from source.accept(",")):
                yield from source.take(SPACE)
            elif (yield from source.peek(1)) != "]":
                source.fail("a comma or ] is missing after a call")
        return "\n".join(thoughts)

    def _item(self, source: TextSource) -> Wait:
        name = (yield from source.take(_NAME)).strip()
        return (yield from _read_call(source, name))

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        body = answer_rule(tools, min_calls, max_calls, '", "', '"[]" | REPLY', ('"["', '"]"'))
        words = rf"/[^\[#`\\\s](?s:.*)/ & ~/<think>(?s:.*)/ & ~/(?s:.*{_LISTED}.*)/"
        reply = "" if min_calls else f"REPLY: {words}\n"
        thought = ("thought", _THOUGHT) if with_thought else ("", "")
        return f"answer: {thought[0]} ({body})\n{thought[1]}{reply}{_call_rules(tools)}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "# why\n" if with_thought else ""
        comment = " Put a comment line that says why before the list." if with_thought else ""
        return (
            f'Reply with a list of calls, or with text if no tool fits:\n{why}[tool(key="text"), other(n=1)]',
            f"If tools fit, answer only with a list of function calls in the form "
            f"[name1(param1=value1, param2=value2), name2(param=value)].{comment} Otherwise answer in words."
            + (f"\n{why}[name(param=value)]" if with_thought else ""),
            f"Return the calls as one Python list, every argument by keyword, literals as values; no other "
            f'text beside it.{comment}\nExample:\n{why}[tool_name(argument="value", flag=True)]',
        )

    def jinja(self) -> str:
        return jinja_source("python-values") + jinja_source(self.name)
