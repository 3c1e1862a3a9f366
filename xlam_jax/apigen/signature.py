"""Signature, type hints and docstring of a function <-> the JSON Schema of a tool.

The mapping is one to one over the hints below, so the hints can be read back from the schema:

  int float str bool            integer number string boolean
  list[T]  dict[str, T]         array with items, object with additionalProperties
  Literal["a", "b"]             string with enum
  T | None = None               T, not required, without a default
  T = value                     T with a default, not required
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

import docstring_parser

from xlam_jax.errors import InputError
from xlam_jax.format import Tool

_SCALARS: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean"}
_HINTS = {name: hint for hint, name in _SCALARS.items()}


def tool_from_function(function: Callable, name: str = "") -> Tool:
    """Describes a function as a Tool, from nothing but its signature, hints and Google-style docstring.

    Args:
      function: a plain function whose parameters are all typed and described.
      name: public name, when it is not the function's own.

    Raises:
      InputError: a parameter without hint or description, a hint outside the table above, no summary line.
    """
    where = f"{function.__module__}.{function.__qualname__}"
    doc = docstring_parser.parse(function.__doc__ or "", style=docstring_parser.DocstringStyle.GOOGLE)
    if not doc.short_description:
        raise InputError("function without a docstring", where=where, hint="give it a one-line summary")
    told = {p.arg_name: " ".join((p.description or "").split()) for p in doc.params}
    hints = typing.get_type_hints(function)
    properties, required = {}, []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(f"parameter {parameter.name!r} cannot be passed by keyword", where=where)
        if parameter.name not in hints:
            raise InputError(f"parameter {parameter.name!r} has no type hint", where=where)
        if not told.get(parameter.name):
            raise InputError(
                f"parameter {parameter.name!r} is not described",
                where=where,
                hint="add it to the Args section",
            )
        hint, optional = _unwrap(hints[parameter.name])
        schema = {**schema_from_hint(hint, where), "description": told[parameter.name].rstrip(".")}
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif not (optional and parameter.default is None):
            schema["default"] = parameter.default
        properties[parameter.name] = schema
    parameters = {"type": "object", "properties": properties, "required": required}
    return Tool(name or function.__name__, doc.short_description, parameters)


def schema_from_hint(hint: Any, where: str = "") -> dict[str, Any]:
    """JSON Schema of one hint; InputError names a hint that has none."""
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    origin, args = get_origin(hint), get_args(hint)
    if origin is list and len(args) == 1:
        return {"type": "array", "items": schema_from_hint(args[0], where)}
    if origin is dict and len(args) == 2 and args[0] is str:
        return {"type": "object", "additionalProperties": schema_from_hint(args[1], where)}
    if origin is Literal and all(isinstance(a, str) for a in args):
        return {"type": "string", "enum": list(args)}
    raise InputError(
        f"no JSON Schema for the hint {hint!r}",
        where=where,
        hint="use int, float, str, bool, list[T], dict[str, T] or Literal of strings",
    )


def hints_from_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    """Reads the type hints back: the inverse of `tool_from_function` over one tool's `parameters`."""
    required = parameters.get("required", ())
    hints = {}
    for name, schema in parameters.get("properties", {}).items():
        hint = hint_from_schema(schema)
        hints[name] = hint if name in required or "default" in schema else hint | None
    return hints


def hint_from_schema(schema: dict[str, Any]) -> Any:
    """The hint of one parameter's schema: the inverse of `schema_from_hint`."""
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    kind = schema.get("type")
    if kind == "array":
        return list[hint_from_schema(schema["items"])]
    if kind == "object":
        return dict[str, hint_from_schema(schema["additionalProperties"])]
    if kind not in _HINTS:
        raise InputError(f"no hint for the schema {schema!r}")
    return _HINTS[kind]


def _unwrap(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        rest = [a for a in get_args(hint) if a is not type(None)]
        return (rest[0] if len(rest) == 1 else hint), True
    return hint, False


def words_of(name: str) -> str:
    """Splits a name of any style into lower-case words: `loan.monthlyPayment` -> `loan monthly payment`."""
    return " ".join(re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)).lower()
