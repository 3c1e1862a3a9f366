"""What a stranger's JSON Schema means: the same in draft 2020-12, with what cannot be understood said.

Servers and data sets write OpenAPI's `nullable`, flags as bounds (draft 4), bounds as text, lists under
`items`, references that lead nowhere or in a circle. A tool's text keeps them; whoever checks a value or
writes a grammar asks here.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from xlam_jax.format.tool_schema import ONE_SCHEMA, point
from xlam_jax.format.type_names import read_type

_JSON_TYPES = frozenset(("string", "integer", "number", "boolean", "array", "object", "null"))
_BOUNDS = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_COUNTS = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"))
_COUNTS_OF_MATCHES = frozenset(("minContains", "maxContains"))
_LISTS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_MAPS = frozenset(("properties", "patternProperties", "dependentSchemas"))
# Schemas that look at the same value, where a reference back to itself would never end.
_SAME_VALUE = frozenset(("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "dependentSchemas"))
_DYNAMIC = frozenset(("$dynamicRef", "$recursiveRef"))
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Meaning:
    """A schema in draft 2020-12 and what of the original it leaves out.

    Attributes:
      schema: holds constraints only; its references lead to its own `$defs`.
      unread: `place: what`, places as JSON pointers.
    """

    schema: dict[str, Any]
    unread: tuple[str, ...] = ()


def meaning(schema: Any, root: Any = None) -> Meaning:
    """The meaning of a schema; `root` is the document its references point into, itself by default.

    Example:
      >>> meaning({"type": "integer", "minimum": "0", "exclusiveMinimum": True, "nullable": True}).schema
      {'type': ['integer', 'null'], 'exclusiveMinimum': 0}
      >>> meaning({"type": "string", "multipleOf": 0}).unread
      ('#/multipleOf: 0',)
    """
    return meaning_of(*texts_of(schema, root))


def texts_of(schema: Any, root: Any = None) -> tuple[str, str]:
    """What `meaning` depends on, as a key for caches: the schema, and the root where references look at it."""
    text = json.dumps(schema, default=str)
    return text, json.dumps(root, default=str) if root is not None and '"$ref"' in text else ""


@functools.lru_cache(maxsize=65536)
def meaning_of(schema: str, root: str) -> Meaning:
    """`meaning` of what `texts_of` gave."""
    parsed = json.loads(schema)
    reader = _Reader(json.loads(root) if root else parsed)
    meant = reader.read(parsed, "#", ())
    if isinstance(meant, bool):
        meant = {} if meant else {"not": {}}
    if reader.defs:
        meant = {**meant, "$defs": reader.defs}
    return Meaning(meant, tuple(dict.fromkeys(reader.unread)))


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A schema's own words, those of its reference and of its only `allOf` put in; `root` has the `$defs`."""
    out = dict(schema)
    for _ in range(16):
        if isinstance(reference := out.pop("$ref", None), str):
            target = point(root, reference)
            out = {**target, **out} if isinstance(target, dict) else out
        elif isinstance(parts := out.get("allOf"), list) and len(parts) == 1 and isinstance(parts[0], dict):
            del out["allOf"]
            out = {**parts[0], **out}
        else:
            break
    return out


def number_of(value: Any) -> int | float | None:
    """The finite number that this is, or that this text spells; None for anything else."""
    if isinstance(value, str):
        for read in (int, float):
            try:
                value = read(value)
                break
            except ValueError:
                continue
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


@functools.lru_cache(maxsize=4096)
def pattern_check(pattern: str) -> jsonschema_rs.Validator | None:
    """A validator of texts by a regular expression in ECMA's spelling; None where it is none."""
    try:
        return jsonschema_rs.Draft202012Validator({"pattern": pattern})
    except (jsonschema_rs.ValidationError, ValueError):
        return None


