"""Lark fragments of answers, in llguidance's dialect: texts, repetitions, and JSON by its own compiler."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.values import Tool

INTEGER = r"-?(0|[1-9][0-9]{0,300})"
# Exponents of two digits keep a number finite; those JSON writes beyond are rare and only cost coverage.
NUMBER = INTEGER + r"(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?"
# One character of a string. The first alternative is a character that stands for itself.
CHARACTER = r'[^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u00[01][0-9a-f])'
JSON_SEPARATORS = {
    "x-guidance": {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
        "coerce_one_of": True,
        "lenient": True,
    }
}


@dataclass(frozen=True)
class Spelling:
    """How JSON values are written: `write` spells a value; the rest are regular expressions and marks.

    Attributes:
      character: one character of a text, of which the first alternative stands for itself.
      quote: what stands around a text.
    """

    write: Callable[[Any], str]
    character: str = CHARACTER
    quote: str = '"'
    null: str = "null"
    true: str = "true"
    false: str = "false"
    between: str = ": "

    @property
    def string(self) -> str:
        """A text with its quotes."""
        return f"{self.quote}({self.character})*{self.quote}"


def literal(text: str) -> str:
    """A Lark string; the empty text is an empty string."""
    return json.dumps(text, ensure_ascii=False)


def json_value(schema: dict[str, Any]) -> str:
    """Lark expression for JSON by a schema, with the separators of `json.dumps`."""
    return f"%json {json.dumps({**schema, **JSON_SEPARATORS}, ensure_ascii=False)}"


def repeated(item: str, between: str, low: int, high: int | None, first: str = "") -> str:
    """`low` to `high` items with `between` (a Lark expression, may be empty) in their midst.

    Args:
      first: Lark expression of the first item where it differs.
    """
    first = first or item
    if high is not None and high <= 0:
        return '""'
    more = f"({between} {item})"
    if high == 1:
        many = first
    else:
        many = f"{first} {more}{{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
    return many if low else f"({many})?"


def answer_rule(
    tools: Sequence[Tool],
    low: int,
    high: int | None,
    between: str,
    none: str,
    wrap: tuple[str, str] = ("", ""),
    first: str = "",
) -> str:
    """Lark expression for the calls: alternatives of the rule `call`, or `none` where there are none.

    Args:
      between: Lark expression between calls.
      none: Lark expression of an answer without calls.
      wrap: Lark expressions before and after one or more calls.
      first: Lark expression of the first call where it differs.

    Raises:
      InputError: calls are demanded where there are no tools.
    """
    if low and not tools:
        raise InputError("a call is demanded, but there are no tools", hint="min_calls=0")
    if not tools or high == 0:
        return none
    calls = f"{wrap[0]} {repeated('call', between, max(low, 1), high, first)} {wrap[1]}"
    return calls if low else f"({none}) | ({calls})"
