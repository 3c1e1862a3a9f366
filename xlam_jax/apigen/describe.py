"""What a Python module offers, read inside the walls: its functions as flat tools, and why others are left out.

Runs where the module is imported, so it uses the standard library and docstring_parser alone. A tool is what
`normalise_tool` reads: hints as text, `required` as a flag of each parameter.
"""

from __future__ import annotations

import ast
import doctest
import enum
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable
from typing import Any

import docstring_parser

_MOST_EXAMPLES = 8
_UNIONS = (typing.Union, types.UnionType)
_PLAIN = (int, float, str, bool, list, dict, tuple, set, frozenset, bytes, complex, object, type(None))


def functions_of(module: str) -> dict[str, Any]:
    """`{"tools": [...], "refused": [...]}` of the public functions of a module, in the order of its source.

    A tool has `name`, `description`, `parameters`, `function` (the name inside the module) and `examples`, the
    arguments of its doctests. A refusal has `name`, `reason` and `detail`.
    """
    imported = importlib.import_module(module)
    names = getattr(imported, "__all__", None) or [n for n in vars(imported) if not n.startswith("_")]
    top = module.partition(".")[0]
    tools, refused = [], []
    for name in names:
        function = getattr(imported, name, None)
        if not callable(function) or inspect.isclass(function):
            continue
        if (getattr(function, "__module__", "") or "").partition(".")[0] != top:
            continue
        try:
            tools.append(_tool(name, function))
        except _Refused as e:
            refused.append({"name": name, "reason": e.reason, "detail": e.detail})
    return {"tools": tools, "refused": refused}


class _Refused(Exception):
    def __init__(self, reason: str, detail: str = ""):
        self.reason, self.detail = reason, detail


def _tool(name: str, function: Callable) -> dict[str, Any]:
    text = inspect.getdoc(function) or ""
    doc = docstring_parser.parse(text)  # Google, NumPy, Sphinx or Epydoc, whichever reads most
    first, rest = doc.short_description or "", doc.long_description or ""
    if first and rest and not doc.blank_after_short_description:  # the sentence goes on in the next line
        more, _, rest = rest.partition("\n\n")
        first = f"{first} {more}"
    summary = " ".join(first.split())
    if not summary:
        raise _Refused("no_description", "no docstring")
    if inspect.iscoroutinefunction(function):
        raise _Refused("not_called_by_name", "a coroutine")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as e:
        raise _Refused("no_signature", str(e)) from e
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that exists for a type checker only
        hints = dict(getattr(function, "__annotations__", {}))
    told = {p.arg_name.lstrip("*"): p for p in doc.params}
    parameters: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise _Refused("not_called_by_name", f"{parameter.name} is positional only")
        about = told.get(parameter.name)
        schema: dict[str, Any] = {"description": " ".join(((about and about.description) or "").split())}
        if parameter.name in hints:
            schema["type"] = _hint(parameter.name, hints[parameter.name])
        elif about is not None and about.type_name:
            schema["type"] = about.type_name
        schema["required"] = parameter.default is parameter.empty
        if not schema["required"] and parameter.default is not None and _is_json(parameter.default):
            schema["default"] = parameter.default
        parameters[parameter.name] = schema
    if not parameters:
        raise _Refused("no_parameters")
    long = " ".join(rest.split())
    description = summary if not long or len(summary) + len(long) > 600 else f"{summary} {long}"
    return {
        "name": name,
        "function": name,
        "description": description,
        "parameters": parameters,
        "examples": _examples(text, name, signature),
    }


def _hint(name: str, hint: Any) -> str:
    """The hint as text; refused where no JSON value is of that type.

    Of a union, what JSON has no value for is left out: `Decimal | str` takes a string.
    """
    members = [m for m in typing.get_args(hint) if typing.get_origin(hint) in _UNIONS]
    if members:
        kept, refusal = [], None
        for member in members:
            try:
                kept.append(_hint(name, member))
            except _Refused as e:
                refusal = e
        if refusal is not None and all(k in ("None", "NoneType") for k in kept):
            raise refusal
        if refusal is not None:
            return " | ".join(kept)
    for part in _parts(hint):
        if isinstance(part, type) and part not in _PLAIN and part.__module__ != "numpy":
            kind = "an enumeration" if issubclass(part, enum.Enum) else "a class"
            raise _Refused("not_json", f"{name} takes {part.__qualname__}, {kind}")
        if typing.get_origin(part) is not None and "Callable" in str(typing.get_origin(part)):
            raise _Refused("not_json", f"{name} takes a function")
    text = hint if isinstance(hint, str) else inspect.formatannotation(hint)
    return text.replace("typing.", "").replace("collections.abc.", "")


def _parts(hint: Any) -> list[Any]:
    inner = [p for a in typing.get_args(hint) if not isinstance(a, str | int | bytes) for p in _parts(a)]
    return [hint, *inner]


def _examples(text: str, name: str, signature: inspect.Signature) -> list[dict[str, Any]]:
    """Arguments of the doctests that call the function with literals."""
    examples: list[dict[str, Any]] = []
    try:
        lines = doctest.DocTestParser().get_examples(text)
    except ValueError:
        return []
    for line in lines:
        try:
            nodes = list(ast.walk(ast.parse(line.source)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in nodes:
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called != name:
                continue
            try:
                values = [ast.literal_eval(a) for a in node.args]
                named = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
                arguments = dict(signature.bind(*values, **named).arguments)
            except (ValueError, TypeError, SyntaxError, MemoryError):
                continue
            spread = {
                p.name for p in signature.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            }
            if _is_json(arguments) and not spread & set(arguments) and arguments not in examples:
                examples.append(arguments)
    return examples[:_MOST_EXAMPLES]


def _is_json(value: Any) -> bool:
    """Whether a value comes back from JSON as it went in."""
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value and not isinstance(value, tuple)
    except (TypeError, ValueError, RecursionError):
        return False
