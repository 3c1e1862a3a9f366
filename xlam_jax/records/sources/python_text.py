"""Calls written as Python source, read without running anything."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from xlam_jax.format.values import ToolCall
from xlam_jax.records.sources.values import Refused

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def python_call(text: str, parameters: Mapping[str, Sequence[str]] | None = None) -> ToolCall:
    """`f(a=1, b="x")` as a call; the function's name may be dotted, a bare word is read as text.

    Args:
      parameters: names by function, in order, for source that was made to be run: arguments may stand by
        place there, and numbers as a sum or a product (`1/6`, which elsewhere may be a date).

    Raises:
      Refused: `bad_call` for anything but one call with keyword arguments of literals.

    Example:
      >>> python_call("geo.near(at=(1, -2.5), unit='km')")
      ToolCall(name='geo.near', arguments={'at': [1, -2.5], 'unit': 'km'})
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call):
            raise ValueError("not one call with keyword arguments")
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("arguments behind **")
        name = _name(node.func)
        given = dict(zip((parameters or {}).get(name, ()), node.args, strict=False))
        named = {str(keyword.arg): keyword.value for keyword in node.keywords}
        if len(given) < len(node.args) or given.keys() & named.keys():
            raise ValueError("not one call with keyword arguments")
        read = _value if parameters is None else _computed
        return ToolCall(name, {key: read(value) for key, value in (given | named).items()})
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


def _computed(node: ast.expr) -> Any:
    return _value(_Arithmetic().visit(node))


class _Arithmetic(ast.NodeTransformer):
    """Puts the number in the place of what is computed from two."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        compute = _OPERATORS.get(type(node.op))
        sides = [_value(node.left), _value(node.right)]
        if compute is None or not all(type(side) in (int, float) for side in sides):
            return node
        try:
            computed = compute(*sides)
        except (ZeroDivisionError, OverflowError):
            return node
        return ast.Constant(computed) if math.isfinite(computed) else node


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
