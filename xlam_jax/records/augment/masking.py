"""Hammer's masking: names that say nothing, so that descriptions must be read (arXiv 2410.04587).

A name is masked only where a description remains to tell what the thing does. One name gets one mask, in the
whole record: tools, calls, few-shot examples, observations, and wherever a text can only mean the thing named
(`get_weather`, not `weather`). A name that cannot be followed everywhere, in what the assistant says above all, is
left as it is.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.augment.context import Context
from xlam_jax.records.augment.origin import mask_notes
from xlam_jax.records.augment.words import is_identifier, mention
from xlam_jax.records.quality.references import rename_references

FUNCTION_LENGTH = (5, 15)
PARAMETER_LENGTH = (4, 10)
_FIRST = string.ascii_letters
_REST = string.ascii_letters + string.digits + "_"
_MOST_WORDS = 6  # of a name that is written as words
# Other keywords (dependentRequired, allOf, ...) may speak of parameters by name.
_PLAIN = {"type", "properties", "required", "additionalProperties", "description", "title"}


def mask_functions(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Random names of 5 to 15 characters for the described tools; the lineage says who is who."""
    described = [tool.name for tool in record.tools if tool.description]
    if not described:
        return "no_description"
    if len({tool.name for tool in record.tools}) != len(record.tools):
        return "ambiguous_names"
    shown = _shown(record)
    parameters = {p for tool in record.tools for p in _properties(tool)}
    names = [n for n in described if n not in parameters and (is_identifier(n) or n not in shown)]
    names = _untraced(record, names)
    if not names:
        return "name_in_texts"
    taken = {tool.name for tool in record.tools} | parameters
    new = {name: random_name(rng, FUNCTION_LENGTH, taken) for name in names}
    rename = _renamer(new)
    masked = _with_texts(record, rename)
    return replace(
        masked,
        tools=tuple(
            Tool(new.get(t.name, t.name), rename(t.description), _walk(t.parameters, rename))
            for t in record.tools
        ),
        lineage=(*record.lineage, *mask_notes(new)),
        steps=tuple(
            replace(
                s,
                tool_calls=tuple(
                    ToolCall(new.get(c.name, c.name), rename_references(c.arguments, new))
                    for c in s.tool_calls
                ),
            )
            for s in masked.steps
        ),
    )


