"""Reading answers that arrive in chunks.

A format's reader is a generator over a `TextSource`: it takes characters as they come, yields each ToolCall the
moment its text is complete and None where it needs more input, and returns the thought. Pieces of the thought
that are certain may be yielded as text, for servers that show words as they come. Parsing a whole text is
feeding it in one chunk, so streaming and parsing cannot differ; every character is looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, NoReturn

from xlam_jax.format.call_formats.base import DECODER, ParseError
from xlam_jax.format.values import ToolCall, check_json

Reading = Generator["ToolCall | str | None", None, Any]
Wait = Generator[None, None, Any]

SPACE = re.compile(r"[ \t\r\n]*")
BLANK = re.compile(r"[ \t\r]*")
LINE = re.compile(r"[^\n]*")
ALL = re.compile(r"[\s\S]*")


class TextSource:
    """The text so far that no one has taken. Methods that return `Wait` are used with `yield from`.

    Args:
      stop: the stop token; text after it is another turn's and is ignored.
      cut: the first stop token ends the answer, wherever it stands; otherwise only one outside the calls
        does, so that JSON strings may hold its text.
      strict: a malformed call is an error; otherwise it is left out, and its neighbours stay.
      plain: words around an answer, or in its place, are read in the formats that have no place for them.

    Attributes:
      head: the first characters of the text, for messages.
      final: no more text will come.
      begun: how many calls have begun.
      ahead: text of the call under way since it was last looked at, and what came after it; None between calls.
      sketch: tells name and arguments from that text, see `under_way.py`; None where the reader notes them.
      noted: its name, and the arguments that are complete.
      stopped: the stop token was found, so the answer ends where its writer wanted it to.
    """

    def __init__(self, stop: str, cut: bool = True, strict: bool = True, plain: bool = True) -> None:
        self.head = ""
        self.strict = strict
        self.plain = plain
        # Words may run up to a sign that could begin a mark of any format, or the stop token.
        self.words = re.compile(rf"[^\s`{{\[<{re.escape(stop[:1])}]*")
        self.begun = 0
        self.ahead: list[str] | None = None
        self.sketch: Any = None
        self.noted: tuple[str, dict[str, Any]] | None = None
        self.final = False
        self.stopped = False
        self._stop = stop if cut else ""
        self._end = "" if cut else stop
        self._held = ""
        self._text = ""
        self._at = 0

    def push(self, chunk: str) -> None:
        """Adds text, up to the stop token."""
        if self.final:
            return
        if self._stop:
            chunk = self._held + chunk
            stop_at = chunk.find(self._stop)
            if stop_at >= 0:
                chunk, self._held = chunk[:stop_at], ""
                self.final = self.stopped = True
            else:
                keep = overlap(chunk, self._stop)
                self._held = chunk[len(chunk) - keep :]
                chunk = chunk[: len(chunk) - keep]
        self._add(chunk)

    def end(self) -> None:
        self._add(self._held)
        self._held = ""
        self.final = True

    def _add(self, chunk: str) -> None:
        if len(self.head) < 120:
            self.head += chunk[: 120 - len(self.head)]
        self._text = self._text[self._at :] + chunk
        self._at = 0
        if self.ahead is not None:
            self.ahead.append(chunk)

    def begin(self, sketch: Callable[[], Any] | None = None) -> None:
        """A call begins here; for readers that look at its text before they `attempt` it."""
        self.begun += 1
        self.ahead, self.sketch, self.noted = [self._text[self._at :]], sketch and sketch(), None

    def forget(self) -> None:
        """What began here is no call."""
        self.begun, self.ahead = self.begun - 1, None

    def note(self, name: Any, arguments: dict[str, Any]) -> None:
        """What is complete of the call under way; arguments may be added later, at the end."""
        if isinstance(name, str) and name:
            self.noted = name, arguments

    def peek(self, count: int) -> Wait:
        """The next `count` characters, fewer only at the end of the text."""
        while len(self._text) - self._at < count and not self.final:
            yield
        return self._text[self._at : self._at + count]

    def glimpse(self, run: re.Pattern[str], limit: int) -> Wait:
        """The characters that come next of the class `run`, at most `limit`, and the one after them."""
        count = 1
        while True:
            text = yield from self.peek(count)
            if len(text) < count or count > limit or not run.fullmatch(text[-1]):
                return text
            count += 1

    def skip(self, count: int) -> None:
        """Drops characters that were peeked at."""
        self._at += count

    def take(self, run: re.Pattern[str]) -> Wait:
        """The longest run of a pattern of the form `[...]*`."""
        taken = []
        while True:
            match = run.match(self._text, self._at)
            assert match is not None
            taken.append(match.group())
            self._at = match.end()
            if self._at < len(self._text) or self.final:
                return "".join(taken)
            yield

    def follows(self, marks: tuple[str, ...]) -> Wait:
        """Whether one of `marks` comes next."""
        for mark in marks:
            if (yield from self._comes(mark)):
                return True
        return False

    def _comes(self, literal: str) -> Wait:
        """Whether `literal` comes next; as soon as one character tells that it does not."""
        while True:
            text = self._text[self._at : self._at + len(literal)]
            if len(text) == len(literal) or self.final or not literal.startswith(text):
                return text == literal
            yield

    def shaped(self, shape: Callable[[TextSource], Wait]) -> Wait:
        """Whether what comes next has a shape; nothing is taken. What has not stays words.

        Strictly read it is not asked: what begins like a call must be one.

        Args:
          shape: reads a copy of the text, and tells; what it cannot read has another shape.
        """
        if self.strict:
            return True
        copy = TextSource("", cut=False)
        reading, seen = shape(copy), 0
        while True:
            copy.push(self._text[self._at + seen :])
            seen = len(self._text) - self._at
            if self.final:
                copy.end()
                copy.stopped = self.stopped
            try:
                next(reading)
            except StopIteration as end:
                return end.value
            except ParseError:
                return False
            yield

    def some(self, run: re.Pattern[str]) -> str:
        """What is there of the run that comes next, without waiting for its end."""
        match = run.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return match.group()

    def accept(self, literal: str) -> Wait:
        """Takes `literal` if it comes next and tells whether it did."""
        if not (yield from self._comes(literal)):
            return False
        self._at += len(literal)
        return True

    def expect(self, literal: str) -> Wait:
        if not (yield from self.accept(literal)):
            self.fail(f"{literal.strip()!r} is missing")

    def line(self) -> Wait:
        """The rest of the line without its line feed."""
        text = yield from self.take(LINE)
        yield from self.accept("\n")
        return text

    def open_fence(self) -> Wait:
        """Skips whitespace and an opening fence of backticks; tells whether there was one."""
        yield from self.take(SPACE)
        if not (yield from self.accept("```")):
            return False
        yield from self.take(_LANGUAGE)
        yield from self.take(SPACE)
        return True

    def ended(self) -> Wait:
        """Whether nothing is left but another turn, which goes."""
        if self._end and (yield from self.accept(self._end)):
            yield from self.take(ALL)
        return not (yield from self.peek(1))

    def finish(self, fenced: bool) -> Wait:
        """Only whitespace, the closing fence and another turn may be left."""
        yield from self.take(SPACE)
        if fenced and (yield from self.accept("```")):
            yield from self.take(SPACE)
        if not (yield from self.ended()):
            self.fail("text after the calls")

    def attempt(
        self, reading: Wait, resume: tuple[str, ...] = (), sketch: Callable[[], Any] | None = None
    ) -> Reading:
        """Yields the call that `reading` returns.

        Args:
          resume: where the next call may begin, when this one is malformed and breaks off in its midst.

        Raises:
          ParseError: a malformed call, with its number; where calls are read strictly, or the text ends in it.
        """
        if self.ahead is None:
            self.begin(sketch)
        try:
            call = yield from reading
            check_call(self, call)
        except ParseError as e:
            ends = self.final and self._at >= len(self._text)
            if self.strict or (ends and "ends inside" in e.what):
                raise ParseError(e.what, where=f"call {self.begun} of {e.where}") from None
            self.ahead = None
            while resume and (yield from self.peek(1)):
                if (yield from self.follows(resume)):
                    break
                self.skip(1)
            return
        yield call
        self.ahead = None

    def rest(self) -> Reading:
        """All the text that is left, also yielded as it comes."""
        taken = []
        while not self.final or self._at < len(self._text):
            taken.append(self._text[self._at :])
            self._at = len(self._text)
            yield taken[-1] or None
        return "".join(taken)

    def balanced(self, ends: tuple[str, ...] = ()) -> Wait:
        """The text of a JSON object or list, from its bracket to the matching one.

        What no JSON can go on with breaks it off, so that a bracket or quote too few does not take the next
        calls with it.

        Args:
          ends: what begins the next call, at the start of a line.
        """
        taken: list[str] = []
        closing: list[str] = []
        last = ""
        while True:
            taken.append((yield from self.take(_PLAIN)))
            last = taken[-1].rstrip()[-1:] or last
            mark = yield from self.peek(1)
            if mark == "<" or (mark == "{" and closing[-1:] == ["}"] and last != ":"):
                self.fail("a bracket is not closed")
            self.skip(1)
            taken.append(mark)
            if mark == "\n":
                if ends and (yield from self.follows(ends)):
                    self.fail("a bracket is not closed")
                continue
            last = mark
            if mark == '"':
                taken.append((yield from self.quoted(mark)))
            elif mark in _MATES:
                closing.append(_MATES[mark])
            elif not mark:
                self.fail("the text ends inside brackets")
            elif closing.pop() != mark:
                self.fail("brackets do not match")
            elif not closing:
                return "".join(taken)

    def quoted(self, quote: str, lines: bool = False) -> Wait:
        """The rest of a string with backslash escapes, its closing quote included.

        Args:
          lines: the string may go on over lines, which neither JSON nor a Python string in single marks may.
        """
        taken = []
        run = (_IN_QUOTES if lines else _IN_LINE)[quote]
        while True:
            taken.append((yield from self.take(run)))
            mark = yield from self.peek(1)
            if mark == "\\":
                mark = yield from self.peek(2)
            if mark == "\n":
                self.fail("a line ends inside a string")
            if not mark:
                self.fail("the text ends inside a string")
            self.skip(len(mark))
            taken.append(mark)
            if mark == quote:
                return "".join(taken)

    def json(self, text: str) -> Any:
        """The one JSON value that is `text`; ParseError otherwise."""
        try:
            value, end = DECODER.raw_decode(text := text.strip())
        except (ValueError, RecursionError) as e:
            self.fail(f"not JSON: {e}")
        if end != len(text):
            self.fail("text after a JSON value")
        return value

    def fail(self, what: str) -> NoReturn:
        raise ParseError(what, where=f"answer {self.head!r}") from None


_LANGUAGE = re.compile(r"[A-Za-z_]*")
_PLAIN = re.compile(r'[^"{}\[\]<\n]*')
_MATES = {"{": "}", "[": "]"}
_IN_QUOTES = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_IN_LINE = {'"': re.compile(r'[^"\\\n]*'), "'": re.compile(r"[^'\\\n]*")}


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that may be the beginning of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def check_call(source: TextSource, call: ToolCall) -> None:
    """ParseError for a call without a name, or with values that no JSON text holds."""
    try:
        check_json(call.name)
        check_json(call.arguments)
    except ValueError as e:
        source.fail(str(e))
    if not call.name:
        source.fail("a call has no name")
