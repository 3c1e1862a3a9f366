"""JSON values as Python literals, and back without evaluating anything."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from xlam_jax.format.call_formats.base import DECODER
from xlam_jax.format.call_formats.reading import TextSource

# A fixed list and not the module `keyword`, so that every Python and the Jinja template agree.
KEYWORDS = frozenset(
    re.findall(
        r"\S+",
        "False None True and as assert async await break class continue def del elif else except finally for "
        "from global if import in is lambda nonlocal not or pass raise return try while with yield __debug__",
    )
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONSTANTS = {"true": True, "false": False, "null": None}


def is_identifier(text: str) -> bool:
    """Whether the text is an ASCII identifier and no keyword."""
    return _IDENTIFIER.fullmatch(text) is not None and text not in KEYWORDS


def python_value(value: Any) -> str:
    """A checked JSON value as a Python literal."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_value(k)}: {python_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(python_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def read_literal(source: TextSource, text: str) -> Any:
    """The value that JSON or Python text stands for; ParseError where it is neither."""
    text = text.strip()
    if not text:
        source.fail("an argument has no value")
    try:
        value, end = DECODER.raw_decode(text)
        if end == len(text):
            return value
    except RecursionError:
        source.fail("values are nested too deeply")
    except ValueError:
        pass  # no JSON: Python constants, single quotes, tuples
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in a model's strings
            return _literal(ast.parse(f"({text})", mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        source.fail(f"no Python literal: {e}")


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None | bool() | str() | int()):
            return node.value
        case ast.Constant(value=float() as number) if number - number == 0.0:
            return number
        case ast.Name(id=("true" | "false" | "null") as word):
            return _CONSTANTS[word]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
            not isinstance(number, bool) and number - number == 0
        ):
            return -number
        case ast.List() | ast.Tuple():
            return [_literal(item) for item in node.elts]
        case ast.Dict():
            out: dict[str, Any] = {}
            for key, value in zip(node.keys, node.values, strict=True):
                if not isinstance(key, ast.Constant) or not isinstance(key.value, str) or key.value in out:
                    raise ValueError("a key that is no text, or is given twice")
                out[key.value] = _literal(value)
            return out
    raise ValueError(f"a {type(node).__name__} is no JSON value")
