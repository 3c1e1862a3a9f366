"""What every call format shares: the protocol, errors, and careful JSON in and out."""

from __future__ import annotations

import json
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

    def close(self) -> Answer:
        """What `parse` gives for the whole text; raises ParseError exactly where `parse` does."""
        ...


class CallFormat(Protocol):
    """One way to write calls. `thought` is None where the codec writes no thoughts.

    Attributes:
      reply: an answer without calls may be plain words; `render` is given them as `thought` then, whether
        or not the codec writes thoughts.
    """

    @property
    def name(self) -> str: ...

    @property
    def reply(self) -> bool: ...

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        """Text and parts; raises InputError for arguments that JSON cannot hold."""
        ...

    def parse(self, text: str, stop: str) -> Answer:
        """The inverse of `render`; raises ParseError and nothing else."""
        ...

    def stream(self, stop: str) -> StreamParser:
        """Reads one answer chunk by chunk; for every split the calls equal those of `parse`."""
        ...

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> str:
        """Lark fragment, in llguidance's dialect, whose rule `answer` is what `render` writes.

        No rule of it is named `start`. Raises InputError where calls are demanded and there are no tools.
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
