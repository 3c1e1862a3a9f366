"""Type names of many languages (Python, TypeScript, Go, Java, Rust, C) read into JSON Schema, and Python's written."""

from __future__ import annotations

import ast
import itertools
import re
from typing import Any

_NUMBERED = {
    **dict.fromkeys(
        (f"{sign}int{size}" for sign in ("", "u") for size in ("8", "16", "32", "64")), "integer"
    ),
    **dict.fromkeys((f"{sign}{size}" for sign in "iu" for size in ("8", "16", "32", "64", "128")), "integer"),
    **dict.fromkeys(("isize", "usize", "size_t", "biginteger", "tinyint", "smallint"), "integer"),
    **dict.fromkeys(("float16", "float32", "float64", "f32", "f64", "real", "bigdecimal", "num"), "number"),
}
# Every word here is a type in some language or data set; a word that is none demands nothing.
SCHEMA_TYPE = {
    **dict.fromkeys(("string", "str", "char", "character", "text", "bytes", "varchar"), "string"),
    **dict.fromkeys(("integer", "int", "long", "short", "byte", "bigint", "uint"), "integer"),
    **dict.fromkeys(("number", "float", "double", "decimal", "numeric"), "number"),
    **_NUMBERED,
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("array", "list", "tuple", "set", "frozenset", "sequence", "iterable"), "array"),
    **dict.fromkeys(("arraylist", "queue", "collection", "readonlyarray", "vec", "vector"), "array"),
    **dict.fromkeys(("linkedlist", "ienumerable", "ilist"), "array"),
    **dict.fromkeys(("object", "dict", "mapping", "hashmap", "hashtable", "map", "ordereddict"), "object"),
    **dict.fromkeys(("record", "dictionary", "defaultdict", "typeddict", "struct"), "object"),
    **dict.fromkeys(("null", "none", "nonetype", "nil"), "null"),
}
ANY = frozenset(("any", "unknown", "object?", "", "interface{}"))
MAYBE = ("optional", "option", "nullable", "maybe", "notrequired")
_ABSENT = ("undefined", "void")  # no values, but ways to say that there may be none
_PYTHON_NAME = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "null": "None",
}
_OPEN, _CLOSE = "[(<{", "])>}"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# A remark behind a type, such as `int (1-10)`; `list(str)` has no blank there.
_REMARK = re.compile(r"\s+\([^()]*\)\s*$")
_OR = re.compile(r"\A(?:or|and)\s+(?:an?\s+)?", re.I)
_WORD = re.compile(r"[A-Za-z_][\w.]*")
_MODULE = re.compile(
    r"(typing|t|collections(\.abc)?|builtins|java\.(lang|util|math)|std:|(np|numpy)(?=\.(u?int|float|bool|str)))[.:]"
)
# What stands before a type and leaves its kind: marks of Go, Rust and PHP, and words.
_BEFORE = re.compile(
    r"[*&?]\s*|(readonly|const|final|unsigned|signed|positive|negative|non-?negative|nullable|optional)\s+",
    re.I,
)
_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"|[+-]?\d+(\.\d+)?|true|false", re.I)


def read_type(text: str) -> tuple[dict[str, Any], bool]:
    """Reads a type name as `(schema, optional)`; a name that nobody knows is `{}`: no constraint.

    Example:
      >>> read_type("List[float]")
      ({'type': 'array', 'items': {'type': 'number'}}, False)
      >>> read_type("str, optional")
      ({'type': 'string'}, True)
      >>> read_type("np.ndarray")
      ({}, False)
    """
    if text in SCHEMA_TYPE:
        return {"type": SCHEMA_TYPE[text]}, False
    head, *rest = _split(text, ",")
    optional = any("optional" in part.lower() for part in rest)
    if re.search(r"\(\s*optional\s*\)", head, re.IGNORECASE):
        optional = True
    head, *others = _names(text)
    if head.endswith("?") and head.lower() not in ANY:
        head, optional = head[:-1].strip(), True
    optional |= head[:1] == "?" or head.lower().startswith("optional ") or _applied(head)[0] in MAYBE
    return _union([head, *others]) if others else _read(head), optional


def _names(text: str) -> list[str]:
    """The types that a text lists, without the default and the remark behind them.

    `int (1-10)` and `str, optional` are one type; `str, int` and `string (or integer)` are two.
    """
    head, *listed = _split(text, ",")
    if "=>" not in head:
        head = _split(head, "=")[0]
    remark = _REMARK.search(head)
    head = _REMARK.sub("", head).strip()
    return [head, *_others(head, [remark[0].strip()[1:-1]] if remark else [], True), *_others(head, listed)]


