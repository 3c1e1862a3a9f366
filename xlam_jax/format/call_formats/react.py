"""ReAct: `Thought: ...`, `Action: name`, `Action Input: {json}`; the pair repeats for several calls.

Without calls the reply is `Final Answer: text`. A thought's line that begins with a mark or a backslash gets
a backslash before it. A name that is no single trimmed line is a JSON string. Read leniently: text without
any mark is a reply, a missing `Thought:` is supplied, a thought before a final answer is dropped for the
answer, and what follows `Observation:` is the model talking to itself and is ignored. The grammar does not
look into thoughts: one that holds a line `Final Answer:` passes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from xlam_jax.format.call_formats.base import LEADS, Piece, Writer, dumps
from xlam_jax.format.call_formats.lark import answer_rule
from xlam_jax.format.call_formats.reading import ALL, SPACE, Reading, Source, Streamed, Wait
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

    def _read(self, source: Source) -> Reading:
        yield from source.take(SPACE)
        thoughts: list[str] = []
        if block := (yield from thinking(source)):
            yield block
            thoughts.append(block)
        fenced = yield from source.open_fence()
        count = 0
        while True:
            yield from source.take(SPACE)
            if (yield from source.accept(_ACTION)):
                yield from source.attempt(_read_call(source), (_ACTION,))
                count += 1
            elif (yield from source.accept("Thought:")):
                yield from source.accept(" ")
                thoughts.append((yield from _prose(source)))
            elif not count and (yield from source.accept(_FINAL)):
                yield from source.accept(" ")
                yield "\n" if block else ""
                return block + "\n" * bool(block) + (yield from source.rest())
            elif not count and len(thoughts) == bool(block) and not fenced and (yield from source.peek(1)):
                thoughts.append((yield from _unmarked(source)).strip())
                if source.final and not (yield from source.peek(1)):
                    return "\n".join(thoughts)
            elif (
                not count
                or (yield from source.peek(1)) in ("", "`")
                or (yield from source.follows((_OBSERVATION, _FINAL)))
            ):
                break
            else:
                thoughts.append((yield from _unmarked(source)).strip())
        if not count:
            source.fail("neither an action nor a final answer")
        if (yield from source.accept(_OBSERVATION)):
            yield from source.take(ALL)
        yield from source.take(SPACE)
        if fenced and (yield from source.accept("```")):
            yield from source.take(SPACE)
        if (yield from source.peek(1)):
            yield "\n".join([*thoughts, ""])[len(block) :]
            thoughts.append((yield from source.rest()))
        return "\n".join(thoughts)

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


def _read_call(source: Source) -> Wait:
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


def _unmarked(source: Source) -> Wait:
    """Words without a mark before them, up to a mark: of another format's, too, on their own line."""
    words = ""
    while True:
        words += yield from source.take(_UP_TO_LEAD)
        if not (yield from source.peek(1)):
            return words
        for lead in LEADS:
            if (yield from source.accept(lead)):
                yield from source.take(SPACE)
                return words + lead
        sign = yield from source.peek(1)
        source.skip(1)
        words += sign
        start = "" if sign != "\n" else (yield from source.peek(len(_FINAL)))
        if start.startswith(_ACTION) or start == _FINAL:
            return words


def _prose(source: Source) -> Wait:
    """Lines up to one that begins with a mark, without the line feed before it."""
    lines = [(yield from source.line())]
    while True:
        start = yield from source.peek(len(_FINAL))
        if not start or start.startswith(_ACTION) or start == _FINAL:
            return "\n".join([lines[0], *(line.removeprefix("\\") for line in lines[1:])])
        lines.append((yield from source.line()))
