"""Hammer's masking: names that say nothing, so that descriptions must be read (arXiv 2410.04587).

A name is masked only where a description remains to tell what the thing does. Mentions are renamed where
they can only mean the thing named (`get_weather`, not `weather`); observations are what the world said and
stay. Records with few-shot examples are left alone: the examples show the old names.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from xlam_jax.data.augment.words import is_identifier, mention
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall

FUNCTION_LENGTH = (5, 15)
PARAMETER_LENGTH = (4, 10)
_FIRST = string.ascii_letters
_REST = string.ascii_letters + string.digits + "_"


def mask_functions(record: Record, rng: np.random.Generator) -> Record | None:
    """Random names of 5 to 15 characters for the described tools, in tools, calls and texts."""
    if record.few_shot_examples:
        return None
    names = [tool.name for tool in record.tools if tool.description]
    if len(set(names)) != len(names):
        return None
    values = _text([c.arguments for s in record.steps for c in s.tool_calls])
    seen = _text([s.next_observation for s in record.steps])
    # A later argument that repeats a name out of an observation could no longer be found there.
    names = [n for n in names if not (n in seen and n in values)]
    if not names:
        return None
    taken = {tool.name for tool in record.tools}
    new = {name: random_name(rng, FUNCTION_LENGTH, taken) for name in names}
    # A parameter of the same name makes its mentions ambiguous.
    parameters = {p for t in record.tools for p in t.parameters.get("properties") or {}}
    rename = _renamer({old: name for old, name in new.items() if old not in parameters})

    def step(old: Step) -> Step:
        calls = tuple(ToolCall(new.get(c.name, c.name), _walk(c.arguments, rename)) for c in old.tool_calls)
        return replace(
            old, thought=rename(old.thought), tool_calls=calls, user_input=rename(old.user_input)
        )

    return replace(
        record,
        query=rename(record.query),
        task_instruction=rename(record.task_instruction),
        tools=tuple(
            Tool(new.get(t.name, t.name), rename(t.description), _walk(t.parameters, rename))
            for t in record.tools
        ),
        steps=tuple(map(step, record.steps)),
    )


def mask_parameters(record: Record, rng: np.random.Generator) -> Record | None:
    """Random names of 4 to 10 characters for the described parameters of every tool, in tools and calls."""
    if record.few_shot_examples or len({t.name for t in record.tools}) != len(record.tools):
        return None
    offered = {tool.name for tool in record.tools}
    tools, maps = [], {}
    for tool in record.tools:
        properties = tool.parameters.get("properties") or {}
        names = [n for n, s in properties.items() if isinstance(s, dict) and s.get("description")]
        # Other keywords (dependentRequired, allOf, ...) may speak of the parameters, too.
        if not names or set(tool.parameters) - {"type", "properties", "required", "additionalProperties"}:
            tools.append(tool)
            continue
        taken = set(properties)
        new = {name: random_name(rng, PARAMETER_LENGTH, taken) for name in names}
        rename = _renamer({old: name for old, name in new.items() if old not in offered})
        schema = {
            **tool.parameters,
            "properties": {new.get(n, n): _described(s, rename) for n, s in properties.items()},
            "required": [new.get(n, n) for n in tool.parameters.get("required") or ()],
        }
        tools.append(Tool(tool.name, rename(tool.description), schema))
        maps[tool.name] = new
    if not maps:
        return None

    def call(old: ToolCall) -> ToolCall:
        new = maps.get(old.name, {})
        return ToolCall(old.name, {new.get(k, k): v for k, v in old.arguments.items()})

    steps = tuple(replace(s, tool_calls=tuple(map(call, s.tool_calls))) for s in record.steps)
    return replace(record, tools=tuple(tools), steps=steps)


def move_defaults(record: Record, rng: np.random.Generator) -> Record | None:
    """Defaults become a sentence of the parameter's description, in one of three wordings."""
    wordings = ("Default: {}.", "Defaults to {}.", "If omitted, {} is used.")
    words = wordings[int(rng.integers(len(wordings)))]
    tools = tuple(replace(tool, parameters=_told(tool.parameters, words)) for tool in record.tools)
    return replace(record, tools=tools) if tools != record.tools else None


def random_name(rng: np.random.Generator, length: tuple[int, int], taken: set[str]) -> str:
    """A name of letters, digits and underscores that begins with a letter; it is added to `taken`."""
    while True:
        n = int(rng.integers(length[0], length[1] + 1))
        rest = "".join(_REST[int(i)] for i in rng.integers(len(_REST), size=n - 1))
        name = _FIRST[int(rng.integers(len(_FIRST)))] + rest
        if name not in taken:
            taken.add(name)
            return name


def _told(schema: dict[str, Any], words: str) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    out = {}
    for name, child in properties.items():
        if isinstance(child, dict) and "default" in child and name not in required:
            value = json.dumps(child["default"], ensure_ascii=False)
            text = str(child.get("description", "")).rstrip()
            text += "." if text and text[-1] not in ".!?:;" else ""
            rest = {k: v for k, v in child.items() if k != "default"}
            child = {**rest, "description": f"{text} {words.format(value)}".lstrip()}
        out[name] = child
    return {**schema, "properties": out}


def _described(schema: Any, rename: Callable[[str], str]) -> Any:
    if not isinstance(schema, dict) or not isinstance(schema.get("description"), str):
        return schema
    return {**schema, "description": rename(schema["description"])}


def _renamer(new: Mapping[str, str]) -> Callable[[str], str]:
    names = sorted(filter(is_identifier, new), key=len, reverse=True)
    if not names:
        return lambda text: text
    pattern = re.compile("|".join(mention(name).pattern for name in names))
    return lambda text: pattern.sub(lambda found: new[found[0]], text)


def _walk(value: Any, rename: Callable[[str], str]) -> Any:
    """Renames inside all strings but keys and the lists of required ones."""
    if isinstance(value, dict):
        return {
            k: v if k == "required" and isinstance(v, list) else _walk(v, rename) for k, v in value.items()
        }
    if isinstance(value, list):
        return [_walk(v, rename) for v in value]
    return rename(value) if isinstance(value, str) else value


def _text(values: list[Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