def _others(head: str, parts: list[str], remarks: bool = False) -> list[str]:
    """The types among what stands behind one, and `any` for those that cannot be read; plain words are none.

    A type in brackets tells a scalar more closely, as in `integer (int64)`; where it is another one, either may be
    meant. A list's or an object's is that of its items.
    """
    types = []
    for part in parts:
        part = _split(part, "=")[0].strip()
        name = _OR.sub("", part, count=1).strip()
        first, read = _read(head).get("type"), _read(name)
        if name.lower() == "nullable":
            types.append("null")
        elif remarks and name == part:
            inner = read.get("type", first)
            if isinstance(first, str) and first not in ("array", "object"):
                types += ["any"] if inner != first and (first, inner) != ("number", "integer") else []
        elif read or (name and name.lower() in ANY):
            types.append(name)
        elif name != part:
            types.append("any")
    return types


def unread_type(text: str) -> bool:
    """Whether a type name says something that `read_type` cannot: an unknown word, or a remark."""
    remark = _REMARK.search(text)
    if remark and remark[0].strip().lower() != "(optional)" and len(_names(text)) == 1:
        return True
    bare = _QUOTED.sub("", _BEFORE.sub("", text))
    known = (*SCHEMA_TYPE, *ANY, *MAYBE, *_ABSENT, "true", "false", "interface")
    known += ("union", "literal", "or", "of", "typing", "enum", "std")
    words = (w.lower().split(".")[-1] for w in _WORD.findall(bare))
    return any(word not in known and word.removesuffix("s") not in SCHEMA_TYPE for word in words)


def null_type(text: str) -> bool:
    """Whether a type name lets null be a value: `Optional[int]`, `int | None`, `int?`."""
    return any(map(_takes_null, _names(text)))


def _takes_null(name: str) -> bool:
    if (name.endswith("?") and name.lower() not in ANY) or re.match(r"(?i)\?|(nullable|optional)\s", name):
        return True
    base, arguments = _applied(name)
    parts = [p.strip() for s in ("|", " or ") for p in _split(name, s)]
    parts += arguments if base == "union" else []
    return base in MAYBE or any(SCHEMA_TYPE.get(part.lower()) == "null" for part in parts)


def _read(name: str) -> dict[str, Any]:
    """The schema of one type expression."""
    if "=>" in name:  # a function
        return {}
    for separator in ("|", " or "):
        alternatives = [part.strip() for part in _split(name, separator)]
        if len(alternatives) > 1:
            return _union(alternatives)
    if match := _BEFORE.match(name):
        return _read(name[match.end() :].strip())
    if match := re.match(r"\[\d*\](?=[^\s\[]|\[)", name):  # Go's []string
        return _array([_item(name[match.end() :].strip())])
    if match := re.fullmatch(
        r"(?!(?i:literal|enum)\[[^\]]*\]\Z)(.*\S)\s*(\[\d*\]|\s(?i:array|list))", name
    ):  # int[], string[][], int[3]
        return _array([_item(match[1])])
    if name.endswith("?") and name.lower() not in ANY:
        return _read(name[:-1].strip())
    if match := re.fullmatch(r"'[^']*'|\"[^\"]*\"", name):
        return _literal([name])
    if name[:1] == "(" and name[-1:] == ")":
        return _read(name[1:-1].strip())
    if name[:1] == "[" and name[-1:] == "]":  # TypeScript's tuples
        return _array(items) if all(items := [_read(p.strip()) for p in _split(name[1:-1], ",")]) else {}
    base, arguments = _applied(name)
    if base in (*MAYBE, "annotated", "required", "classvar") and arguments:
        return _read(arguments[0])
    if base == "union":
        return _union(arguments)
    if base in ("literal", "enum") and arguments:
        return _choices(base, arguments)
    kind = SCHEMA_TYPE.get(base) or SCHEMA_TYPE.get(base.removesuffix("s"))
    if kind is None:
        return {}
    if kind not in ("array", "object") and (others := _others(base, arguments, True)):
        return _union([base, *others])
    inner = [_item(a) for a in arguments]
    if kind == "array" and inner:
        return _array(inner)
    if kind == "object" and len(inner) == 2 and inner[1]:
        return {"type": "object", "additionalProperties": inner[1]}
    return {"type": kind}


def _item(name: str) -> dict[str, Any]:
    """`_inner`, where Java's and C#'s Object is anything."""
    return {} if name == "Object" else _inner(name)


def _inner(name: str) -> dict[str, Any]:
    """The schema of one item or value, which may be null where its type says so; a parameter says it elsewhere."""
    schema = _read(name)
    if not schema or not null_type(name) or schema == {"type": "null"}:
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    schema = {**schema, "type": [*kinds, *(["null"] if "null" not in kinds else [])]}
    return (
        {**schema, "enum": [*schema["enum"], None]}
        if "enum" in schema and None not in schema["enum"]
        else schema
    )


