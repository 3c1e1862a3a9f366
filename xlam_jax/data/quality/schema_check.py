"""Calls against the tools they name: the paper's rule classes, by JSON Schema."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

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
    """Everything wrong with a call, given the tools by name; an optional argument may be left out."""
    tool = tools.get(call.name)
    if tool is None:
        near = [name for name in tools if name.lower() == call.name.lower()]
        return [Fault("undefined_function", "", f"{call.name} (offered: {near[0]})" if near else call.name)]
    schema = tool.parameters
    properties = schema.get("properties") or {}
    faults = [
        Fault("missing_required", name, f"{call.name} needs {name}")
        for name in schema.get("required") or ()
        if name not in call.arguments
    ]
    for name, value in call.arguments.items():
        if name in properties:
            faults.extend(_check_value(name, value, properties[name], schema))
        elif not schema.get("additionalProperties"):
            faults.append(Fault("undefined_argument", name, f"{call.name} has no {name}"))
    return faults


def _check_value(name: str, value: Any, schema: Any, root: dict[str, Any]) -> Iterator[Fault]:
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
        yield Fault(code, name, error.message[:160])


@functools.lru_cache(maxsize=65536)
def _validator(schema: str) -> Any:
    """None for a schema that is none: it then demands nothing."""
    parsed = json.loads(schema)
    try:
        jsonschema.Draft202012Validator.check_schema(parsed)
    except jsonschema.SchemaError:
        return None
    return jsonschema.Draft202012Validator(parsed)
