"""Rows whose right answer is no call: irrelevance (Hammer), tool or argument removed (When2Call).

The label is right by construction, so each is applicable only where the construction holds: no tool that
remains may do what the called one did, and a query without its argument must still read as a sentence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlam_jax.format.record import Record, Step
from xlam_jax.format.thinking import spoken
from xlam_jax.format.values import Tool
from xlam_jax.records.augment.context import Context
from xlam_jax.records.augment.wordings import QUESTIONS, REFUSALS
from xlam_jax.records.augment.words import name_words, related, tool_topics, topics


def add_distractors(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """One to `max_distractors` tools of the pool at random places, unrelated to the tools of the record."""
    if not record.tools:
        return "no_tools"
    wanted = int(rng.integers(1, context.config.max_distractors + 1))
    added = context.pool.draw(rng, wanted, lambda tool: not any(related(tool, own) for own in record.tools))
    if not added:
        return "no_unrelated_tools"
    tools = list(record.tools)
    for tool in added:
        tools.insert(int(rng.integers(len(tools) + 1)), tool)
    return replace(record, tools=tuple(tools))


def irrelevance(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """The called tools, and those that might stand in for them, are replaced by others of the pool; the answer
    is a refusal.

    Neither the replacements nor the tools that stay are related to a called one, and replacements share at
    most one topic with the query. Where the pool has too few, tools that might stand in just go. The
    conversation ends with the refusal.
    """
    cut = _cut(record, related_go=True)
    if isinstance(cut, str):
        return cut
    about = topics(record.query)

    def fits(tool: Tool) -> bool:
        if any(tool.name == other.name for other in record.tools) or len(tool_topics(tool) & about) > 1:
            return False
        return not topics(tool.name) & about and not any(related(tool, other) for other in cut.removed)

    drawn = context.pool.draw(rng, len(cut.removed), fits)
    if len(drawn) < cut.called:
        return "no_unrelated_tools"
    replacements = iter(drawn)
    names = {tool.name for tool in cut.removed}
    tools = [next(replacements, None) if tool.name in names else tool for tool in record.tools]
    kept = tuple(tool for tool in tools if tool is not None)
    return replace(record, tools=kept, steps=(*cut.before, _refusal(rng, context)))


def remove_tool(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """The called tools are gone, at least one other stays, and the answer is a refusal."""
    cut = _cut(record)
    if isinstance(cut, str):
        return cut
    if not cut.kept:
        return "no_other_tool"
    return replace(record, tools=cut.kept, steps=(*cut.before, _refusal(rng, context)))


def remove_argument(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """The query loses the value of a required argument, and the answer asks for it.

    Only where the first step makes one call, and the value stands once in the query, as a phrase of its own
    ("in Paris", "for 4"), and nowhere else in what the model is shown or in the other arguments.
    """
    if not record.steps or len(record.steps[0].tool_calls) != 1:
        return "not_one_call"
    if record.few_shot_examples:
        return "few_shot_examples"
    call = record.steps[0].tool_calls[0]
    tool = next((t for t in record.tools if t.name == call.name), None)
    if tool is None:
        return "unknown_tool"
    candidates = []
    properties = tool.parameters.get("properties") or {}
    for name in tool.parameters.get("required") or ():
        schema = properties.get(name)
        if (
            name not in call.arguments
            or not isinstance(schema, dict)
            or {"default", "enum", "const"} & set(schema)
        ):
            continue
        others = [v for k, v in call.arguments.items() if k != name]
        if query := _without(record, call.arguments[name], others):
            candidates.append((name, query))
    if not candidates:
        return "no_removable_value"
    candidates = [(name, query) for name, query in candidates if _is_noun(name)]
    if not candidates:
        return "no_word_to_ask_with"
    name, query = candidates[int(rng.integers(len(candidates)))]
    words = QUESTIONS[int(rng.integers(len(QUESTIONS)))].format(what=name_words(name) or name)
    return replace(record, query=query, steps=(Step(thought=words),))


_NO_NOUN_WORDS = "from to where when what which who how in on at by is has go do"
_NO_NOUNS = frozenset(_NO_NOUN_WORDS.split())


def _is_noun(name: str) -> bool:
    """Whether a question can ask for it by name: "from" and "where to" make none."""
    words = name_words(name).lower().split()
    return len(name) > 2 and not set(words) & _NO_NOUNS


@dataclass(frozen=True)
class _Cut:
    """Steps before the first call, tools that go (so many of them called), tools that stay."""

    before: tuple[Step, ...]
    removed: tuple[Tool, ...]
    kept: tuple[Tool, ...]
    called: int


def _cut(record: Record, related_go: bool = False) -> _Cut | str:
    """Where the label "no call" is right, for no tool that stays could stand in for one that is called.

    Args:
      related_go: such tools go, too; else there is no such place.
    """
    first = next((i for i, step in enumerate(record.steps) if step.tool_calls), None)
    if first is None:
        return "no_calls"
    if record.few_shot_examples:
        return "few_shot_examples"
    called = {call.name for step in record.steps for call in step.tool_calls}
    removed = tuple(tool for tool in record.tools if tool.name in called)
    kept = tuple(tool for tool in record.tools if tool.name not in called)
    if not removed:
        return "unknown_tool"
    alike = [b for b in kept if any(related(a, b) for a in removed)]
    if alike and not related_go:
        return "related_tools"
    stay = tuple(tool for tool in kept if tool not in alike)
    before = _before_request(record, record.steps[:first], removed)
    said = [record.query, *(step.user_input for step in before if step.user_input)][-1]
    if len(before) < first and topics(said) <= _GREETINGS:
        return "no_request_left"  # to refuse a greeting would be wrong
    return _Cut(before, (*removed, *alike), stay, len(removed))


def _before_request(record: Record, before: tuple[Step, ...], removed: tuple[Tool, ...]) -> tuple[Step, ...]:
    """The turns before the user asked for what a removed tool does, or the assistant asked what that tool needs.

    Whatever it asked before the call was for the call: "For what place?" shares no word with a weather tool.
    """
    about = frozenset[str]().union(*map(tool_topics, removed))
    said = record.query
    for i, step in enumerate(before):
        if topics(said) & about or _asks(spoken(step.thought)):
            return before[:i]
        said = step.user_input or said
    return before


_ASKING = re.compile(
    r"\?|\b(?:please|kindly|let me know|tell me|provide|specify|need (?:to know|your|the|more))\b", re.I
)
_OFFER = re.compile(r"\b(?:help|assist|do for you|(?:any|some)thing else|else can i)\b", re.I)
_GREETINGS = topics("hello hi hey there good morning afternoon evening thank thanks please help me i need")


def _asks(words: str) -> bool:
    """Whether the words ask the user for something; to offer help is no question of a tool's."""
    sentences = re.split(r"(?<=[.?!])\s+", words)
    return any(_ASKING.search(s) and not _OFFER.search(s) for s in sentences)


