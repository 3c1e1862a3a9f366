"""What calls are made of: tools, calls, and the JSON values inside them. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 64


@dataclass(frozen=True)
class ToolCall:
    """A call of the tool `name`; `arguments` maps parameter names to JSON values."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Tool:
    """A callable thing; `parameters` is a JSON Schema of type object with `properties` and `required`.

    Attributes:
      notes: what its reader did not understand, `code:text`; for the lineage, never written with the tool.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)


def check_json(value: Any, max_depth: int = MAX_DEPTH) -> None:
    """Raises ValueError for what cannot travel as JSON text: non-finite numbers, lone surrogates, depth.

    Nesting beyond `max_depth` is refused because parsers, template engines and grammars all have a
    recursion limit of their own, each at another depth.
    """
    level = [value]
    for _ in range(max_depth):
        deeper: list[Any] = []
        for item in level:
            kind = item.__class__
            if kind is str:
                if not item.isascii():
                    _check_text(item)
            elif kind is dict:
                if not _plain_keys(item):
                    deeper.extend(item)
                deeper.extend(item.values())
            elif kind is list or kind is tuple:
                deeper.extend(item)
            elif kind is float:
                if item - item != 0.0:
                    raise ValueError(f"the number {item}, which JSON cannot hold")
            elif isinstance(item, str):
                _check_text(item)
            elif item is not None and not isinstance(item, bool | int):
                raise ValueError(f"a {kind.__name__}, which is no JSON value")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"values nested deeper than {max_depth} levels")


def _plain_keys(item: dict[Any, Any]) -> bool:
    """Whether nothing about the keys needs a look, told for all of them at once."""
    try:
        return "".join(item).isascii()
    except TypeError:  # a key that is no text
        return False


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate, which is no Unicode text") from None