def _applied(name: str) -> tuple[str, list[str]]:
    """`List[int]`, `Array<number>`, `list(str)` and `array of int` as the word and what it is applied to."""
    if match := re.fullmatch(r"(?i)(array|list|set|sequence|tuple)s?\s+of\s+(.+)", name):
        return match[1].lower(), [match[2].strip()]
    if match := re.fullmatch(r"(?i)map\[([^\[\]]*)\](.+)", name):  # Go
        return "map", [match[1].strip(), match[2].strip()]
    at = min((i for i in map(name.find, "[(<") if i >= 0), default=-1)
    base = (name if at < 0 else name[:at]).strip().lower()
    base = _MODULE.sub("", base, count=1) if _MODULE.match(base) else base
    base = {"long long": "long", "long int": "int"}.get(base, base)
    inner = name[at + 1 :].rstrip() if at >= 0 else ""
    inner = inner[:-1] if inner.endswith((")", "]", ">")) else inner
    arguments = [a.strip() for a in _split(inner, ",")]
    return base, [a for a in arguments if a and a != "..."]


def _array(items: list[dict[str, Any]]) -> dict[str, Any]:
    first = items[0]
    return (
        {"type": "array", "items": first} if first and all(i == first for i in items) else {"type": "array"}
    )


def _choices(base: str, arguments: list[str]) -> dict[str, Any]:
    """What an enumeration is applied to: its choices, the type of its members, or its class, which says nothing."""
    types = [SCHEMA_TYPE.get(a.lower()) not in (None, "null") for a in arguments]
    if len(arguments) == 1 and (types[0] or (base == "enum" and arguments[0].isidentifier())):
        return {"type": SCHEMA_TYPE[arguments[0].lower()]} if types[0] else {}
    return {} if all(types) else _literal(arguments)


def _literal(texts: list[str]) -> dict[str, Any]:
    """The choices with the type they share; a word without quotes is a text."""
    values: list[Any] = []
    for text in texts:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = {"true": True, "false": False, "null": None}.get(text.lower(), text)
        if value is not None and not isinstance(value, str | int | float | bool):
            return {}
        values.append(value)
    kinds = list(dict.fromkeys(_KIND[type(v)] for v in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


_KIND = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _union(names: list[str]) -> dict[str, Any]:
    if not names:  # of nobody knows what
        return {}
    names = [n for n in names if SCHEMA_TYPE.get(n.lower()) != "null" and n.lower() not in _ABSENT]
    if names and all(map(_LITERAL.fullmatch, names)):
        return _literal(names)
    schemas = [_read(n) for n in names]
    if not schemas:
        return {"type": "null"}
    if len(schemas) == 1:
        return schemas[0]
    if not all(schemas):  # one that may be anything
        return {}
    if all(set(s) == {"type"} for s in schemas):
        kinds = [s["type"] if isinstance(s["type"], list) else [s["type"]] for s in schemas]
        kinds = list(dict.fromkeys(itertools.chain(*kinds)))
        return {"type": kinds if len(kinds) > 1 else kinds[0]}
    return {"anyOf": schemas}


def _split(text: str, separator: str) -> list[str]:
    """Splits at separators outside brackets and quotes."""
    parts, depth, start, quote, i = [], 0, 0, "", 0
    while i < len(text):
        c = text[i]
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c if text.find(c, i + 1) >= 0 else ""
        elif depth <= 0 and text[i : i + len(separator)].lower() == separator:
            parts.append(text[start:i])
            i += len(separator)
            start = i
            continue
        else:
            depth += (c in _OPEN) - (c in _CLOSE)
        i += 1
    return [*parts, text[start:]]


def python_type(schema: Any) -> str:
    """The Python spelling of a JSON Schema: `List[float]`, `Union[int, str]`, `Any`, ...

    Example:
      >>> python_type({"type": "array", "items": {"type": "number"}})
      'List[float]'
    """
    if not isinstance(schema, dict):
        return "Any"
    kind = schema.get("type")
    if isinstance(kind, list):
        return _python_union([python_type({**schema, "type": k}) for k in kind])
    if kind is None:
        options = schema.get("anyOf") or schema.get("oneOf")
        return _python_union([python_type(o) for o in options]) if options else "Any"
    if kind == "array":
        inner = python_type(schema["items"]) if isinstance(schema.get("items"), dict) else "Any"
        return "list" if inner == "Any" else f"List[{inner}]"
    return _PYTHON_NAME.get(kind, "Any") if isinstance(kind, str) else "Any"


def _python_union(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    rest = [n for n in names if n != "None"]
    inner = rest[0] if len(rest) == 1 else f"Union[{', '.join(rest)}]" if rest else "None"
    return f"Optional[{inner}]" if "None" in names and rest else inner
