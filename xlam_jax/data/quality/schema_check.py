"""Calls against the tools they name: the paper's rule classes, by JSON Schema."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema
from jsonschema.validators import extend

from xlam_jax.data.quality.references import is_reference
from xlam_jax.format.values import Tool, ToolCall


@dataclass(frozen=True)
class Fault:
    """What is wrong with a call.

    Attributes:
      code: `undefined_function`, `undefined_argument`, `missing_required`, `wrong_type`, `not_in_enum`, or
        `out_of_bounds` (any further rule of the schema).
      argument: name of the argument, "" for the call as a whole.
      detail: what was found.
    """

    code: str
    argument: str = ""
    detail: str = ""


def check_call(call: ToolCall, tools: Mapping[str, Tool]) -> list[Fault]:
    """Everything wrong with a call, given the tools by name; an optional argument may be left out.

    An integral float such as 5.0 is no integer here: functions and scoring rules tell them apart.
    """
    tool = tools.get(call.name)
    if tool is None:
        near = [name for name in tools if name.lower() == call.name.lower()]
        return [Fault("undefined_function", "", f"{call.name} (offered: {near[0]})" if near else call.name)]
    schema, arguments = tool.parameters, call.arguments
    properties = schema.get("properties") or {}
    faults = [
        Fault("missing_required", name, f"{call.name} needs {name}")
        for name in schema.get("required") or ()
        if name not in arguments
    ]
    for name, value in arguments.items():
        if name in properties:
            # A reference stands for a value that nobody knows yet.
            if not plainly_valid(value, properties[name]) and not is_reference(value):
                faults.extend(check_value(name, value, properties[name], schema))
        elif not schema.get("additionalProperties"):
            faults.append(Fault("undefined_argument", name, f"{call.name} has no {name}"))
    return faults


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_SILENT = frozenset(("description", "default", "title", "examples", "example", "format"))


def plainly_valid(value: Any, schema: Any) -> bool:
    """Whether a value keeps a schema of common words, without the cost of a validator.

    False means "ask `check_value`": the value is wrong, or the schema says more than this reads.
    """
    if not isinstance(schema, dict):
        return False
    for word, rule in schema.items():
        if word in _SILENT:
            continue
        if word == "type":
            # `type(value)` and not isinstance: True is no integer.
            if not isinstance(rule, str) or type(value) not in _TYPES.get(rule, ()):
                return False
        elif word == "enum":
            if type(value) is not str or value not in rule:
                return False
        elif word == "items" and type(value) is list:
            if not all(plainly_valid(item, rule) for item in value):
                return False
        elif word == "properties" and type(value) is dict:
            if not all(name not in rule or plainly_valid(v, rule[name]) for name, v in value.items()):
                return False
        elif word == "required" and type(value) is dict and type(rule) is list:
            if not all(name in value for name in rule):
                return False
        elif word == "minimum" and type(value) in (int, float) and type(rule) in (int, float):
            if value < rule:
                return False
        elif word == "maximum" and type(value) in (int, float) and type(rule) in (int, float):
            if value > rule:
                return False
        else:
            return False
    return True


def settled(schema: Any) -> Any:
    """A schema whose type and choices contradict each other, read as it was meant; any other as it is.

    Choices of a list that are no lists are the choices of its items; choices of a number that are texts are
    those numbers.
    """
    if not isinstance(schema, dict) or not isinstance(choices := schema.get("enum"), list) or not choices:
        return schema
    kind = schema.get("type")
    if kind == "array" and not any(isinstance(c, list) for c in choices):
        rest = {k: v for k, v in schema.items() if k != "enum"}
        items = rest.get("items")
        items = items if isinstance(items, dict) else {}
        return {**rest, "items": {**items, "enum": choices}}
    if kind in ("integer", "number") and any(isinstance(c, str) for c in choices):
        return {**schema, "enum": [_as_number(c, kind) for c in choices]}
    return schema


def _as_number(choice: Any, kind: str) -> Any:
    try:
        return int(choice) if kind == "integer" else float(choice)
    except (ValueError, TypeError):
        return choice


def check_value(name: str, value: Any, schema: Any, root: Mapping[str, Any]) -> Iterator[Fault]:
    """The first fault of the value of argument `name`; `root` is the schema of all parameters of the tool."""
    schema = settled(schema)
    # Definitions stand at the root, and a parameter's schema may point there.
    shared = {k: root[k] for k in ("$defs", "definitions") if k in root}
    validator = _validator(json.dumps({**schema, **shared} if isinstance(schema, dict) else schema))
    if validator is None:
        return
    try:
        errors = sorted(validator.iter_errors(value), key=lambda e: len(e.absolute_path))[:1]
    except Exception:  # an unresolvable reference or a malformed keyword shows only when it is met
        return
    for error in errors:
        code = {"enum": "not_in_enum", "const": "not_in_enum"}.get(str(error.validator))
        if code is None:
            shape = ("type", "anyOf", "oneOf", "allOf", "required", "additionalProperties")
            code = "wrong_type" if error.validator in shape else "out_of_bounds"
        yield Fault(code, name, f"{name}: {error.message[:160]}")


def _is_integer(_: Any, value: Any) -> bool:
    return type(value) is int


_Strict = extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


@functools.lru_cache(maxsize=65536)
def _validator(schema: str) -> Any:
    """None for a schema that is none: it then demands nothing."""
    parsed = json.loads(schema)
    try:
        jsonschema.Draft202012Validator.check_schema(parsed)
    except jsonschema.SchemaError:
        return None
    return _Strict(parsed)
