"""Order shuffles: what is said stays, where it stands changes.

A shuffle that could not change anything (one tool, no parameters) is not applicable; one that can always
does, so that the rates are those of visible changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall

_NESTED = ("items", "additionalProperties")


def shuffle_tools(record: Record, rng: np.random.Generator) -> Record | None:
    """Another order of the tool list."""
    order = new_order(rng, len(record.tools))
    return replace(record, tools=tuple(record.tools[i] for i in order)) if order else None


def shuffle_parameters(record: Record, rng: np.random.Generator) -> Record | None:
    """Another order of every tool's parameters, and of the keys inside each parameter's schema.

    Arguments that stood in the order of the parameters follow them: a label whose order nothing in the
    prompt explains cannot be learned.
    """
    tools = tuple(replace(tool, parameters=_shuffled_object(tool.parameters, rng)) for tool in record.tools)
    if all(_keys(a.parameters) == _keys(b.parameters) for a, b in zip(tools, record.tools, strict=True)):
        return None
    orders = {
        old.name: (list(_properties(old)), list(_properties(new)))
        for old, new in zip(record.tools, tools, strict=True)
    }

    def follow(call: ToolCall) -> ToolCall:
        before, after = orders.get(call.name, ([], []))
        given = list(call.arguments)
        if given != [name for name in before if name in call.arguments]:
            return call
        return ToolCall(call.name, {name: call.arguments[name] for name in after if name in call.arguments})

    steps = tuple(replace(s, tool_calls=tuple(map(follow, s.tool_calls))) for s in record.steps)
    return replace(record, tools=tools, steps=steps)


def shuffle_tool_calls(record: Record, rng: np.random.Generator) -> Record | None:
    """Another order of the calls inside a step, where they are independent.

    Calls of one step are made without seeing each other's results. A step is left alone when one of its
    arguments names another call's result, or when its observation is a text that may count the calls; a list
    of one result a call is reordered with them.
    """
    steps = tuple(_shuffled_calls(step, rng) for step in record.steps)
    return replace(record, steps=steps) if steps != record.steps else None


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
    parallel = isinstance(seen, list) and len(seen) == len(calls)
    if not (parallel or seen == "" or seen is None) or any(_refers(c.arguments) for c in calls):
        return step
    order = new_order(rng, len(calls))
    if not order:
        return step
    moved = tuple(calls[i] for i in order)
    return replace(step, tool_calls=moved, next_observation=[seen[i] for i in order] if parallel else seen)


def _refers(value: Any) -> bool:
    """Whether a value names a result: `$var`, `{{call}}`, `API_call_0`, `<result>`."""
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    if isinstance(value, list):
        return any(map(_refers, value))
    return isinstance(value, str) and (
        value.startswith("$") and value[1:2].isalpha()
        or value.startswith(("{{", "<"))
        or "API_call_" in value
    )


def _properties(tool: Tool) -> dict[str, Any]:
    return tool.parameters.get("properties") or {}


def _shuffled_object(schema: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The schema with its properties in another order; its own keys stay, for views do not show them."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return schema
    new = {name: _shuffled_schema(child, rng) for name, child in _reordered(properties.items(), rng)}
    out = {**schema, "properties": new}
    if isinstance(schema.get("required"), list):
        required = schema["required"]
        out["required"] = sorted(required, key=list(new).index) if set(required) <= set(new) else required
    return out


def _shuffled_schema(schema: Any, rng: np.random.Generator) -> Any:
    if not isinstance(schema, dict):
        return schema
    inner = _shuffled_object(schema, rng)
    inner = {k: _shuffled_schema(v, rng) if k in _NESTED else v for k, v in inner.items()}
    return dict(_reordered(inner.items(), rng))


def _reordered(items: Any, rng: np.random.Generator) -> Sequence[Any]:
    items = list(items)
    return [items[i] for i in new_order(rng, len(items))] or items


def _keys(value: Any) -> Any:
    """The order of all keys, which equality of dicts does not see."""
    if isinstance(value, dict):
        return [(k, _keys(v)) for k, v in value.items()]
    return list(map(_keys, value)) if isinstance(value, list) else None

