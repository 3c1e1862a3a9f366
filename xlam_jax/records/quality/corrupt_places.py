"""Where a record can be corrupted, and what corruptions borrow from other records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.quality.references import holds_reference

Rng = np.random.Generator


@dataclass(frozen=True)
class Pool:
    """What corruptions borrow from other records.

    Attributes:
      values: JSON type name -> argument values seen, each once.
      names: argument name -> values seen under that name, each once.
      functions: names of functions.
      evaluation: queries of evaluation sets.
    """

    values: dict[str, tuple[Any, ...]]
    names: dict[str, tuple[Any, ...]]
    functions: tuple[str, ...]
    evaluation: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Iterable[Record], evaluation: Iterable[str] = (), limit: int = 5000) -> Pool:
        """Collects from clean records, at most `limit` values of a type and 50 of a name."""
        values: dict[str, dict[str, Any]] = {}
        names: dict[str, dict[str, Any]] = {}
        functions: dict[str, None] = {}
        for record in records:
            functions.update(dict.fromkeys(tool.name for tool in record.tools))
            for step in record.steps:
                for call in step.tool_calls:
                    for name, value in call.arguments.items():
                        if holds_reference(value):
                            continue
                        key = json.dumps(value, sort_keys=True)
                        kind, named = values.setdefault(json_type(value), {}), names.setdefault(name, {})
                        if len(kind) < limit:
                            kind[key] = value
                        if len(named) < 50:
                            named[key] = value
        return cls(
            {kind: tuple(distinct.values()) for kind, distinct in values.items()},
            {name: tuple(distinct.values()) for name, distinct in names.items()},
            tuple(functions),
            tuple(evaluation),
        )


def json_type(value: Any) -> str:
    """JSON Schema's name of a value's type; integral floats are numbers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


@dataclass(frozen=True)
class Place:
    """An argument (or, with an empty name, a call) of a record; `schema` is the argument's."""

    step: int
    call: int
    name: str = ""
    schema: dict[str, Any] | None = None

    def value(self, record: Record) -> Any:
        return self.of(record).arguments[self.name]

    def of(self, record: Record) -> ToolCall:
        return record.steps[self.step].tool_calls[self.call]


def calls_of(record: Record) -> list[Place]:
    """Every call of a record."""
    return [Place(i, j) for i, step in enumerate(record.steps) for j in range(len(step.tool_calls))]


def arguments_of(record: Record) -> list[Place]:
    """Every argument whose tool and parameter are known, and whose value is no reference to a result."""
    tools = {tool.name: tool.parameters.get("properties", {}) for tool in record.tools}
    return [
        replace(place, name=name, schema=schema)
        for place in calls_of(record)
        for name, value in place.of(record).arguments.items()
        if not holds_reference(value)
        and isinstance(schema := tools.get(place.of(record).name, {}).get(name), dict)
    ]


def pick(rng: Rng, items: Any) -> Any:
    """One of the items, None where there are none."""
    return items[int(rng.integers(len(items)))] if len(items) else None


def with_call(record: Record, place: Place, call: ToolCall) -> Record:
    """The record with another call at a place."""
    step = record.steps[place.step]
    calls = (*step.tool_calls[: place.call], call, *step.tool_calls[place.call + 1 :])
    return with_step(record, place.step, replace(step, tool_calls=calls))


def with_step(record: Record, index: int, *steps: Step) -> Record:
    """The record with other steps in the place of one."""
    return replace(record, steps=(*record.steps[:index], *steps, *record.steps[index + 1 :]))


def with_value(record: Record, place: Place, value: Any) -> Record:
    """The record with another value of an argument."""
    call = place.of(record)
    return with_call(record, place, replace(call, arguments={**call.arguments, place.name: value}))


def with_schema(record: Record, place: Place, extra: dict[str, Any]) -> Record:
    """The record with more said about one parameter of one tool."""
    name = place.of(record).name

    def changed(tool: Tool) -> Tool:
        properties = tool.parameters["properties"]
        properties = {**properties, place.name: {**properties[place.name], **extra}}
        return replace(tool, parameters={**tool.parameters, "properties": properties})

    return replace(record, tools=tuple(changed(t) if t.name == name else t for t in record.tools))


def folded(value: Any) -> str:
    """Letters and digits of a value, in lower case."""
    return "".join(c for c in str(value).casefold() if c.isalnum())
