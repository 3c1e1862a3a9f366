"""Wrong decisions as typed corruptions: the wrong tool, a call too many or too few, a call instead of none.

Beside the errors inside a call of `records.quality.corrupt`, these are the negatives a preference set needs
(When2Call); each is a `Corruption` and works on one step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.augment.wordings import REFUSALS
from xlam_jax.records.quality.corrupt import Corruption, Pool, json_type

Rng = np.random.Generator


def wrong_function(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A call goes to another of the offered tools, with what arguments fit there."""
    places = [(i, j) for i, step in enumerate(record.steps) for j in range(len(step.tool_calls))]
    if not places:
        return None
    i, j = places[int(rng.integers(len(places)))]
    calls = record.steps[i].tool_calls
    others = [tool for tool in record.tools if tool.name != calls[j].name]
    made = _call(others, rng, pool, calls[j].arguments)
    return _with_calls(record, i, (*calls[:j], made, *calls[j + 1 :])) if made else None


def extra_call(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The right calls, and one of an offered tool that nobody asked for."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    if not steps:
        return None
    i = steps[int(rng.integers(len(steps)))]
    calls = record.steps[i].tool_calls
    made = _call(record.tools, rng, pool, {})
    return _with_calls(record, i, (*calls, made)) if made else None


def missing_call(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """One of several parallel calls is left out."""
    steps = [i for i, step in enumerate(record.steps) if len(step.tool_calls) > 1]
    if not steps:
        return None
    i = steps[int(rng.integers(len(steps)))]
    calls = record.steps[i].tool_calls
    j = int(rng.integers(len(calls)))
    return _with_calls(record, i, (*calls[:j], *calls[j + 1 :]))


def needless_call(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A call of an offered tool where none is due."""
    steps = [i for i, step in enumerate(record.steps) if not step.tool_calls]
    if not steps:
        return None
    i = steps[int(rng.integers(len(steps)))]
    made = _call(record.tools, rng, pool, {})
    return _with_step(record, i, replace(record.steps[i], thought="", tool_calls=(made,))) if made else None


def refusal(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """No call, and the words of a refusal, where calls are due."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    if not steps:
        return None
    i = steps[int(rng.integers(len(steps)))]
    words = REFUSALS[int(rng.integers(len(REFUSALS)))]
    return _with_step(record, i, replace(record.steps[i], thought=words, tool_calls=()))


DECISIONS: dict[str, Corruption] = {
    make.__name__: Corruption(make.__name__, make.__name__, make)
    for make in (wrong_function, extra_call, missing_call, needless_call, refusal)
}


def _call(tools: Any, rng: Rng, pool: Pool, given: dict[str, Any]) -> ToolCall | None:
    """A call of one of the tools whose required arguments can be given, from `given` or the pool."""
    for index in rng.permutation(len(tools)):
        tool: Tool = tools[int(index)]
        properties = tool.parameters.get("properties") or {}
        arguments = {}
        for name in tool.parameters.get("required") or ():
            schema = properties.get(name)
            values = [given[name]] if name in given else _values(name, schema, pool)
            if values:
                arguments[name] = values[int(rng.integers(len(values)))]
        if set(arguments) == set(tool.parameters.get("required") or ()):
            return ToolCall(tool.name, arguments)
    return None


def _values(name: str, schema: Any, pool: Pool) -> list[Any]:
    if not isinstance(schema, dict):
        return []
    if isinstance(schema.get("enum"), list):
        return schema["enum"]
    kind = schema.get("type")
    kinds = [*kind] if isinstance(kind, list) else [kind]
    kinds += ["integer"] if "number" in kinds and "integer" not in kinds else []
    named = [v for v in pool.names.get(name, ()) if json_type(v) in kinds]
    return named or [v for k in kinds for v in pool.values.get(str(k), ())]


def _with_calls(record: Record, index: int, calls: tuple[ToolCall, ...]) -> Record:
    return _with_step(record, index, replace(record.steps[index], tool_calls=calls))


def _with_step(record: Record, index: int, step: Step) -> Record:
    return replace(record, steps=(*record.steps[:index], step, *record.steps[index + 1 :]))
