"""Lark fragments of answers, in llguidance's dialect.

`Values` turns a JSON Schema into rules for a spelling of JSON values: Python constants, TOML, JSON escaped
for XML. What `%json` would say about a value (kind, enum, required and optional keys in order, item counts)
these rules say too, but that keys of free objects differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_formats.schema import value_schema
from xlam_jax.format.values import Tool

INTEGER = r"-?(0|[1-9][0-9]{0,300})"
# Exponents of two digits keep a number finite; those JSON writes beyond are rare and only cost coverage.
NUMBER = INTEGER + r"(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?"
STRING = r'"([^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u00[01][0-9a-f]))*"'
JSON_SEPARATORS = {
    "x-guidance": {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
        "lenient": True,
    }
}


@dataclass(frozen=True)
class Spelling:
    """How JSON values are written: `write` spells a value; the rest are regular expressions and marks."""

    write: Callable[[Any], str]
    string: str = STRING
    null: str = "null"
    true: str = "true"
    false: str = "false"
    between: str = ": "


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


class Values:
    """Collects rules; `text` is the fragment of all of them."""

    def __init__(self, spelling: Spelling | None) -> None:
        """`spelling` None stands for JSON itself."""
        self._spelling = spelling
        self._rules: list[str] = []
        self._names: dict[str, str] = {}

    @property
    def text(self) -> str:
        return "".join(f"{rule}\n" for rule in self._rules)

    def add(self, name: str, body: str) -> str:
        self._rules.append(f"{name}: {body}")
        return name

    def parameters(self, tool: Tool) -> list[tuple[str, dict[str, Any], bool]]:
        """`(name, schema, required)` of a tool's parameters in order."""
        schema = value_schema(tool.parameters)
        required = schema.get("required", ())
        return [(k, v, k in required) for k, v in schema.get("properties", {}).items()]

    def value(self, schema: Any) -> str:
        """Name of the rule for the values of a schema (as `value_schema` gives it)."""
        key = json.dumps(schema, ensure_ascii=False)
        if key not in self._names:
            self._names[key] = f"v_{len(self._names)}"
            self.add(self._names[key], self._body(schema))
        return self._names[key]

    def regex(self, pattern: str) -> str:
        return f"/{pattern}/"

    def sequence(self, items: list[tuple[str, bool]], between: str) -> str:
        """Lark expression for items in order, `(expression, required)`, optional ones left out or not."""
        more = ""
        fresh = '""'
        for expression, required in reversed(items):
            if more:
                more = self.add(f"s_{len(self._rules)}", more)
            if required:
                fresh = f"{expression} {more}"
                more = f"{between} {expression} {more}"
            else:
                fresh = self.add(f"s_{len(self._rules)}", fresh)
                fresh = f"{expression} {more} | {fresh}"
                more = f"({between} {expression})? {more}"
        return f"({fresh})"

    def _body(self, schema: Any) -> str:
        spelling = self._spelling
        if spelling is None:
            return json_value(schema)
        if not isinstance(schema, dict):
            schema = {}
        if "const" in schema:
            schema = {"enum": [schema["const"]]}
        if "enum" in schema:
            return " | ".join(literal(spelling.write(value)) for value in schema["enum"])
        if "anyOf" in schema:
            return " | ".join(self.value(option) for option in schema["anyOf"])
        if "properties" in schema:
            return self._object(schema)
        kinds = schema.get("type", _KINDS)
        kinds = [k for k in ([kinds] if isinstance(kinds, str) else kinds) if k in (*_KINDS, "integer")]
        return " | ".join(self._kind(kind, schema, spelling) for kind in kinds or _KINDS)

    def _object(self, schema: dict[str, Any]) -> str:
        assert self._spelling
        required = schema.get("required", ())
        items = [
            (f"{literal(self._spelling.write(k) + self._spelling.between)} {self.value(v)}", k in required)
            for k, v in schema["properties"].items()
        ]
        return f'"{{" {self.sequence(items, literal(", "))} "}}"'

    def _kind(self, kind: str, schema: dict[str, Any], spelling: Spelling) -> str:
        match kind:
            case "string":
                return self.regex(spelling.string)
            case "integer":
                return self.regex(INTEGER)
            case "number":
                return self.regex(NUMBER)
            case "boolean":
                return f"{literal(spelling.true)} | {literal(spelling.false)}"
            case "null":
                return literal(spelling.null)
            case "array":
                low, high = schema.get("minItems"), schema.get("maxItems")
                low = low if isinstance(low, int) and low > 0 else 0
                high = high if isinstance(high, int) else None
                if high is not None and high < low:
                    high = low
                return f'"[" {repeated(self.value(schema.get("items", {})), literal(", "), low, high)} "]"'
            case _:
                pair = f"{self.regex(spelling.string)} {literal(spelling.between)} {self.value({})}"
                return f'"{{" {repeated(f"({pair})", literal(", "), 0, None)} "}}"'


_KINDS = ("string", "number", "boolean", "null", "array", "object")
