"""Rows whose right answer is no call: irrelevance (Hammer), tool or argument removed (When2Call).

The label is right by construction, so each is applicable only where the construction holds: no tool that
remains may do what the called one did, and a query without its argument must still read as a sentence.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np

from xlam_jax.data.augment.pool import ToolPool
from xlam_jax.data.augment.words import name_words, related, tool_topics, topics
from xlam_jax.data.augment.wordings import QUESTIONS, REFUSALS
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool


def add_distractors(
    record: Record, rng: np.random.Generator, *, pool: ToolPool, most: int
) -> Record | None:
    """One to `most` tools of the pool at random places, unrelated to the tools of the record."""
    if not record.tools:
        return None
    wanted = int(rng.integers(1, most + 1))
    added = pool.draw(rng, wanted, lambda tool: not any(related(tool, own) for own in record.tools))
    if not added:
        return None
    tools = list(record.tools)
    for tool in added:
        tools.insert(int(rng.integers(len(tools) + 1)), tool)
    return replace(record, tools=tuple(tools))


def irrelevance(record: Record, rng: np.random.Generator, *, pool: ToolPool) -> Record | None:
    """The called tools are replaced by others of the pool, and the answer is a refusal.

    Neither the replacements nor the tools that stay are related to a removed one, and replacements share at
    most one topic with the query. The conversation ends with the refusal.
    """
    cut = _cut(record)
    if cut is None:
        return None
    before, removed, kept = cut
    about = topics(record.query)

    def fits(tool: Tool) -> bool:
        if any(tool.name == other.name for other in record.tools) or len(tool_topics(tool) & about) > 1:
            return False
        return not topics(tool.name) & about and not any(related(tool, other) for other in removed)

    drawn = pool.draw(rng, len(removed), fits)
    if len(drawn) < len(removed):
        return None
    replacements = iter(drawn)
    names = {tool.name for tool in removed}
    tools = tuple(next(replacements) if tool.name in names else tool for tool in record.tools)
    return replace(record, tools=tools, steps=(*before, _say(rng, REFUSALS)))


def remove_tool(record: Record, rng: np.random.Generator) -> Record | None:
    """The called tools are gone, at least one other stays, and the answer is a refusal."""
    cut = _cut(record)
    if cut is None or not cut[2]:
        return None
    before, _, kept = cut
    return replace(record, tools=kept, steps=(*before, _say(rng, REFUSALS)))


def remove_argument(record: Record, rng: np.random.Generator) -> Record | None:
    """The query loses the value of a required argument, and the answer asks for it.

    Only where the first step makes the only call of its step, the value stands in the query once, as a
    phrase of its own ("in Paris", "for 4"), and nowhere else in the record's arguments.
    """
    if not record.steps or len(record.steps[0].tool_calls) != 1:
        return None
    call = record.steps[0].tool_calls[0]
    tool = next((t for t in record.tools if t.name == call.name), None)
    if tool is None:
        return None
    found = []
    properties = tool.parameters.get("properties") or {}
    for name in tool.parameters.get("required") or ():
        if name not in call.arguments or not isinstance(properties.get(name), dict):
            continue
        others = [v for k, v in call.arguments.items() if k != name]
        if "default" not in properties[name] and (query := _without(record, call.arguments[name], others)):
            found.append((name, query))
    if not found:
        return None
    name, query = found[int(rng.integers(len(found)))]
    return replace(record, query=query, steps=(_say(rng, QUESTIONS, what=name_words(name) or name),))


def _cut(record: Record) -> tuple[tuple[Step, ...], list[Tool], tuple[Tool, ...]] | None:
    """Steps before the first call, tools called anywhere, tools never called; None where labels may be wrong.

    Wrong they may be where a tool that stays could stand in for one that goes.
    """
    first = next((i for i, step in enumerate(record.steps) if step.tool_calls), None)
    if first is None:
        return None
    called = {call.name for step in record.steps for call in step.tool_calls}
    removed = [tool for tool in record.tools if tool.name in called]
    kept = tuple(tool for tool in record.tools if tool.name not in called)
    if not removed or any(related(a, b) for a in removed for b in kept):
        return None
    return record.steps[:first], removed, kept


def _say(rng: np.random.Generator, wordings: tuple[str, ...], **values: str) -> Step:
    return Step(thought=wordings[int(rng.integers(len(wordings)))].format(**values))


# What may begin a phrase that a sentence can lose, and what may follow it.
_BEGIN = r"(?:in|at|for|from|to|on|named|called|using|during)"
_NEXT = r"(?=\s*[.,;?!]|\s*$|\s+(?:in|at|for|from|to|on|with|by|using|during|starting|please)\b)"
# Words that keep the preposition after them: "look for", "equal to", "based on", "up to", "from 3 to 5".
_HOLDS = frozenset(
    "look looking search searching ask asking wait listen belong go going up equal equals similar close "
    "compared according due is are be was were belongs sum between and or number numbers based depending "
    "convert converted converting change changed set add added apply subscribe reply respond".split()
)


def _without(record: Record, value: Any, others: list[Any]) -> str:
    """The query without the phrase that holds `value`; empty where there is no such phrase."""
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, bool | list | dict) or value is None or len(text.strip()) < 1:
        return ""
    query = record.query
    if len(re.findall(rf"(?<!\w){re.escape(text)}(?!\w)", query, re.IGNORECASE)) != 1:
        return ""
    if query.lower().count(text.lower()) != 1 or text.lower() in json.dumps(others, ensure_ascii=False).lower():
        return ""
    quote = "[\"'\u2018\u2019\u201c\u201d]?"
    phrase = rf"(\S+)\s+{_BEGIN}\s+(?:the\s+)?{quote}{re.escape(text)}{quote}{_NEXT}"
    found = re.search(phrase, query, re.IGNORECASE)
    if not found or found[1].lower().strip(",.;") in _HOLDS:
        return ""
    rest = query[: found.end(1)] + query[found.end() :]
    # A number left behind may be the other end of a range or another guess at the value.
    return rest if len(rest.split()) >= 4 and rest.strip() else ""
