"""What every call format shares: the protocol, errors, and careful JSON in and out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from xlam_jax.errors import InputError, XlamError
from xlam_jax.format.values import MAX_DEPTH, Tool, ToolCall, check_json


class ParseError(XlamError):
    """Text that is no answer in the expected call format."""


@dataclass(frozen=True)
class Answer:
    """What a model said: its thought (may be empty) and its calls (may be none)."""

    thought: str
    tool_calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class Piece:
    """Rendered text with `(start, end, kind)` of its parts; kinds `thought`, `name`, `arguments`."""

    text: str
    parts: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Growing:
    """A call of an answer that arrives in chunks.

    Attributes:
      number: tells the calls of an answer apart, and grows.
      arguments: the beginning of what `json.dumps` writes for them; all of it where the call is `whole`.
    """

    number: int
    name: str
    arguments: str
    whole: bool


class StreamParser(Protocol):
    """Reads one answer that arrives in chunks, in time linear in its length."""

    def feed(self, chunk: str) -> list[ToolCall]:
        """The calls that this chunk completes, each as early as its text is complete."""
        ...

    @property
    def broken(self) -> bool:
        """Whether what came so far can be no answer."""
        ...

    def words(self) -> str:
        """What has become certain of the thought or reply since the last time; all of it after `close`."""
        ...

    def growing(self) -> list[Growing]:
        """The calls completed since the last time, and what is certain of one whose text is not complete yet."""
        ...

    def close(self) -> Answer:
        """What `parse` gives for the whole text; raises ParseError exactly where `parse` does."""
        ...


# Behind these an answer may begin as at the start of a line: a prompt may have opened the thinking, and models
# write the marks that other formats taught them.
LEADS = ("</think>", "[TOOL_CALLS]", "<|python_tag|>")


@dataclass(frozen=True)
class Plain:
    """What tells plain words from an answer in a format; words that it would claim begin with a backslash.

    Attributes:
      starts: beginnings of an answer, whitespace aside.
      lines: beginnings of a line that make what follows the words an answer.
      parts: texts that the beginning of an answer amid words holds.
      calls: a line that begins like `name(`, or with `pass`, does too.
    """

    starts: tuple[str, ...]
    lines: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    calls: bool = False

    def write(self, words: str) -> Piece:
        """The words, as they are where they can be read as nothing else."""
        dumps(words, "words")
        start = words.lstrip(" \t\r\n")
        odd = words[:1] == "\\" or not start or start.startswith(self.starts) or start.startswith("<think>")
        odd = odd or any(part in words for part in self.parts)
        for line in words.split("\n"):
            line = line.lstrip(" \t\r")
            odd = odd or (bool(self.lines) and line.startswith(self.lines))
            call = line.startswith("pass") or ("(" in line and len(line.split("(")[0].split()) < 2)
            odd = odd or (self.calls and call)
        return Piece("\\" * odd + words, ((odd, odd + len(words), "thought"),))

    def lark(self) -> str:
        """Lark expression of the words that need no backslash."""
        starts, lines = _either((*self.starts, "<think>")), [_either(self.lines)] if self.lines else []
        lines += ["pass", "[^\\s(]*[(]"] if self.calls else []
        not_these = [rf"({starts})(?s:.*)", *(f"(?s:.*{_either((part,))}.*)" for part in self.parts)]
        not_these += [rf"(?s:(.*\n)?[ \t\r]*({'|'.join(lines)}).*)"] if lines else []
        return " & ".join([r"/[^\\\s](?s:.*)/", *(f"~/{text}/" for text in not_these)])


def _either(texts: tuple[str, ...]) -> str:
    return "|".join(re.escape(text).replace("\\\n", "\\n").replace("/", "\\/") for text in texts)


class CallFormat(Protocol):
    """One way to write calls. `thought` is None where the codec writes no thoughts.

    Attributes:
      words: when plain words need a mark before them, see `Plain`; None where `render` writes an answer
        without calls as words, marked where it must be.
    """

    @property
    def name(self) -> str: ...

    @property
    def words(self) -> Plain | None: ...

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        """Text and parts; raises InputError for arguments that JSON cannot hold."""
        ...

    def parse(self, text: str, stop: str, strict: bool = True, words: bool = True) -> Answer:
        """The inverse of `render` and `say`; raises ParseError and nothing else.

        Args:
          stop: token that ends the answer; empty for none.
          strict: a malformed call is an error; otherwise it is left out and its neighbours stay.
          words: otherwise a format that has no place for words takes none.
        """
        ...

    def stream(self, stop: str, strict: bool = True, words: bool = True) -> StreamParser:
        """Reads one answer chunk by chunk; for every split the calls equal those of `parse`."""
        ...

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        """Lark fragment, in llguidance's dialect, whose rule `answer` is what `render` writes.

        No rule of it is named `start`.

        Args:
          min_calls: fewest calls; 0 admits an answer without any.
          max_calls: most calls, None for no limit.
          with_thought: the answer has a thought, or a place for one.

        Raises:
          InputError: calls are demanded and there are no tools.
        """
        ...

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        """Wordings of the format instruction; the first is the default."""
        ...

    def jinja(self) -> str:
        """Jinja source of the macro `answer(thought, calls)`."""
        ...


class Writer:
    """Collects text and the places of its parts."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._length = 0
        self._parts: list[tuple[int, int, str]] = []

    def add(self, text: str, kind: str = "") -> None:
        if kind:
            self._parts.append((self._length, self._length + len(text), kind))
        self._chunks.append(text)
        self._length += len(text)

    def add_string(self, value: str, kind: str) -> None:
        """A JSON string; the part is what stands between the quotes."""
        self.add('"')
        self.add(dumps(value, kind)[1:-1], kind)
        self.add('"')

    def piece(self) -> Piece:
        return Piece("".join(self._chunks), tuple(self._parts))


_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def dumps(value: Any, what: str) -> str:
    try:
        text = _ENCODE(value)
        if not text.isascii():
            text.encode()  # finds lone surrogates
        if text.count("{") + text.count("[") > MAX_DEPTH:  # too few brackets cannot nest too deeply
            check_json(value)
        return text
    except (ValueError, TypeError, RecursionError) as e:  # ValueError also for integers of too many digits
        raise InputError(f"{what} cannot be written as JSON: {e}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"the number {text[:40]} is too large")
    return value


DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
