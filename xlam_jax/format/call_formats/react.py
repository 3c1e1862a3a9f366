"""ReAct: `Thought: ...`, `Action: name`, `Action Input: {json}`; the pair repeats for several calls.

Without calls the reply is `Final Answer: text`. A thought's line that begins with a mark or a backslash gets
a backslash before it. A name that is no single trimmed line is a JSON string. Read leniently: text without
any mark is a reply, a missing `Thought:` is supplied, a marked thought before a final answer is dropped for
the answer, and what follows `Observation:` is the model talking to itself and is ignored. The grammar does not
look into thoughts: one that holds a line `Final Answer:` passes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from xlam_jax.format.call_formats.answer_stream import Streamed
from xlam_jax.format.call_formats.base import LEADS, Piece, Writer, dumps
from xlam_jax.format.call_formats.lark import answer_rule
from xlam_jax.format.call_formats.reading import ALL, SPACE, Reading, TextSource, Wait
from xlam_jax.format.call_formats.under_way import JsonCall
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import thinking
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

_UP_TO_LEAD = re.compile(r"[^\n<\[]*")
_ACTION, _FINAL, _OBSERVATION = "Action:", "Final Answer:", "Observation:"


def _escape(thought: str) -> str:
    for mark in ("\\", _ACTION, _FINAL):
        thought = thought.replace(f"\n{mark}", f"\n\\{mark}")
    return thought


def _name(name: str) -> str:
    return dumps(name, "name") if name != name.strip() or "\n" in name or name.startswith('"') else name


class React(Streamed):
    """`Thought`, `Action`, `Action Input`, `Final Answer`."""

    name = "react"
    words = None

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        dumps([thought, [call.name for call in calls]], "text")
        if not calls:
            out.add(_FINAL + (" " if thought else ""))
            out.add(thought or "", "thought" if thought else "")
            return out.piece()
        if thought:
            out.add("Thought: ")
            out.add(_escape(thought), "thought")
            out.add("\n")
        for i, call in enumerate(calls):
            out.add("\nAction: " if i else "Action: ")
            out.add(_name(call.name), "name")
            out.add("\nAction Input: ")
            out.add(dumps(call.arguments, f"arguments of {call.name}"), "arguments")
        return out.piece()

    def _read(self, source: TextSource) -> Reading:
        yield from source.take(SPACE)
        block = yield from thinking(source)
        # A marked thought is shown once a call follows: a final answer takes its place.
        said = [block] if block else []
        shown = len(said)
        fenced = yield from source.open_fence()
        count = 0
        while True:
            yield from source.take(SPACE)
            if (yield from _acts(source)):
                yield from source.accept(_ACTION)
                yield _more(said, shown)
                shown = len(said)
                yield from source.attempt(_read_call(source), (_ACTION,), ActionInput)
                count += 1
            elif (yield from source.accept("Thought:")):
                yield from source.accept(" ")
                said.append((yield from _prose(source)))
            elif not count and (yield from source.accept(_FINAL)):
                yield from source.accept(" ")
                said[shown:] = [""]
                yield _more(said, shown)
                return "\n".join(said) + (yield from source.rest())
            elif count and (
                (yield from source.peek(1)) in ("", "`")
                or (yield from source.follows((_OBSERVATION, _FINAL)))
            ):
                break
            elif count or (len(said) == bool(block) and not fenced and (yield from source.peek(1))):
                said.append("")
                yield _more(said, shown)
                said[-1] = yield from _unmarked(source)
                shown = len(said)
                if not count and source.final and not (yield from source.peek(1)):
                    return "\n".join(said)
            else:
                source.fail("neither an action nor a final answer")
        if (yield from source.accept(_OBSERVATION)):
            yield from source.take(ALL)
        yield from source.take(SPACE)
        if fenced and (yield from source.accept("```")):
            yield from source.take(SPACE)
        if (yield from source.peek(1)):
            said.append("")
        yield _more(said, shown)
        return "\n".join(said) + (yield from source.rest())

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = Values(None)
        bodies = []
        for tool in tools:
            bodies.append((f"{_name(tool.name)}\nAction Input: ", values.arguments(tool)))
        if bodies:
            values.choice("body", bodies)
            values.add("call", '"Action: " body')
        first = ""
        if with_thought and bodies:
            # A thought ends with the mark of the first action, so that mark belongs to its lexeme.
            values.add('thought[suffix="\\nAction: "]', "/(?s:.*)/")
            first = '("Thought: " thought body | call)'
        final = f'"{_FINAL}" | "{_FINAL} " /(?s:.+)/'
        body = answer_rule(tools, min_calls, max_calls, '"\\n"', final, first=first)
        return f"answer: {body}\n{values.text}"

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "Thought: why\n" if with_thought else ""
        first = " Think first, in a line 'Thought: ...'." if with_thought else ""
        return (
            f'Reply in this form:\n{why}Action: tool\nAction Input: {{"key": value}}\n'
            "Repeat Action and Action Input for more calls. If no tool fits: Final Answer: text",
            f"Use the ReAct format.{first} For every call write 'Action:' with the tool's name and on the "
            f"next line 'Action Input:' with its arguments as a JSON object; else 'Final Answer: text'.",
            f"Call tools like this:\n{why}Action: tool_name\nAction Input: "
            f'{{"argument": "value"}}\nAnswer without a tool like this:\nFinal Answer: your words',
        )

    def jinja(self) -> str:
        return jinja_source(self.name)


class ActionInput(JsonCall):
    """A name on a line of its own, and the object behind `Action Input:`."""

    def _read(self, source: TextSource) -> Wait:
        name = (yield from source.line()).strip()
        yield from source.take(SPACE)
        yield from source.expect("Action Input:")
        self.name = str(source.json(name)) if name.startswith('"') else name
        yield from source.take(SPACE)
        yield from self._arguments(source)


def _acts(source: TextSource) -> Wait:
    """Whether an action comes next, and no line of prose that begins like one."""
    return (yield from source.follows((_ACTION,))) and (yield from source.shaped(_action_shape))


def _action_shape(source: TextSource) -> Wait:
    name = (yield from source.line()).removeprefix(_ACTION).strip()
    yield from source.take(SPACE)
    follows = yield from source.follows(("Action Input:", _ACTION, _OBSERVATION))
    alone = source.stopped and len(name.split()) == 1 and not (yield from source.peek(1))
    return bool(name) and (follows or alone)


def _read_call(source: TextSource) -> Wait:
    name = (yield from source.line()).strip()
    if name.startswith('"'):
        name = source.json(name)
    yield from source.take(SPACE)
    if (yield from source.accept("Action Input:")):
        yield from source.take(SPACE)
        start = yield from source.peek(1)
        if start == '"' and (yield from source.peek(2)) != '""':
            source.skip(1)
            text = source.json(start + (yield from source.quoted(start)))
            return ToolCall(name, source.json(text) if text.strip() else {})
        if start == "{":
            return ToolCall(name, source.json((yield from source.balanced((_ACTION, _OBSERVATION)))))
        for nothing in ("null", "None", '""'):
            if (yield from source.accept(nothing)):
                return ToolCall(name, {})
    # Without an input the call is whole where something comes after it; at the end of a text it may be cut off.
    mark = yield from source.peek(len(_OBSERVATION))
    if mark.startswith(_ACTION) or mark == _OBSERVATION or (not mark and source.stopped):
        return ToolCall(name, {})
    source.fail("the action input is no JSON object")


def _more(said: list[str], shown: int) -> str:
    """The words of which `shown` have been shown, from there on."""
    return "\n".join(["", *said[shown:]][not shown :]) if said[shown:] else ""


def _unmarked(source: TextSource) -> Reading:
    """Words without a mark before them, up to a mark: of another format's, too, on their own line.

    They are yielded as they come, and returned, without the whitespace around them.
    """
    shown: list[str] = []
    held, ended = "", False
    while True:
        held += "" if ended else source.some(_UP_TO_LEAD)
        held = held if shown else held.lstrip()
        if body := held.rstrip():
            shown.append(body)
            held = held[len(body) :]
            yield body
        sign = yield from source.peek(1)
        if ended or not sign:
            return "".join(shown)
        if sign not in "\n<[":
            continue
        for lead in LEADS:
            if not ended and (yield from source.accept(lead)):
                yield from source.take(SPACE)
                held, ended = held + lead, True
        if not ended:
            source.skip(1)
            held += sign
            ended = sign == "\n" and ((yield from source.follows((_FINAL,))) or (yield from _acts(source)))


def _prose(source: TextSource) -> Wait:
    """Lines up to one that begins with a mark, without the line feed before it."""
    lines = [(yield from source.line())]
    while True:
        if (
            (yield from source.follows((_FINAL,)))
            or (yield from _acts(source))
            or not (yield from source.peek(1))
        ):
            return "\n".join([lines[0], *(line.removeprefix("\\") for line in lines[1:])])
        lines.append((yield from source.line()))
