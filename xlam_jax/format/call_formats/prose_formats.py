"""Formats whose answers are words around JSON calls: Hermes, Mistral, Markdown; a bare list in `json_array.py`.

Words come first and are written as they are, but that a mark which would begin the calls gets a backslash
inside it, and a backslash that stands there already is doubled. An answer without calls is words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from xlam_jax.format.call_formats.answer_stream import Streamed
from xlam_jax.format.call_formats.base import Piece, Writer, dumps
from xlam_jax.format.call_formats.json_reading import (
    call_rules,
    looks_like_calls,
    read_call,
    read_calls,
    write_call,
)
from xlam_jax.format.call_formats.lark import answer_rule, literal
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait, overlap
from xlam_jax.format.call_formats.under_way import JsonCall
from xlam_jax.format.call_formats.value_rules import Values
from xlam_jax.format.call_formats.worded import THINK, thinking
from xlam_jax.format.templates import jinja_source
from xlam_jax.format.values import Tool, ToolCall

BLANKS = " \t\r\n"
_OPEN_THINK = THINK[0].replace("<", "<\\")
_UP_TO_ARGUMENTS = re.compile(r"[^\[{\n]*")
_FENCE_LANGUAGE = re.compile(r"[A-Za-z_]*")


class Prose(Streamed):
    """Words, then calls.

    Attributes:
      mark: what begins the calls after words; there a backslash goes in after `split` characters.
      joint: text between words and calls, which may be the beginning of the mark.
      opening, between, closing: texts around and between the calls. The opening has the mark in it.
      none: an answer with neither words nor calls.
      signs: what calls that are written otherwise may begin with, but for the first of the mark.
    """

    name: str
    words = None
    mark: str
    split: int
    joint: str
    opening: str
    between = ", "
    closing: str
    none: str
    signs = ""

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        out = Writer()
        if thought:
            dumps(thought, "thought")
            out.add(self._escape(thought), "thought")
        elif not calls:
            out.add(self.none)
        if calls:
            out.add((self.joint if thought else "") + self.opening)
            for i, call in enumerate(calls):
                out.add(self.between if i else "")
                write_call(out, call)
            out.add(self.closing)
        return out.piece()

    def _escape(self, words: str) -> str:
        if words.lstrip(BLANKS).startswith(THINK[0]) and THINK[1] not in words:
            words = words.replace(THINK[0], _OPEN_THINK, 1)  # or the calls would be part of it
        first, rest = self.mark[: self.split], self.mark[self.split :]
        return words.replace("\\" + rest, "\\\\" + rest).replace(self.mark, first + "\\" + rest)

    def _marked(self, source: TextSource) -> Wait:
        """Whether the mark comes next, and calls behind it."""
        return (yield from source.follows((self.mark,))) and (yield from source.shaped(self._shape))

    def _shape(self, source: TextSource) -> Wait:
        """Whether calls come behind the mark that comes next; for `TextSource.shaped`."""
        yield from source.expect(self.mark)
        yield from source.take(SPACE)
        return (yield from looks_like_calls(source))

    def _calls_otherwise(self, source: TextSource) -> Wait:
        """Whether calls come next that are written otherwise than `render` writes them."""
        return False
        yield

    def _words(self, source: TextSource, before: str = "", show: bool = True, others: bool = True) -> Reading:
        """The words up to the mark or the end, without the joint before the mark.

        Args:
          before: words that have been taken already, which hold no escapes.
          show: the words are yielded as they become certain.
          others: calls that are written otherwise end the words, too.
        """
        first, rest = self.mark[: self.split], self.mark[self.split :]
        gap = "" if self.mark.startswith(self.joint) else self.joint
        signs = self.mark[0] + self.signs + "\\"
        run = re.compile(f"[^{re.escape(signs)}]*")
        words: list[str] = []
        held, last = before, before[-2:]
        while True:
            text = source.some(run)
            held, last = held + text, (last + text)[-2:]
            if certain := held[: len(held) - overlap(held, gap + self.mark[0])]:
                words.append(certain)
                held = held[len(certain) :]
                if show:
                    yield certain
            sign = yield from source.peek(1)
            if sign and sign not in signs:
                continue
            calls_begin = sign == self.mark[0] and (yield from self._marked(source))
            calls_begin = calls_begin or (
                bool(sign) and others and (yield from self._calls_otherwise(source))
            )
            if calls_begin or not sign:
                break
            source.skip(1)
            if sign == "\\" and last.endswith((sign, first)) and (yield from source.follows((rest,))):
                last = sign
            else:
                held, last = held + sign, (last + sign)[-2:]
        words.append(held.removesuffix(gap) if calls_begin else held)
        if show and words[-1]:
            yield words[-1]
        return "".join(words)

    def _head(self, source: TextSource) -> Reading:
        """Thinking at the head of the answer, and whitespace after it: `(thinking, whitespace)`."""
        blank = yield from source.take(SPACE)
        if (yield from source.accept(_OPEN_THINK)):
            return "", blank + THINK[0]
        thought = yield from self._unescaped(thinking(source, blank))
        return (thought, (yield from source.take(SPACE))) if thought else ("", blank)

    def _unescaped(self, reading: Reading) -> Reading:
        """The words that a reader yields, without the backslashes that `_escape` put into marks."""
        first, rest = self.mark[: self.split], self.mark[self.split :]
        escape = re.compile(rf"(?:(?<={re.escape(first)})|(?<=\\))\\(?={re.escape(rest)})")
        words: list[str] = []
        before = held = ""
        for piece in reading:
            if not isinstance(piece, str):
                yield piece
                continue
            held += piece
            ready = held[: len(held) - overlap(held, "\\" + rest)]
            held = held[len(ready) :]
            words.append(escape.sub("", before + ready)[len(before) :])
            before = (before + ready)[-2:]
            yield words[-1]
        yield held
        return "".join([*words, held])

    def _read(self, source: TextSource) -> Reading:
        # A fence right before the calls is no words if another one comes after them.
        thought, before = yield from self._head(source)
        if (yield from source.accept("```")):
            before += "```" + (yield from source.take(_FENCE_LANGUAGE)) + (yield from source.take(SPACE))
        shown = not (yield from self._marked(source))
        words = (yield from self._words(source, before)) if shown else before.removesuffix(self.joint)
        if (yield from source.peek(1)):
            yield from self._read_marked(source)
            yield from source.take(SPACE)
            if not shown and words.strip() and (yield from source.accept("```")):
                words = ""
        yield "" if shown else words
        return (yield from self._after(source, thought + words))

    def _after(self, source: TextSource, words: str) -> Reading:
        """What comes after calls: more words, more calls; returns all words, those before the calls too."""
        while True:
            yield from source.take(SPACE)
            if not (yield from source.peek(1)):
                return words
            marked = yield from self._marked(source)
            if not marked and not (yield from self._calls_otherwise(source)):
                gap = "\n" if words else ""
                yield gap
                words += gap + (yield from self._words(source))
            if (yield from source.peek(1)):
                yield from self._read_marked(source)

    def _read_marked(self, source: TextSource) -> Reading:
        """The calls with their marks."""
        raise NotImplementedError

    def _read_tags(self, source: TextSource) -> Reading:
        """Calls in `<tool_call>` tags: one in each, several one after the other, or a list of them."""
        while (yield from source.accept("<tool_call>")):
            yield from source.take(SPACE)
            if (yield from source.peek(1)) == "[":
                yield from read_calls(source)
            else:
                yield from source.attempt(read_call(source), ("<tool_call>",), JsonCall)
            yield from source.take(SPACE)
            while (yield from source.peek(1)) == "{":
                yield from source.attempt(read_call(source), ("<tool_call>",), JsonCall)
                yield from source.take(SPACE)
            yield from source.accept("</tool_call>")
            yield from source.take(SPACE)

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        values = Values(None)
        call_rules(values, tools)
        mark = "|".join(filter(None, (re.escape(self.mark).replace("\\\n", "\\n"), self._no_words)))
        values.add("WORDS", f"/{self._first_letter}(?s:.*)/ & ~/(?s:.*({mark}).*)/")
        opening = literal(self.opening)
        first = f"{opening} call"
        if with_thought and tools:
            # The end of the words and the brace of the first call are one lexeme: no lexer looks back.
            values.add("THOUGHT", f"WORDS {literal(self.joint + self.opening + '{')}")
            first = f"({first} | THOUGHT body)"
        none = f"{literal(self.none)} | WORDS"
        wrap = ("", literal(self.closing))
        body = answer_rule(tools, min_calls, max_calls, literal(self.between), none, wrap, first)
        return f"answer: {body}\n{values.text}"

    _first_letter = "(?s:.)"
    _no_words = ""

    def jinja(self) -> str:
        return jinja_source("json-calls") + jinja_source(self.name)


class Hermes(Prose):
    """`<tool_call>` tags around call objects, as Hermes and Qwen write them.

    A call whose closing tag is missing is read where nothing but another call follows.
    """

    name = "hermes"
    mark, split, joint = "<tool_call>", 1, "\n"
    opening, between, closing = "<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"
    none = ""

    def _read_marked(self, source: TextSource) -> Reading:
        yield from self._read_tags(source)

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "why\n" if with_thought else ""
        first = " Before the first one say why." if with_thought else ""
        form = f'{why}<tool_call>\n{{"name": "tool", "arguments": {{"key": value}}}}\n</tool_call>'
        return (
            f"Reply with calls in tags, or with words if no tool fits:\n{form}",
            f"For each function call return a JSON object with function name and arguments within "
            f"<tool_call></tool_call> XML tags.{first}\n{form}",
            f"Put every call into its own pair of tags:\n{form}\nWithout a call, answer in plain text.",
        )


class Mistral(Prose):
    """Mistral's `[TOOL_CALLS]` and a list of calls; the mark is one special token of its tokenizers."""

    name = "mistral"
    mark, split, joint = "[TOOL_CALLS]", 1, ""
    opening, closing = "[TOOL_CALLS][", "]"
    none = "[TOOL_CALLS][]"

    def _shape(self, source: TextSource) -> Wait:
        yield from source.expect(self.mark)
        yield from source.take(SPACE)
        if (yield from source.peek(1)) in ("[", "{"):
            return (yield from looks_like_calls(source))
        yield from source.take(_UP_TO_ARGUMENTS)
        return (yield from source.follows(("{", "[ARGS]")))

    def _read_marked(self, source: TextSource) -> Reading:
        yield from source.expect(self.mark)
        yield from source.take(SPACE)
        start = yield from source.peek(1)
        if start == "[":
            yield from read_calls(source)
        elif start == "{":
            yield from source.attempt(read_call(source), (self.mark,), JsonCall)
        else:
            yield from source.attempt(_named_call(source), (self.mark,))

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "why" if with_thought else ""
        first = " Say why before it." if with_thought else ""
        form = f'{why}[TOOL_CALLS][{{"name": "tool", "arguments": {{"key": value}}}}]'
        return (
            f"Reply with calls after the mark, or with words if no tool fits:\n{form}",
            f"To call tools write [TOOL_CALLS] and after it a JSON list of the calls.{first} Otherwise "
            f"answer in plain text.\n{form}",
            f"Write all calls as one JSON list that follows [TOOL_CALLS]:\n{form}\nIf no call is needed, "
            f"write an ordinary answer.",
        )


