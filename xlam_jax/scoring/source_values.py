"""Java and JavaScript values written as source text, read the way BFCL reads them.

In BFCL's Java and JavaScript categories a model gives every argument as a string of source code. Text that
does not look like its declared type is kept as text and then fails the comparison. The reading is shallow
(elements are split at every comma, also inside quotes), and it must stay so: published scores depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Declared type -> the Python type a converted value must have.
JAVA_TYPES: dict[str, type] = {
    **dict.fromkeys(("byte", "short", "integer", "long"), int),
    **dict.fromkeys(("float", "double"), float),
    "boolean": bool,
    **dict.fromkeys(("char", "String", "any"), str),
    **dict.fromkeys(("Array", "ArrayList", "Queue", "Stack"), list),
    "Set": set,
    **dict.fromkeys(("HashMap", "Hashtable"), dict),
}
JAVASCRIPT_TYPES: dict[str, type] = {
    **dict.fromkeys(("integer", "Bigint"), int),
    "float": float,
    "Boolean": bool,
    **dict.fromkeys(("String", "any"), str),
    "array": list,
    "dict": dict,
}
# Declared types whose `items.type` is needed to read the elements.
CONTAINERS = frozenset({"Array", "ArrayList", "array"})

_INT = r"-?\d+"
_DECIMAL = r"-?\d+(\.\d+)?"
_EXPONENT = r"([eE][+-]?\d+)?"


def _number(pattern: str, convert: Callable[[str], Any], suffix: int = 0) -> Callable[[str], Any]:
    """A reader of one kind of number; `suffix` characters at the end are no digits."""
    whole = re.compile(f"^{pattern}$")

    def read(text: str) -> Any:
        if not whole.match(text):
            return text
        return convert(text[: len(text) - suffix])

    return read


def _boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


_java_int = _number(_INT, int)
_JAVA_SCALARS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("byte", "short", "integer"), _java_int),
    "long": _number(_INT + "[lL]", int, 1),
    "float": _number(_DECIMAL + _EXPONENT + "[fF]", float, 1),
    "double": _number(_DECIMAL + _EXPONENT, float),
    "boolean": _boolean,
    # The original's pattern for char can match nothing, so its text stays quoted.
    **dict.fromkeys(("char", "String", "any"), str),
}
_JAVASCRIPT_SCALARS: dict[str, Callable[[str], Any]] = {
    "integer": _number(_INT, int),
    "float": _number(_DECIMAL, float),
    "Bigint": _number(_INT + "n", int, 1),
    "Boolean": _boolean,
    "String": lambda text: _unquoted(text, "\"'"),
    "any": str,
}


def java_value(text: str, kind: str, inner: str | None = None) -> Any:
    """Reads `text` as the declared Java type `kind`, elements as `inner`.

    Raises:
      ValueError: a type the original cannot read either (Set, Hashtable, Queue, Stack, unknown names).
    """
    if kind in _JAVA_SCALARS:
        return _JAVA_SCALARS[kind](text)
    if kind == "Array":
        return _java_array(text, inner)
    if kind == "ArrayList":
        return _java_array_list(text, inner)
    if kind == "HashMap":
        return _java_hash_map(text)
    raise ValueError(f"no reader for the Java type {kind!r}")


def _java_array(text: str, inner: str | None) -> Any:
    match = re.search(r"new\s+\w+\[\]\s*\{(.*?)\}", text)
    if not match:
        return text
    elements = [e.strip() for e in match[1].split(",")]
    return [_java_element(e, inner) for e in elements if e]


def _java_array_list(text: str, inner: str | None) -> Any:
    if as_list := re.search(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)", text):
        elements = as_list[1].split(",")
    elif adds := re.search(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", text, re.DOTALL):
        elements = re.findall(r"add\((.+?)\)", adds[1])
    elif re.search(r"new\s+ArrayList<\w*>\(\)", text):
        return []
    else:
        return text
    if inner in ("char", "String"):  # whatever stands at the ends is taken for quotes
        return [e.strip()[1:-1] for e in elements]
    return [_java_element(e.strip(), inner) for e in elements]


def _java_hash_map(text: str) -> Any:
    body = re.search(r"new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", text, re.DOTALL)
    if body:
        puts = re.findall(r"put\(\"(.*?)\",\s*(.*?)\)", body[1])
        return {key: _java_literal(value.strip()) for key, value in puts}
    return {} if re.search(r"new\s+HashMap<.*?>\s*\(\)", text) else text


def _java_element(text: str, inner: str | None) -> Any:
    return java_value(text, inner) if inner else _java_literal(text)


def _java_literal(text: str) -> Any:
    """A value of unknown type: boolean, quoted string, long, float, then any number, else text."""
    for kind in ("boolean", "quoted", "long", "float"):
        value = _unquoted(text, '"') if kind == "quoted" else _JAVA_SCALARS[kind](text)
        if value is not text:
            return value
    return _plain_number(text)


def javascript_value(text: str, kind: str, inner: str | None = None) -> Any:
    """Reads `text` as the declared JavaScript type `kind`, elements as `inner`.

    Raises:
      ValueError: unknown type name.
    """
    if kind in _JAVASCRIPT_SCALARS:
        return _JAVASCRIPT_SCALARS[kind](text)
    if kind == "array":
        return _javascript_array(text.strip(), inner)
    if kind == "dict":
        return _javascript_object(text.strip())
    raise ValueError(f"no reader for the JavaScript type {kind!r}")


_ROWS = r"\[.*?\]\s*(,\s*\[.*?\]\s*)*"
_MATRIX = re.compile(rf"\[\s*{_ROWS}\]|\bnew\s+Array\(\s*{_ROWS}\)")
_ARRAY = re.compile(r"\[(.*?)\]|\bnew\s+Array\((.*?)\)")
_PAIRS = re.compile(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)")


def _javascript_array(code: str, inner: str | None) -> Any:
    if matrix := _MATRIX.match(code):
        # The first row is found together with the outer bracket.
        rows = [row.strip() for row in re.findall(r"\[(.*?)\]", matrix[0])]
        rows[0] = rows[0].removeprefix("[")
        return [[_javascript_literal(e) for e in row.split(",")] for row in rows]
    match = _ARRAY.match(code)
    if not match:
        return code
    body = (match[1] if match[1] is not None else match[2]).strip()
    elements = [e.strip() for e in body.split(",")] if body else []
    if not inner:
        return [_javascript_literal(e) for e in elements]
    try:
        return [javascript_value(e, inner) for e in elements]
    except (ValueError, IndexError):  # an element type without a reader leaves the whole as text
        return code


def _javascript_object(code: str) -> Any:
    if code == "{}":
        return {}
    match = re.match(r"\{(.*?)\}", code)
    if not match:
        return code
    out: dict[str, Any] = {}
    for key, value in _PAIRS.findall(match[1]):
        value = value.strip()
        if value.startswith("[") and value.endswith("]"):
            read = _javascript_array(value, None)
        elif value.startswith("{") and value.endswith("}"):
            read = _javascript_object(value)
        else:  # quotes go first, so "5" in quotes is a number here
            read = _javascript_literal(value.strip("'\""))
        out[key.strip().strip("'\"")] = read
    return out


def _javascript_literal(text: str) -> Any:
    text = text.strip()
    for value in (_boolean(text), _unquoted(text, "\"'")):
        if value is not text:
            return value
    return _plain_number(text)


def _unquoted(text: str, quotes: str) -> str:
    for quote in quotes:
        if text.startswith(quote) and text.endswith(quote):
            return text[1:-1]
    return text


def _plain_number(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text
