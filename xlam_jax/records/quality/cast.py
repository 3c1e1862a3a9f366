"""Repairs of values in the wrong type or spelling, where there is one way to read them and no other."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from xlam_jax.format.schema_meaning import meaning, resolved
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.quality.schema_check import check_value, plainly_valid

_INTEGER = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
# [v1, v2]: words without quotes, as some generators write lists.
_BARE_LIST = re.compile(r"\[\s*([^\[\]{}'\":,]+(,[^\[\]{}'\":,]+)*)\]")


class NoCast(ValueError):
    """There is no reading of the value that is beyond doubt."""


def cast_call(call: ToolCall, tool: Tool, names: Collection[str]) -> tuple[ToolCall, list[str]]:
    """The call with the values of these arguments cast where they can be, and what was done.

    An optional argument that is null or an empty text, where that is no value, is left out.
    """
    properties = tool.parameters.get("properties") or {}
    required = tool.parameters.get("required") or ()
    arguments, done = {}, []
    for name, value in call.arguments.items():
        schema = properties.get(name)
        if name not in names or not isinstance(schema, dict):
            arguments[name] = value
            continue
        if value in (None, "") and name not in required:
            done.append(f"{name}: {_short(value)} left out")
            continue
        try:
            converted = cast(value, schema, tool.parameters)
        except NoCast:
            converted = value
        if converted is not value and _valid(converted, schema, tool.parameters):
            done.append(f"{name}: {_short(value)} -> {_short(converted)}")
            value = converted
        arguments[name] = value
    return (ToolCall(call.name, arguments), done) if done else (call, [])


def cast(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """The value in the type (and, for choices, the spelling) that the schema declares.

    | declared | from | not from |
    |---|---|---|
    | integer, alone or among others | 5.0, 1e16 | 2.5, true |
    | integer | `"5"`, `"5.0"` | `"1,000"` |
    | number | `"2.5"`, `"1e3"` | `"1,5"`, `"a lot"` |
    | boolean | `"true"`, `"False"` | 1, `"yes"` |
    | string | 5, 2.5 | true, null, lists |
    | array | text of a list (JSON, Python, `"[v1, v2]"` for texts), one number or object | plain text |
    | object | JSON or Python text of an object | others |
    | enum | the one choice that differs in capitals, blanks or type only | others |

    Args:
      root: the document that the schema's references point into, itself by default.

    Raises:
      NoCast: the value has no such reading; a value that needs none is returned as it is.
    """
    meant = meaning(schema, root).schema
    schema = resolved(meant, meant)
    root = {"$defs": meant.get("$defs", {})}
    whole = _whole(value)
    if whole is not None and not _valid(value, schema, root) and _valid(whole, schema, root):
        return whole  # to JSON Schema it is an integer already
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return _choice(value, schema["enum"], schema, root)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _only([{**schema, "type": k} for k in kind], value, root)
    if kind is None and isinstance(options := schema.get("anyOf") or schema.get("oneOf"), list):
        return _only(options, value, root)
    reader = _READERS.get(str(kind))
    return value if reader is None else reader(value, schema, root)


def _only(schemas: list[Any], value: Any, root: Mapping[str, Any]) -> Any:
    """The reading that all schemas which have one agree on."""
    readings = []
    for schema in schemas:
        if not isinstance(schema, dict):
            continue
        try:
            read = cast(value, schema, root)
        except NoCast:
            continue
        if _valid(read, schema, root):
            readings.append(read)
    if not readings or any(json.dumps(f) != json.dumps(readings[0]) for f in readings):
        raise NoCast
    return readings[0]


def _choice(value: Any, choices: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    if isinstance(value, list | dict) or value is None:
        raise NoCast
    if (kind := schema.get("type")) in ("integer", "number", "boolean"):
        read = _READERS[str(kind)](value, schema, root)
        if read not in choices:
            raise NoCast
        return read
    folded = _fold(value)
    same = [c for c in choices if not isinstance(c, bool) and _fold(c) == folded]
    if len(same) != 1:
        raise NoCast
    return same[0]


def _fold(value: Any) -> str:
    return re.sub(r"[\s_-]+", " ", str(value)).strip().casefold()


def _integer(value: Any, *_: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if (whole := _whole(value)) is not None:
        return whole
    raise NoCast


def _whole(value: Any) -> int | None:
    """The integer (of 64 bits) that 5.0 or 1e16 is, by its decimal digits; None where some may be lost."""
    if not isinstance(value, float) or not value.is_integer() or abs(value) >= 2**64:
        return None
    number = Decimal(repr(value)).normalize()
    return int(number) if abs(value) < 2**53 or len(number.as_tuple().digits) < 16 else None


def _number(value: Any, *_: Any) -> float:
    if type(value) in (int, float):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        raise NoCast
    number = int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else float(text)
    if not math.isfinite(number):
        raise NoCast
    return number


def _boolean(value: Any, *_: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in ("true", "false"):
        raise NoCast
    return word == "true"


def _string(value: Any, *_: Any) -> str:
    if isinstance(value, str):
        return value
    if type(value) in (int, float):
        return json.dumps(value)
    raise NoCast


def _array(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    items = schema.get("items")
    items = items if isinstance(items, dict) else {}
    if isinstance(value, str):
        read = _literal(value)
        if read is None and items.get("type", "string") == "string" and (m := _BARE_LIST.fullmatch(value)):
            read = [part.strip() for part in m[1].split(",")]
        value = read
    elif type(value) in (int, float, dict):
        value = [value]
    if not isinstance(value, list):
        raise NoCast
    return [item if _valid(item, items, root) else cast(item, items, root) for item in value]


def _object(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, str):
        value = _literal(value)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise NoCast
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    return {
        name: item
        if _valid(item, properties.get(name, {}), root)
        else _cast_any(item, properties[name], root)
        for name, item in value.items()
    }


def _cast_any(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    return cast(value, schema, root) if isinstance(schema, dict) else value


_READERS = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "array": _array,
    "object": _object,
}


def _literal(text: str) -> Any:
    """The list or object that a text spells, None for any other text."""
    text = text.strip()
    if not text.startswith(("[", "{")) or len(text) > 100_000:
        return None
    try:
        value = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
            json.dumps(value, allow_nan=False)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    return value


def _valid(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    return plainly_valid(value, schema) or not list(check_value("", value, schema, root))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
