"""What every call format shares: the protocol, errors, and careful JSON in and out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from xlam_jax.errors import InputError, XlamError
from xlam_jax.format.values import Tool, ToolCall, check_json


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


class CallFormat(Protocol):
    """One way to write calls. `thought` is None where the codec writes no thoughts."""

    @property
    def name(self) -> str: ...

    def render(self, calls: Sequence[ToolCall], thought: str | None) -> Piece:
        """Text and parts; raises InputError for arguments that JSON cannot hold."""
        ...

    def parse(self, text: str, stop: str) -> Answer:
        """The inverse of `render`; raises ParseError and nothing else."""
        ...

    def grammar(
        self, tools: Sequence[Tool], min_calls: int, max_calls: int | None, with_thought: bool
    ) -> dict[str, Any]:
        """JSON Schema whose instances, written in key order, are exactly the answers."""
        ...

    def instruction(self, with_thought: bool) -> str:
        """The default format instruction."""
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


def dumps(value: Any, what: str) -> str:
    try:
        check_json(value)
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as e:  # ValueError also for integers beyond Python's digit limit
        raise InputError(f"{what} cannot be written as JSON: {e}") from None


_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\r?\n?")


def read_json(text: str, stop: str) -> Any:
    """The one JSON value that is `text`, up to fences, surrounding whitespace and the stop token."""
    start = len(text) - len(text.lstrip())
    fenced = _FENCE.match(text, start)
    if fenced:
        start = fenced.end()
        start += len(text[start:]) - len(text[start:].lstrip())
    try:
        value, end = DECODER.raw_decode(text, start)
        check_json(value)
    except RecursionError:
        fail("JSON is nested too deeply", text)
    except ValueError as e:
        fail(f"not JSON: {e}", text)
    rest = text[end:].lstrip()
    if fenced:
        rest = rest.removeprefix("```").lstrip()
    # Text after the stop token is another turn's; before it, it means that the answer was no JSON value.
    if rest and not (stop and rest.startswith(stop)):
        fail("text after the JSON value", text)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"the number {text[:40]} is too large")
    return value


DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def read_call(item: Any, text: str) -> ToolCall:
    if not isinstance(item, dict):
        fail("a call is no object", text)
    name, arguments = item.get("name"), item.get("arguments")
    if not isinstance(name, str) or not name:
        fail("a call has no name", text)
    if isinstance(arguments, str):  # OpenAI's spelling: arguments as JSON text
        arguments = read_json(arguments, "")
    if not isinstance(arguments, dict):
        fail(f"arguments of {name[:80]} are no object", text)
    return ToolCall(name, arguments)


def fail(what: str, text: str) -> NoReturn:
    raise ParseError(what, where=f"answer {text[:120]!r}") from None