def mask_parameters(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Random names of 4 to 10 characters for the parameters that every tool which has them describes."""
    if len({tool.name for tool in record.tools}) != len(record.tools):
        return "ambiguous_names"
    offered, shown = {tool.name for tool in record.tools}, _shown(record)
    described: dict[str, bool] = {}
    for tool in record.tools:
        plain = not set(tool.parameters) - _PLAIN
        for name, schema in _properties(tool).items():
            told = plain and isinstance(schema, dict) and bool(schema.get("description"))
            described[name] = told and described.get(name, True)
    names = [name for name, told in described.items() if told and name not in offered]
    if not names:
        return "no_description"
    names = _untraced(record, [name for name in names if name not in shown])
    if not names:
        return "name_in_texts"
    taken = set(described) | offered
    new = {name: random_name(rng, PARAMETER_LENGTH, taken) for name in names}
    rename = _renamer(new)

    def masked_tool(old: Tool) -> Tool:
        schema = dict(old.parameters)
        schema["properties"] = {new.get(n, n): _described(s, rename) for n, s in _properties(old).items()}
        if isinstance(schema.get("required"), list):
            schema["required"] = [new.get(n, n) for n in schema["required"]]
        return Tool(old.name, rename(old.description), schema)

    def masked_step(old: Step) -> Step:
        calls = tuple(
            ToolCall(c.name, {new.get(k, k): v for k, v in c.arguments.items()}) for c in old.tool_calls
        )
        return replace(old, thought=rename(old.thought), tool_calls=calls, user_input=rename(old.user_input))

    return replace(
        record,
        query=rename(record.query),
        task_instruction=rename(record.task_instruction),
        tools=tuple(map(masked_tool, record.tools)),
        steps=tuple(map(masked_step, record.steps)),
    )


def move_defaults(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Defaults of optional parameters become a sentence of the description, in one of three wordings."""
    wordings = ("Default: {}.", "Defaults to {}.", "If omitted, {} is used.")
    words = wordings[int(rng.integers(len(wordings)))]
    tools = tuple(replace(tool, parameters=_told(tool.parameters, words)) for tool in record.tools)
    return replace(record, tools=tools) if tools != record.tools else "no_defaults"


def random_name(rng: np.random.Generator, length: tuple[int, int], taken: set[str]) -> str:
    """A name of letters, digits and underscores that begins with a letter; it is added to `taken`."""
    while True:
        n = int(rng.integers(length[0], length[1] + 1))
        rest = "".join(_REST[int(i)] for i in rng.integers(len(_REST), size=n - 1))
        name = _FIRST[int(rng.integers(len(_FIRST)))] + rest
        if name not in taken:
            taken.add(name)
            return name


def _with_texts(record: Record, rename: Callable[[str], str]) -> Record:
    """Mentions renamed in everything but the tools and the names of calls."""

    def step(old: Step) -> Step:
        return Step(
            rename(old.thought),
            tuple(ToolCall(c.name, _walk(c.arguments, rename)) for c in old.tool_calls),
            _walk(old.next_observation, rename),
            rename(old.user_input),
            old.weight,
        )

    return replace(
        record,
        query=rename(record.query),
        task_instruction=rename(record.task_instruction),
        few_shot_examples=tuple(_walk(example, rename) for example in record.few_shot_examples),
        steps=tuple(map(step, record.steps)),
    )


def _shown(record: Record) -> set[str]:
    """Words that the examples and the observations hold; there a plain word may be a name."""
    texts = [*_strings(record.few_shot_examples, True)]
    for step in record.steps:
        # Keys of an observation are fields of a result, whatever parameters are called.
        texts.extend(_strings(step.next_observation, False))
    return {word for text in texts for word in (text, *re.findall(r"\w+", text))}


def _untraced(record: Record, names: list[str]) -> list[str]:
    """The names that renaming leaves nowhere in what the assistant says, in capitals or as plain words neither."""
    rename = _renamer(dict.fromkeys(names, ""))
    said = "\n".join(rename(step.thought) for step in record.steps)
    words = [_squeezed(word) for word in re.findall(r"[\w.-]+", said)]
    squeezed = {"".join(words[i : i + n]) for n in range(1, _MOST_WORDS + 1) for i in range(len(words))}
    said = said.lower()
    return [
        n
        for n in names
        if not re.search(rf"(?<![^\W_]){re.escape(n.lower())}(?![^\W_])", said)
        and _squeezed(n) not in squeezed
    ]


def _squeezed(name: str) -> str:
    """`getWeather`, `get-weather` and `get_weather` alike."""
    return re.sub(r"[\W_]+", "", name).lower()


def _strings(value: Any, keys: bool) -> Iterator[str]:
    if isinstance(value, dict):
        if keys:
            yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item, keys)
    elif isinstance(value, str):
        yield value


def _told(schema: dict[str, Any], words: str) -> dict[str, Any]:
    required = schema.get("required") or ()
    out = {}
    for name, child in (schema.get("properties") or {}).items():
        if isinstance(child, dict) and "default" in child and name not in required:
            value = json.dumps(child["default"], ensure_ascii=False)
            text = str(child.get("description", "")).rstrip()
            text += "." if text and text[-1] not in ".!?:;" else ""
            rest = {k: v for k, v in child.items() if k not in ("default", "description")}
            child = {**rest, "description": f"{text} {words.format(value)}".lstrip()}
        out[name] = child
    return {**schema, "properties": out}


def _properties(tool: Tool) -> dict[str, Any]:
    return tool.parameters.get("properties") or {}


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
    """Renames inside all strings, keys too: a name that is a parameter's is not among the renamed."""
    if isinstance(value, dict):
        return {rename(k): _walk(v, rename) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(v, rename) for v in value]
    return rename(value) if isinstance(value, str) else value
