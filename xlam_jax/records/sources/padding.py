"""Nulls that a typed table put where a row had nothing.

A table with one type for all rows (Parquet, Arrow, and JSON written from one) gives every call the arguments of
all functions, null where it has none. In such a row a null argument is an absent one, unless the function
demands it and takes null. That a row comes from such a table is known, or seen from nulls for arguments which
the called function does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from xlam_jax.format.pair import Pair
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import ToolCall

NOTE = "cut_null_padding"


def unpadded(made: Any, typed: bool) -> Any:
    """A Record or Pair without the padding of its calls; anything else as it is.

    Args:
      typed: whether the row comes from a typed table.
    """
    if isinstance(made, Pair):
        chosen = unpadded(made.chosen, typed)
        (rejected,) = _steps(chosen, (made.rejected,), typed)
        return replace(made, chosen=chosen, rejected=rejected)
    if not isinstance(made, Record):
        return made
    steps = _steps(made, made.steps, typed)
    return made if steps is made.steps else replace(made, steps=steps, lineage=(*made.lineage, NOTE))


def _steps(record: Record, steps: tuple[Step, ...], typed: bool) -> tuple[Step, ...]:
    # Most rows have no null at all, and stay the very objects that they are.
    if not any(_has_null(call.arguments) for step in steps for call in step.tool_calls):
        return steps
    schemas = {tool.name: tool.parameters for tool in record.tools}
    if not typed and not any(_is_padded(call, schemas) for step in steps for call in step.tool_calls):
        return steps

    def clean(call: ToolCall) -> ToolCall:
        return ToolCall(call.name, _clean(call.arguments, schemas.get(call.name, {})))

    made = tuple(replace(step, tool_calls=tuple(map(clean, step.tool_calls))) for step in steps)
    return steps if made == steps else made


def _has_null(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_null, value.values() if isinstance(value, dict) else value))
    return value is None


def _is_padded(call: ToolCall, schemas: Mapping[str, Any]) -> bool:
    schema = schemas.get(call.name)
    if schema is None or schema.get("additionalProperties"):
        return False
    known = schema.get("properties") or {}
    return any(value is None and name not in known for name, value in call.arguments.items())


def _clean(value: Any, schema: Any) -> Any:
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, list):
        return [_clean(item, schema.get("items")) for item in value]
    if not isinstance(value, dict):
        return value
    properties, required = schema.get("properties"), schema.get("required")
    properties = properties if isinstance(properties, dict) else {}
    demanded = required if isinstance(required, list) else ()
    return {
        name: _clean(item, properties.get(name))
        for name, item in value.items()
        if item is not None or (name in demanded and _takes_null(properties.get(name)))
    }


def _takes_null(schema: Any) -> bool:
    return any(kind == "null" or kind is None for kind in _kinds(schema))


def _kinds(schema: Any) -> Iterator[Any]:
    """Names of types, and choices that are null."""
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    yield from kind if isinstance(kind, list) else [kind or ""]
    choices = schema.get("enum")
    if (isinstance(choices, list) and None in choices) or ("const" in schema and schema["const"] is None):
        yield None
    if schema.get("nullable") is True:
        yield "null"
    for word in ("anyOf", "oneOf"):
        for child in schema.get(word) or ():
            yield from _kinds(child)