def _refusal(rng: np.random.Generator, context: Context) -> Step:
    if not context.config.refusal_text:
        return Step()
    return Step(thought=REFUSALS[int(rng.integers(len(REFUSALS)))])


# What may begin a phrase that a sentence can lose, and what may follow it.
_BEGIN = r"(?:in|at|for|from|to|on|named|called|using|during)"
# The end of a sentence only: in its midst a range ("2000 to 2005") or a place ("Paris, France") may go on.
_NEXT = r"(?=[.?!](?:\s|$)|\s*$)"
# Words that keep the preposition after them: "look for", "equal to", "based on", "up to", "from 3 to 5".
_HOLDS_WORDS = (
    "look looking search searching ask asking wait listen belong go going up equal equals similar close "
    "compared according due is are be was were belongs sum between and or number numbers based "
    "depending convert converted converting change changed set add added apply subscribe reply respond"
)
_HOLDS = frozenset(_HOLDS_WORDS.split())


def _without(record: Record, value: Any, others: list[Any]) -> str:
    """The query without the phrase that holds `value`; empty where there is no such phrase."""
    if isinstance(value, bool | list | dict) or value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    query, low = record.query, text.lower()
    elsewhere = json.dumps([others, record.task_instruction], ensure_ascii=False).lower()
    if not text.strip() or query.lower().count(low) != 1 or low in elsewhere:
        return ""
    quote = "[\"'\u2018\u2019\u201c\u201d]?"
    phrase = rf"(\S+)\s+{_BEGIN}\s+(?:the\s+)?{quote}{re.escape(text)}{quote}{_NEXT}"
    match = re.search(phrase, query, re.IGNORECASE)
    if not match:
        return ""
    before = match[1].lower().strip(",.;")
    # A participle ("located in", "born on") needs what follows, as those words do.
    if before in _HOLDS or before.endswith(("ed", "ing", "made", "born", "held")):
        return ""
    rest = query[: match.end(1)] + query[match.end() :]
    return rest if len(rest.split()) >= 4 else ""
