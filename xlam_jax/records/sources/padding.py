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
from xlam_jax.format.schema_meaning import resolved
from xlam_jax.format.values import ToolCall
from xlam_jax.records.quality.schema_check import check_value

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
        schema = schemas.get(call.name, {})
        return ToolCall(call.name, _clean(call.arguments, schema, schema))

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


def _clean(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    parts = list(_parts(schema, root))
    if isinstance(value, list):
        items = next((part["items"] for part in parts if "items" in part), None)
        return [_clean(item, items, root) for item in value]
    if not isinstance(value, dict):
        return value
    known = [(part, part["properties"]) for part in parts if isinstance(part.get("properties"), dict)]

    def demanded(name: str) -> bool:
        return any(
            name in (part.get("required") or ()) and _takes_null(properties.get(name, {}), root)
            for part, properties in known
        )

    def of(name: str) -> Any:
        return next((properties[name] for _, properties in known if name in properties), None)

    return {
        name: _clean(item, of(name), root)
        for name, item in value.items()
        if item is not None or demanded(name)
    }


def _parts(schema: Any, root: Mapping[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """A schema behind its references, and those it is made of."""
    if not isinstance(schema, dict) or depth > 8:
        return
    schema = resolved(schema, root)
    yield schema
    for word in ("anyOf", "oneOf", "allOf"):
        for child in schema.get(word) or ():
            yield from _parts(child, root, depth + 1)


def _takes_null(schema: Any, root: Mapping[str, Any]) -> bool:
    return next(check_value("", None, schema, root), None) is None
