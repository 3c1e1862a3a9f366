"""Calls written inside text, read tolerantly but never guessed: literals, tagged JSON, Python-like lists."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterator
from typing import Any

from xlam_jax.format.thinking import spoken
from xlam_jax.format.values import check_json
from xlam_jax.records.sources.values import Refused

# What a text must look like to be a list of calls and not, say, a footnote: `[name(` ... `)]`.
_CALL_LIST = re.compile(r"\[\s*[^\[\]{}()'\"=]+\(.*\)\s*,?\s*\]", re.DOTALL)
_NAME = re.compile(r"[^\[\]{}()'\"=]+")
_WORDS = {"true": True, "false": False, "null": None}


def literal(text: str) -> Any:
    """The value of a JSON text or a Python literal; tuples become lists, `true` and such are read in both.

    Raises:
      Refused: `bad_call`.
    """
    try:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in a plain string: Python warns, the value is clear
                value = _value(ast.parse(text.strip(), mode="eval").body)
        check_json(value)
        return value
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as e:
        raise Refused("bad_call", f"{text.strip()[:80]!r}: {e}") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Dict):
        keys = [_value(key) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise ValueError("keys that are no different strings")
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _value(node.operand)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError("a sign before no number")
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.Constant) and (
        node.value is None or isinstance(node.value, str | bool | int | float)
    ):
        return node.value
    raise ValueError(f"{type(node).__name__} is no value")


def tagged(text: str, tag: str) -> tuple[str, list[str]]:
    """The text outside `<tag>...</tag>`, and what is inside of each; thinking at the head may name the tag.

    Raises:
      Refused: `bad_call` for a tag without its partner.
    """
    rest = spoken(text)
    outside, inside = [text[: len(text) - len(rest)]], []
    opening, closing = f"<{tag}>", f"</{tag}>"
    while opening in rest:
        before, _, rest = rest.partition(opening)
        body, closed, rest = rest.partition(closing)
        if not closed or opening in body:
            raise Refused("bad_call", f"{opening} without {closing}")
        outside.append(before)
        inside.append(body.strip())
    outside.append(rest)
    if any(closing in part for part in outside[1:]):
        raise Refused("bad_call", f"{closing} without {opening}")
    return "\n".join(part.strip() for part in outside if part.strip()), inside


def is_call_list(text: str, names: Collection[str] = ()) -> bool:
    """Whether a text is meant as `[f(a=1), ...]`: it has that shape, or it begins with a tool's call."""
    text = text.strip()
    return bool(_CALL_LIST.fullmatch(text)) or any(text.startswith(f"[{name}(") for name in names)


def call_list(text: str, names: Collection[str] = ()) -> list[dict[str, Any]]:
    """Reads `[f(a=1), Get Weather(city="x")]` as `{name, arguments}` each.

    Names may be any text up to the bracket, arguments' names any text up to the equals sign.

    Args:
      names: of the tools at hand; one of them is taken before any other reading, so that a name may hold
        brackets.

    Raises:
      Refused: `bad_call` for anything else, such as positional arguments.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise Refused("bad_call", f"no list of calls: {text[:80]!r}")
    calls, at, end = [], 1, len(text) - 1
    while rest := text[at:end].strip():
        at = end - len(text[at:end].lstrip())
        name = _call_name(rest, names)
        start = text.index("(", at + len(name)) + 1
        close = next((i for i, depth in _outside_strings(text, start) if depth < 0), -1)
        if not 0 <= close < end:
            raise Refused("bad_call", f"no end of {rest[:80]!r}")
        calls.append({"name": name, "arguments": _arguments(text[start:close])})
        between = text[close + 1 : end].lstrip()
        if between and not between.startswith(","):
            raise Refused("bad_call", f"between calls: {between[:80]!r}")
        at = end - len(between) + 1 if between else end
    return calls


def _call_name(text: str, names: Collection[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        if text.startswith(name) and text[len(name) :].lstrip().startswith("("):
            return name
    match = _NAME.match(text)
    if not match or not text[match.end() :].startswith("(") or not match[0].strip():
        raise Refused("bad_call", f"no name in {text[:80]!r}")
    return match[0].rstrip()


def _arguments(text: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    commas = [i for i, depth in _outside_strings(text, 0) if text[i] == "," and depth == 0]
    starts = [0, *(i + 1 for i in commas)]
    for start, end in zip(starts, [*commas, len(text)], strict=True):
        part = text[start:end]
        if not part.strip() and end == len(text):
            break
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key or key in arguments or any(c in key for c in "'\"[{("):
            raise Refused("bad_call", f"no argument: {part.strip()[:80]!r}")
        arguments[key] = literal(value)
    return arguments


def _outside_strings(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Positions of commas and closing brackets outside quotes, and the depth after each."""
    depth, quote, skip = 0, "", False
    for i in range(start, len(text)):
        c = text[i]
        if skip:
            skip = False
        elif quote:
            skip = c == "\\"
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            yield i, depth
        elif c == ",":
            yield i, depth


def json_values(text: str) -> tuple[list[Any], str]:
    """JSON values one after the other at the start of `text` (commas between them allowed), and the rest."""
    values, decoder = [], json.JSONDecoder()
    text = text.strip()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            break
        values.append(value)
        text = text[end:].lstrip(" \t\r\n,")
    return values, text