def _both_read(pattern: str) -> bool:
    """Whether ECMA's and Python's reader take a pattern: validators match names with Python's."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        return False
    return pattern_check(pattern) is not None


class _Reader:
    """Reads one document; `defs` are the schemas that references lead to."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.defs: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.unread: list[str] = []

    def miss(self, place: str, key: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False, default=str)
        self.unread.append(f"{place}/{key}: {text[:60]}")

    def read(self, node: Any, place: str, trail: tuple[str, ...]) -> Any:
        """`trail` are the references that lead to this schema of one and the same value."""
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            self.unread.append(f"{place}: no schema but {type(node).__name__}")
            return True
        out: dict[str, Any] = {}
        for key, value in node.items():
            self.keyword(out, node, key, value, place, trail)
        _settle(out)
        if node.get("nullable") is True or node.get("x-nullable") is True:
            out = _nullable(out)
        return out

    def keyword(
        self, out: dict[str, Any], node: dict[str, Any], key: str, value: Any, place: str, trail: Any
    ) -> None:
        """Puts what one keyword means into `out`; words that constrain nothing leave no trace.

        Args:
          node: the schema that the keyword stands in, whose other keywords may change what it means.
          place: JSON pointer of that schema.
          trail: as in `read`.
        """
        inner = trail if key in _SAME_VALUE else ()
        at = f"{place}/{key}"
        if key == "$ref":
            self.reference(out, value, place, trail)
        elif key == "type":
            self.type(out, value, place)
        elif key in _BOUNDS or key in _BOUNDS.values():
            self.bound(out, node, key, value, place)
        elif key == "const" or (key == "enum" and isinstance(value, list) and value):
            out[key] = value
        elif key == "required" and isinstance(value, list):
            out[key] = list(dict.fromkeys(name for name in value if isinstance(name, str)))
        elif key == "required" and isinstance(value, bool | str):  # a parameter's flag
            pass
        elif key == "pattern" and isinstance(value, str) and pattern_check(value):
            out[key] = value
        elif key == "multipleOf" and (number_of(value) or 0) > 0:
            out[key] = number_of(value)
        elif key in _COUNTS | _COUNTS_OF_MATCHES and (count := _count(value)) is not None:
            out[key] = count
        elif key == "uniqueItems" and isinstance(value, bool):
            out.update({key: True} if value else {})
        elif key == "items" and isinstance(value, list):
            if value:
                out["prefixItems"] = [self.read(v, f"{at}/{i}", ()) for i, v in enumerate(value)]
        elif (
            key == "additionalItems"
        ):  # before 2020-12, when `items` was a list, which may be renamed already
            if isinstance(node.get("items"), list) or ("prefixItems" in node and "items" not in node):
                out["items"] = self.read(value, at, ())
        elif key in ONE_SCHEMA and isinstance(value, dict | bool):
            out[key] = self.read(value, at, inner)
        elif key in _LISTS and isinstance(value, list) and value:
            out[key] = [self.read(v, f"{at}/{i}", inner) for i, v in enumerate(value)]
        elif key in _MAPS and isinstance(value, dict):
            for name in [n for n in value if key == "patternProperties" and not _both_read(n)]:
                self.miss(at, name, value[name])
                value = {n: v for n, v in value.items() if n != name}
            out[key] = {n: self.read(v, f"{at}/{n}", inner) for n, v in value.items()}
        elif key == "dependentRequired" and isinstance(value, dict):
            out[key] = {n: v for n, v in value.items() if isinstance(v, list)}
        elif key == "dependencies" and isinstance(value, dict):  # before 2019-09
            lists = {n: v for n, v in value.items() if isinstance(v, list)}
            others = {n: self.read(v, f"{at}/{n}", trail) for n, v in value.items() if n not in lists}
            out.update({k: v for k, v in (("dependentRequired", lists), ("dependentSchemas", others)) if v})
        elif key in _KEYWORDS:
            self.miss(place, key, value)

    def reference(self, out: dict[str, Any], value: Any, place: str, trail: tuple[str, ...]) -> None:
        target = point(self.root, value) if isinstance(value, str) else None
        if value in trail or not isinstance(target, dict | bool):
            self.miss(place, "$ref", value)
            return
        if value not in self.names:
            name = self.names[value] = f"d{len(self.names)}"
            self.defs[name] = True  # holds its place in the order
            self.defs[name] = self.read(target, value, (*trail, value))
        out["$ref"] = f"#/$defs/{self.names[value]}"

    def type(self, out: dict[str, Any], value: Any, place: str) -> None:
        if isinstance(value, str):
            read = {"type": value} if value in _JSON_TYPES else read_type(value)[0]
            if not read:
                self.miss(place, "type", value)
            out.update(read)
            return
        names = value if isinstance(value, list) else []
        kinds = [read_type(v)[0].get("type") if isinstance(v, str) else None for v in names]
        if kinds and all(isinstance(kind, str) for kind in kinds):
            out["type"] = list(dict.fromkeys(kinds))
        else:
            self.miss(place, "type", value)

    def bound(self, out: dict[str, Any], node: dict[str, Any], key: str, value: Any, place: str) -> None:
        flag = _BOUNDS.get(key)
        if isinstance(value, bool):  # draft 4: the bound beside it is meant
            return
        number = number_of(value)
        if number is None:
            self.miss(place, key, value)
        elif flag and node.get(flag) is True:
            out[flag] = number
        else:
            out[key] = number


_KEYWORDS = frozenset(
    ("enum", "required", "pattern", "multipleOf", "uniqueItems", "items", "dependentRequired", "dependencies")
) | frozenset((*_COUNTS, *_COUNTS_OF_MATCHES, *_LISTS, *_MAPS, *ONE_SCHEMA, *_DYNAMIC))


def _count(value: Any) -> int | None:
    number = number_of(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def _settle(schema: dict[str, Any]) -> None:
    """A schema whose type and choices contradict each other, read as it was meant.

    Choices of a list that are no lists are the choices of its items; choices of a number that are texts are
    those numbers, numbers among the choices of a text are texts, and "True" and "False" of a boolean are true and
    false.
    """
    choices, kinds = schema.get("enum"), schema.get("type")
    kinds = [k for k in (kinds if isinstance(kinds, list) else [kinds]) if k != "null"]
    if not isinstance(choices, list) or len(kinds) != 1:
        return
    kind = kinds[0]
    if kind == "array" and not any(isinstance(c, list) for c in choices):
        items = schema.get("items")
        choices = [c for c in schema.pop("enum") if c is not None or kinds == [schema["type"]]]
        schema["items"] = {**(items if isinstance(items, dict) else {}), "enum": choices}
    elif kind in ("integer", "number") and any(isinstance(c, str) for c in choices):
        numbers = [number_of(c) for c in choices]
        schema["enum"] = [c if n is None else n for c, n in zip(choices, numbers, strict=True)]
    elif kind == "string":
        schema["enum"] = [json.dumps(c) if type(c) in (int, float) else c for c in choices]
    elif kind == "boolean":
        schema["enum"] = [_TRUTH.get(c.strip().lower(), c) if isinstance(c, str) else c for c in choices]


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, or null."""
    kind = schema.get("type")
    if kind is None or "const" in schema or schema.keys() & {"$ref", "allOf", "anyOf", "oneOf", "not", "if"}:
        return {"anyOf": [schema, {"type": "null"}]} if schema else schema
    kinds = [kind] if isinstance(kind, str) else kind
    out = {**schema, "type": kinds if "null" in kinds else [*kinds, "null"]}
    if "enum" in out and None not in out["enum"]:
        out["enum"] = [*out["enum"], None]
    return out