def _named_call(source: TextSource) -> Wait:
    """`name{...}` and `name[ARGS]{...}`, as Mistral's later tokenizers have it."""
    name = (yield from source.take(_UP_TO_ARGUMENTS)).strip()
    yield from source.accept("[ARGS]")
    yield from source.take(SPACE)
    if not name or (yield from source.peek(1)) != "{":
        source.fail("not JSON: neither a list of calls nor a call")
    return ToolCall(name, source.json((yield from source.balanced())))


class Markdown(Prose):
    """A block ```` ```json ```` with the list of calls; words before it, and read leniently after it too.

    Several blocks, and blocks that hold one call object, are read as well.
    """

    name = "markdown"
    mark, split, joint = "```json", 2, "\n\n"
    opening, closing = "```json\n[", "]\n```"
    none = "```json\n[]\n```"

    def _escape(self, words: str) -> str:
        words = super()._escape(words)
        start = words.lstrip(BLANKS)
        bare = start[:3] == "```" and start[3:].lstrip(BLANKS)[:1] in ("", "[", "{")
        return "\\" + words if bare or words[0] == "\\" else words

    def _read(self, source: TextSource) -> Reading:
        thought, before = yield from self._head(source)
        plain = not before and not thought and (yield from source.accept("\\"))
        words = before
        fenced = not plain and not (yield from source.follows((self.mark,)))
        if fenced and (yield from source.accept("```")):
            blank = yield from source.take(SPACE)
            if (yield from source.peek(1)) in ("[", "{") and (yield from source.shaped(looks_like_calls)):
                yield from self._block(source)
                return (yield from self._after(source, thought))
            words += "```" + blank
        words = thought + (yield from self._words(source, words))
        if (yield from source.peek(1)):
            yield from self._read_marked(source)
        return (yield from self._after(source, words))

    def _read_marked(self, source: TextSource) -> Reading:
        yield from source.expect(self.mark)
        yield from source.take(SPACE)
        yield from self._block(source)

    def _block(self, source: TextSource) -> Reading:
        if (yield from source.peek(1)) == "[":
            yield from read_calls(source)
        else:
            yield from source.attempt(read_call(source), sketch=JsonCall)
        yield from source.take(SPACE)
        if not (yield from source.accept("```")) and (yield from source.peek(1)):
            source.fail("text after the calls of a block")

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "why\n\n" if with_thought else ""
        first = " Say why before it." if with_thought else ""
        form = f'{why}```json\n[{{"name": "tool", "arguments": {{"key": value}}}}]\n```'
        return (
            f"Reply with calls in a block, or with words if no tool fits:\n{form}",
            f"Write the calls as a JSON list in a fenced json block.{first} If no tool fits, answer in words "
            f"and without such a block.\n{form}",
            f"Use Markdown: one json code block that lists all calls with name and arguments.{first}\n{form}",
        )
