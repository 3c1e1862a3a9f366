"""Order shuffles: what is said stays, where it stands changes.

A shuffle that could not change anything (one tool, no parameters) is not applicable; one that can always
does, so that the rates are those of visible changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.augment.context import Context
from xlam_jax.records.quality.references import holds_reference

# Keywords whose values are schemas.
_INNER = ("items", "additionalProperties")
_SEQUENCE = re.compile(r"\b(first|second|then|next|after|before|finally|lastly|followed)\b", re.IGNORECASE)


def shuffle_tools(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another order of the tool list."""
    order = new_order(rng, len(record.tools))
    return replace(record, tools=tuple(record.tools[i] for i in order)) if order else "fewer_than_two_tools"


def shuffle_parameters(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another order of every tool's parameters, inside object parameters too.

    Arguments that stood in the order of the parameters follow them: a label whose order nothing in the
    prompt explains cannot be learned.
    """

    def shuffled(schema: dict[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return schema
        out = {**schema, "properties": _reordered(properties, rng)}
        required = schema.get("required")
        if isinstance(required, list) and set(required) <= set(properties):
            out["required"] = sorted(required, key=list(out["properties"]).index)
        return out

    tools = tuple(replace(t, parameters=_map_schemas(t.parameters, shuffled)) for t in record.tools)
    if all(_keys(a.parameters) == _keys(b.parameters) for a, b in zip(tools, record.tools, strict=True)):
        return "fewer_than_two_parameters"
    orders = {
        old.name: (list(_properties(old)), list(_properties(new)))
        for old, new in zip(record.tools, tools, strict=True)
    }

    def follow(call: ToolCall) -> ToolCall:
        before, after = orders.get(call.name, ([], []))
        if list(call.arguments) != [name for name in before if name in call.arguments]:
            return call
        return ToolCall(call.name, {name: call.arguments[name] for name in after if name in call.arguments})

    steps = tuple(replace(s, tool_calls=tuple(map(follow, s.tool_calls))) for s in record.steps)
    return replace(record, tools=tools, steps=steps)


def shuffle_tool_fields(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another order of the fields (type, description, default, ...) inside every parameter."""

    def shuffled(schema: dict[str, Any]) -> dict[str, Any]:
        # Reading a record back puts these two last, so that is where they stay.
        last = {k: schema[k] for k in ("properties", "required") if k in schema}
        return {**_reordered({k: v for k, v in schema.items() if k not in last}, rng), **last}

    def fields(tool: Tool) -> Tool:
        properties = {n: _map_schemas(s, shuffled) for n, s in _properties(tool).items()}
        return replace(tool, parameters={**tool.parameters, "properties": properties})

    tools = tuple(map(fields, record.tools))
    if all(_keys(a.parameters) == _keys(b.parameters) for a, b in zip(tools, record.tools, strict=True)):
        return "fewer_than_two_fields"
    return replace(record, tools=tools)


def shuffle_tool_calls(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another order of the calls inside a step, where they are independent.

    Calls of one step are made without seeing each other's results. A step is left alone when an argument
    names another call's result, when the words around it tell an order ("then", "first"), or when its
    observation is a text that may count the calls; a list of one result a call is reordered with them.
    """
    if all(len(step.tool_calls) < 2 for step in record.steps):
        return "no_parallel_calls"
    if _SEQUENCE.search(record.query):
        return "order_is_told"
    steps = tuple(_shuffled_calls(step, rng) for step in record.steps)
    return replace(record, steps=steps) if steps != record.steps else "dependent_calls"


def new_order(rng: np.random.Generator, n: int) -> list[int]:
    """A permutation other than the identity; empty where there is none."""
    if n < 2:
        return []
    while True:
        order = [int(i) for i in rng.permutation(n)]
        if order != sorted(order):
            return order


def _shuffled_calls(step: Step, rng: np.random.Generator) -> Step:
    calls, seen = step.tool_calls, step.next_observation
    results = seen if isinstance(seen, list) and len(seen) == len(calls) else None
    if (results is None and seen not in ("", None)) or any(_refers(c.arguments) for c in calls):
        return step
    if _SEQUENCE.search(step.thought):
        return step
    order = new_order(rng, len(calls))
    if not order:
        return step
    moved = tuple(calls[i] for i in order)
    return replace(step, tool_calls=moved, next_observation=[results[i] for i in order] if results else seen)


def _refers(value: Any) -> bool:
    """Whether a value names a result, or might: `$var`, `{{call}}`, `API_call_0`, `<result>`."""
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    if isinstance(value, list):
        return any(map(_refers, value))
    return isinstance(value, str) and (holds_reference(value) or bool(re.match(r"\$[A-Za-z]|\{\{|<", value)))


def _properties(tool: Tool) -> dict[str, Any]:
    return tool.parameters.get("properties") or {}


def _map_schemas(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """`change` on a schema and on those inside it: properties, items, additional properties."""
    if not isinstance(schema, dict):
        return schema
    out = dict(change(schema))
    for key in _INNER:
        if key in out:
            out[key] = _map_schemas(out[key], change)
    if isinstance(out.get("properties"), dict):
        out["properties"] = {n: _map_schemas(s, change) for n, s in out["properties"].items()}
    return out


def _reordered(mapping: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    items = list(mapping.items())
    return dict(_permuted(items, new_order(rng, len(items))))


def _permuted(items: list[Any], order: list[int]) -> Iterable[Any]:
    return [items[i] for i in order] if order else items


def _keys(value: Any) -> Any:
    """The order of all keys, which equality of dicts does not see."""
    if isinstance(value, dict):
        return [(k, _keys(v)) for k, v in value.items()]
    return list(map(_keys, value)) if isinstance(value, list) else None
