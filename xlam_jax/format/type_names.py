"""Type names: Python annotations, BFCL's words and JSON Schema's, read into JSON Schema and written back."""

from __future__ import annotations

from typing import Any

_SCHEMA_TYPE = {
    **dict.fromkeys(("string", "str", "char", "character", "text", "bytes"), "string"),
    **dict.fromkeys(("integer", "int", "long", "short", "byte", "bigint"), "integer"),
    **dict.fromkeys(("number", "float", "double", "decimal"), "number"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("array", "list", "tuple", "set", "frozenset", "sequence", "iterable"), "array"),
    **dict.fromkeys(("arraylist", "queue", "collection"), "array"),
    **dict.fromkeys(("object", "dict", "mapping", "hashmap", "hashtable", "map", "ordereddict"), "object"),
    **dict.fromkeys(("null", "none", "nonetype"), "null"),
}
_ANY = {"any", "object?", ""}
_PYTHON_NAME = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "null": "None",
}


def read_type(text: str) -> tuple[dict[str, Any], bool]:
    """Reads a type name as `(schema, optional)`; unknown names become string, as 60k-set readers do.

    Example:
      >>> read_type("List[float]")
      ({'type': 'array', 'items': {'type': 'number'}}, False)
      >>> read_type("str, optional")
      ({'type': 'string'}, True)
    """
    if text in _SCHEMA_TYPE:
        return {"type": _SCHEMA_TYPE[text]}, False
    head, *rest = _split(text, ",")
    optional = any("optional" in part.lower() for part in rest)
    schema = _read(head.strip())
    if head.strip().lower().startswith(("optional[", "typing.optional[")):
        optional = True
    return schema, optional


def _read(name: str) -> dict[str, Any]:
    alternatives = [part.strip() for part in _split(name, "|")]
    if len(alternatives) > 1:
        return _union(alternatives)
    base, bracket, inner = name.partition("[")
    base = base.strip().removeprefix("typing.").lower()
    arguments = _split(inner.rpartition("]")[0], ",") if bracket else []
    arguments = [a.strip() for a in arguments if a.strip() and a.strip() != "..."]
    if base == "optional" and arguments:
        return _read(arguments[0])
    if base == "union":
        return _union(arguments)
    if base == "literal":
        return {"type": "string", "enum": [a.strip("'\"") for a in arguments]}
    if base in _ANY:
        return {}
    kind = _SCHEMA_TYPE.get(base, "string")
    if kind == "array" and arguments:
        items = [_read(a) for a in arguments]
        first = items[0]
        return {"type": "array", "items": first} if all(i == first for i in items) else {"type": "array"}
    return {"type": kind}


def _union(names: list[str]) -> dict[str, Any]:
    schemas = [_read(n) for n in names if _SCHEMA_TYPE.get(n.lower()) != "null"]
    if len(schemas) == 1:
        return schemas[0]
    if all(set(s) == {"type"} for s in schemas):
        return {"type": list(dict.fromkeys(s["type"] for s in schemas))}
    return {"anyOf": schemas}


def _split(text: str, separator: str) -> list[str]:
    """Splits at separators outside brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "[(") - (c in "])")
        if c == separator and depth <= 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def python_type(schema: dict[str, Any]) -> str:
    """The Python spelling of a JSON Schema: `List[float]`, `Union[int, str]`, `Any`, ...

    Example:
      >>> python_type({"type": "array", "items": {"type": "number"}})
      'List[float]'
    """
    kind = schema.get("type")
    if isinstance(kind, list):
        return _python_union([python_type({**schema, "type": k}) for k in kind])
    if kind is None:
        options = schema.get("anyOf") or schema.get("oneOf")
        return _python_union([python_type(o) for o in options]) if options else "Any"
    if kind == "array":
        inner = python_type(schema["items"]) if isinstance(schema.get("items"), dict) else "Any"
        return "list" if inner == "Any" else f"List[{inner}]"
    return _PYTHON_NAME.get(kind, "str")


def _python_union(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    rest = [n for n in names if n != "None"]
    inner = rest[0] if len(rest) == 1 else f"Union[{', '.join(rest)}]"
    return f"Optional[{inner}]" if "None" in names and rest else inner
