"""Calls that are not complete yet: what is certain of their names and arguments, for servers that stream.

A call that is a JSON object is looked at by a second reader of its text, character by character: `JsonCall`. The
readers of other formats note each argument as it is complete. Either way the arguments are the beginning of the text
that `json.dumps` gives for the whole call.
"""

from __future__ import annotations

import re

from xlam_jax.errors import XlamError
from xlam_jax.format.call_formats.base import Growing, dumps
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait
from xlam_jax.format.values import MAX_DEPTH, ToolCall

BARE = re.compile(r"[A-Za-z0-9+.\-]*")
_HIGH = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_LOW = re.compile(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_RUN = re.compile(r'[^"\\\n]*')


def under_way(source: TextSource) -> Growing | None:
    """The call under way in a source, once it has a name."""
    name, text = "", ""
    if source.noted:
        name, arguments = source.noted
        try:
            text = dumps(arguments, name)[:-1]
        except XlamError:
            return None  # no JSON: the call will be refused
    elif source.sketch and source.ahead:
        source.sketch.feed("".join(source.ahead))
        source.ahead.clear()
    if source.sketch:
        name, text = source.sketch.name, source.sketch.arguments
    return Growing(source.begun, name, text, False) if name else None


def completed(source: TextSource, call: ToolCall) -> Growing:
    """A call that has just been read."""
    text = dumps(call.arguments, call.name)
    if source.sketch and not text.startswith(source.sketch.arguments):
        # A key came twice: what has been said of it stays said, and readers of JSON take the last one, too.
        source.sketch.feed("".join(source.ahead or ()))
        text = source.sketch.arguments
    return Growing(source.begun, call.name, text, True)


def read_text(source: TextSource) -> Reading:
    """A JSON string whose opening quote has been taken: yields its text as it comes, and returns it."""
    taken: list[str] = []
    while True:
        piece = source.json(f'"{source.some(_RUN)}"')
        if not piece:
            mark = yield from source.peek(1)
            if mark == '"':
                source.skip(1)
                return "".join(taken)
            if mark in ("", "\n"):
                source.fail("a line ends inside a string" if mark else "the text ends inside a string")
            if mark == "\\":
                piece = yield from _escaped(source)
        if piece:
            taken.append(piece)
            yield piece


def _escaped(source: TextSource) -> Wait:
    """The character that the escape which comes next stands for; two escapes may be the halves of one."""
    size = 6 if (yield from source.peek(2)) == "\\u" else 2
    escape = yield from source.peek(size)
    if _HIGH.match(escape) and _LOW.match((yield from source.peek(12)), 6):
        size, escape = 12, (yield from source.peek(12))
    if len(escape) < size:
        source.fail("the text ends inside a string")
    source.skip(size)
    return source.json(f'"{escape}"')


class JsonCall:
    """Reads the object of a call as it comes: `{"name": ..., "arguments": {...}}`, alone or as a `function`.

    Attributes:
      name: empty until it is known, and known to be a call's: arguments follow.
    """

    def __init__(self) -> None:
        self.name = self._named = ""
        self._said: list[str] = []
        self._source = TextSource("", cut=False)
        self._reading: Wait | None = self._read(self._source)

    @property
    def arguments(self) -> str:
        """What is certain of them, as `json.dumps` writes them."""
        self._said[:] = ["".join(self._said)]
        return self._said[0]

    def feed(self, text: str) -> None:
        """Takes more of the call's text, and may be given what comes after it."""
        self._source.push(text)
        try:
            if self._reading:
                next(self._reading)
        except (StopIteration, XlamError):
            self._reading = None

    def _read(self, source: TextSource) -> Wait:
        yield from source.take(SPACE)
        yield from source.expect("{")
        while True:
            key = yield from self._text(source)
            yield from source.take(SPACE)
            yield from source.expect(":")
            yield from source.take(SPACE)
            if key == "arguments":
                self.name = self._named
                if self.name:
                    yield from self._arguments(source)
                return
            if key == "function" and not self._named:
                yield from self._read(source)
                return
            text = yield from self._text(source)
            if key == "name":
                self._named = text
            yield from source.take(SPACE)
            yield from source.expect(",")

    def _text(self, source: TextSource) -> Wait:
        yield from source.take(SPACE)
        yield from source.expect('"')
        return source.json('"' + (yield from source.quoted('"')))

    def _arguments(self, source: TextSource) -> Wait:
        """An object, or the JSON text of one."""
        if (yield from source.peek(1)) == "{":
            yield from self._value(source, 1)
        elif (yield from source.accept('"')):
            inner = TextSource("", cut=False)
            reading = self._object(inner, 1)
            for piece in read_text(source):
                if isinstance(piece, str):
                    inner.push(piece)
                    next(reading, None)
                else:
                    yield

    def _object(self, source: TextSource, depth: int) -> Wait:
        yield from source.take(SPACE)
        if (yield from source.peek(1)) == "{":
            yield from self._value(source, depth)

    def _value(self, source: TextSource, depth: int) -> Wait:
        mark = yield from source.peek(1)
        if depth > MAX_DEPTH:
            source.fail("nested too deeply")
        if mark in ("{", "["):
            yield from self._items(source, mark, depth)
        elif mark == '"':
            yield from self._string(source)
        else:
            self._said.append(dumps(source.json((yield from source.take(BARE))), "a value"))

    def _items(self, source: TextSource, mark: str, depth: int) -> Wait:
        source.skip(1)
        self._said.append(mark)
        end, gap = "}" if mark == "{" else "]", ""
        while True:
            yield from source.take(SPACE)
            if not gap and (yield from source.accept(end)):
                break
            self._said.append(gap)
            if mark == "{":
                yield from self._string(source)
                yield from source.take(SPACE)
                yield from source.expect(":")
                self._said.append(": ")
                yield from source.take(SPACE)
            yield from self._value(source, depth + 1)
            yield from source.take(SPACE)
            gap = ", "
            if (yield from source.accept(end)):
                break
            yield from source.expect(",")
        self._said.append(end)

    def _string(self, source: TextSource) -> Wait:
        yield from source.expect('"')
        self._said.append('"')
        for piece in read_text(source):
            if isinstance(piece, str):
                self._said.append(dumps(piece, "a text")[1:-1])
            else:
                yield
        self._said.append('"')
