"""Calls written as Python source, read without running anything."""

from __future__ import annotations

import ast
from typing import Any

from xlam_jax.data.sources.values import Refused
from xlam_jax.format.values import ToolCall


def python_call(text: str) -> ToolCall:
    """`f(a=1, b="x")` as a call; the function's name may be dotted, a bare word is read as text.

    Raises:
      Refused: `bad_call` for anything but one call with keyword arguments of literals.

    Example:
      >>> python_call("geo.near(at=(1, -2.5), unit='km')")
      ToolCall(name='geo.near', arguments={'at': [1, -2.5], 'unit': 'km'})
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or node.args:
            raise ValueError("not one call with keyword arguments")
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("arguments behind **")
        arguments = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
        return ToolCall(_name(node.func), arguments)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise Refused("bad_call", f"{text[:120]!r}: {e}") from None


def python_value(text: str) -> Any:
    """A Python literal as a JSON value: tuples and sets become lists.

    Raises:
      Refused: `bad_literal`.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise Refused("bad_literal", f"{text[:120]!r}: {e}") from None


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("the function is no name")


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        if all(isinstance(key, str) for key in keys):
            return dict(zip(map(str, keys), map(_value, node.values), strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError(f"{ast.unparse(node)[:60]} is no literal")
