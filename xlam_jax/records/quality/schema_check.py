"""Calls against the tools they name: the paper's rule classes, by JSON Schema."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import jsonschema
from jsonschema.validators import extend

from xlam_jax.format.schema_meaning import meaning, meaning_of, pattern_check, texts_of
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.quality.references import is_reference


@dataclass(frozen=True)
class Fault:
    """What is wrong with a call.

    Attributes:
      code: `undefined_function`, `undefined_argument`, `missing_required`, `wrong_type`, `not_in_enum`, or
        `out_of_bounds` (any further rule of the schema); `unverifiable` where the schema says what cannot be
        checked.
      argument: name of the argument, "" for the call as a whole.
      detail: what was found.
    """

    code: str
    argument: str = ""
    detail: str = ""


def check_call(call: ToolCall, tools: Mapping[str, Tool], unverifiable: bool = False) -> list[Fault]:
    """Everything wrong with a call, given the tools by name; an optional argument may be left out.

    An integral float such as 5.0 is no integer here: functions and scoring rules tell them apart.

    Args:
      unverifiable: also tell where a part of an argument's schema could not be read; the rest was checked.
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
        rule = properties[name] if name in properties else _rule_of_others(name, schema)
        if rule is None:
            faults.append(Fault("undefined_argument", name, f"{call.name} has no {name}"))
            continue
        # A reference stands for a value that nobody knows yet.
        if plainly_valid(value, rule) or is_reference(value):
            continue
        faults.extend(check_value(name, value, rule, schema))
        if unverifiable:
            unread = meaning(rule, schema).unread
            faults.extend(Fault("unverifiable", name, f"{name}: {what}") for what in unread)
    together = {word: schema[word] for word in _TOGETHER if word in schema}
    if together and not any(map(is_reference, arguments.values())):
        joint_faults = check_value(call.name, arguments, {"type": "object", **together}, schema)
        faults.extend(Fault("out_of_bounds", "", fault.detail) for fault in joint_faults)
    return faults


# What the schema of all parameters says beyond each of them.
_TOGETHER = (
    *("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "minProperties", "maxProperties"),
    *("dependentRequired", "dependentSchemas", "dependencies"),
)


def _rule_of_others(name: str, schema: Mapping[str, Any]) -> Any:
    """The schema of an argument that no parameter names; None where there is none to be."""
    patterns = schema.get("patternProperties")
    for pattern, rule in patterns.items() if isinstance(patterns, dict) else ():
        check = pattern_check(pattern)
        if check and check.is_valid(name):
            return rule
    others = schema.get("additionalProperties")
    return others if isinstance(others, dict) or others is True else None


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


def _of_reference(error: Any) -> bool:
    """Whether only references inside a value keep it from its schema, in one of the ways that there are."""
    if is_reference(error.instance):
        return True
    ways = {tuple(e.relative_schema_path)[:1] for e in error.context or ()}
    bad = {tuple(e.relative_schema_path)[:1] for e in error.context or () if not _of_reference(e)}
    return bool(ways - bad)


def check_value(name: str, value: Any, schema: Any, root: Mapping[str, Any]) -> Iterator[Fault]:
    """The first fault of a value, if it has one.

    Args:
      name: of the argument, for the fault.
      schema: of the value.
      root: the schema of all parameters of the tool, which references point into.
    """
    validator = _validator(*texts_of(schema, root))
    try:
        real_errors = (error for error in validator.iter_errors(value) if not _of_reference(error))
        errors = sorted(real_errors, key=lambda e: len(e.absolute_path))[:1]
    except RecursionError:  # a value as deep as it is wrong
        return
    for error in errors:
        code = {"enum": "not_in_enum", "const": "not_in_enum"}.get(str(error.validator))
        if code is None:
            shape = ("type", "anyOf", "oneOf", "allOf", "required", "additionalProperties")
            code = "wrong_type" if error.validator in shape else "out_of_bounds"
        yield Fault(code, name, f"{name}: {error.message[:160]}")


def _is_integer(_: Any, value: Any) -> bool:
    return type(value) is int


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """Patterns are ECMA's, which Python's `re` does not read."""
    check = pattern_check(pattern)
    if isinstance(value, str) and check and not check.is_valid(value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


def _multiple_of(_: Any, step: Any, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """In decimals, as people write them: 0.07 is a multiple of 0.01, which in binary it is not."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with localcontext() as context:
            context.prec = 400
            if Decimal(repr(value)) % Decimal(repr(step)):
                yield jsonschema.ValidationError(f"{value!r} is not a multiple of {step!r}")


_Strict = extend(
    jsonschema.Draft202012Validator,
    {"pattern": _pattern, "multipleOf": _multiple_of},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


@functools.lru_cache(maxsize=65536)
def _validator(schema: str, root: str) -> Any:
    return _Strict(meaning_of(schema, root).schema)
