"""The rules on one record: what is found, what is repaired, and what becomes of the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from xlam_jax.config import Config
from xlam_jax.data.quality import grounding, pii, thoughts, trajectory
from xlam_jax.data.quality.schema_check import check_call
from xlam_jax.format.record import Record

STAGE = "rules"
Check = Literal["off", "flag", "drop"]
Fix = Literal["off", "flag", "drop", "repair"]


class Actions(Config):
    """What each finding does to its row: nothing, a flag in its lineage, its end, or a repair.

    A row that a repair cannot save is dropped under the same code. The paper's argument hallucination of
    type 1 is `undefined_function` and `undefined_argument`, of type 2 `ungrounded_argument`.
    """

    empty_query: Check = "drop"
    too_long: Check = "drop"
    undefined_function: Check = "drop"
    undefined_argument: Check = "drop"
    missing_required: Check = "drop"
    wrong_type: Fix = "repair"
    not_in_enum: Fix = "repair"
    out_of_bounds: Check = "drop"
    undefined_reference: Check = "drop"
    error_observation: Check = "drop"
    repeated_turn: Check = "drop"
    low_quality_thought: Check = "flag"
    ungrounded_argument: Check = "flag"
    pii: Fix = "flag"
    contaminated: Check = "drop"
    duplicate: Check = "drop"
    near_duplicate: Check = "drop"


class RuleConfig(Config):
    """Actions and thresholds of the rules.

    Attributes:
      max_tokens: of a row as JSON, tools included, at about four bytes a token.
      grounding_threshold: least score of an argument (see `grounding.score`).
      thoughts_required: every step with calls must have a thought, also in rows without any.
    """

    actions: Actions = Actions()
    max_tokens: int = 32768
    grounding_threshold: float = 0.3
    thoughts_required: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: its code, and where (`step 2, get_weather: ...`)."""

    code: str
    detail: str


def find(record: Record, config: RuleConfig, size: int | None = None) -> list[Finding]:
    """Everything the rules find in a record, in the order of the codes in `Actions`.

    Args:
      size: bytes of the record as JSON, where the caller knows it.
    """
    on = _switched_on(config.actions)
    return [finding for code, rule in _RULES if code & on for finding in rule(record, config, size, on)]


_SCHEMA = frozenset(
    (
        "undefined_function",
        "undefined_argument",
        "missing_required",
        "wrong_type",
        "not_in_enum",
        "out_of_bounds",
    )
)


def _switched_on(actions: Actions) -> frozenset[str]:
    return _on(actions)


def _text(record: Record, config: RuleConfig, size: int | None, on: frozenset[str]) -> Iterator[Finding]:
    if "empty_query" in on and not record.query.strip():
        yield Finding("empty_query", "the query has no words")
    if "too_long" in on:
        if size is None:
            size = len(json.dumps(record.to_json(), ensure_ascii=False).encode())
        if size > 4 * config.max_tokens:
            yield Finding("too_long", f"about {size // 4} tokens")


def _schema(record: Record, config: RuleConfig, size: int | None, on: frozenset[str]) -> Iterator[Finding]:
    tools = {tool.name: tool for tool in record.tools}
    for i, step in enumerate(record.steps):
        for call in step.tool_calls:
            for fault in check_call(call, tools):
                if fault.code in on:
                    yield Finding(fault.code, f"step {i + 1}, {call.name}: {fault.detail}")


def _trajectory(
    record: Record, config: RuleConfig, size: int | None, on: frozenset[str]
) -> Iterator[Finding]:
    if "undefined_reference" in on:
        for i, name, reference in trajectory.undefined_references(record):
            yield Finding("undefined_reference", f"step {i + 1}, {name}: {reference}")
    if "error_observation" in on:
        for i, text in trajectory.unrecovered_errors(record):
            yield Finding("error_observation", f"step {i + 1}: {text}")
    if "repeated_turn" in on and len(record.steps) > 1:
        for i, what in trajectory.repeated_turns(record):
            yield Finding("repeated_turn", f"step {i + 1}: {what}")


def _thoughts(record: Record, config: RuleConfig, size: int | None, on: frozenset[str]) -> Iterator[Finding]:
    for i, what in thoughts.thought_faults(record, config.thoughts_required):
        yield Finding("low_quality_thought", f"step {i + 1}: {what}")


def _grounding(record: Record, config: RuleConfig, size: int | None, on: frozenset[str]) -> Iterator[Finding]:
    for i, call, name, value, score in argument_scores(record):
        if score < config.grounding_threshold:
            text = json.dumps(value, ensure_ascii=False)[:60]
            yield Finding("ungrounded_argument", f"step {i + 1}, {call}.{name}: {text} ({score:.2f})")


def argument_scores(record: Record) -> Iterator[tuple[int, str, str, Any, float]]:
    """`(step, function, argument, value, score)` of each argument of an offered function.

    A value may come from the instructions, the examples, the query, and what users and tools said before its
    step; references to results need no ground.
    """
    properties = {tool.name: tool.parameters.get("properties") or {} for tool in record.tools}
    parts = [record.task_instruction, *record.few_shot_examples, record.query]
    said: grounding.Said | None = None
    for i, step in enumerate(record.steps):
        for call in step.tool_calls:
            schemas = properties.get(call.name)
            if not schemas or not call.arguments:
                continue
            if said is None:
                said = grounding.Said(grounding.words_of(*parts))
            for name, value in call.arguments.items():
                schema = schemas.get(name)
                if isinstance(schema, dict) and not trajectory.is_reference(value):
                    yield i, call.name, name, value, grounding.score(value, schema, said)
        if step.next_observation or step.user_input:
            parts += [step.next_observation, step.user_input]
            said = None


def _pii(record: Record, config: RuleConfig, size: int | None, on: frozenset[str]) -> Iterator[Finding]:
    for kind, text in pii.find_pii("\n".join(pii.record_texts(record))):
        yield Finding("pii", f"{kind}: {text[:4]}...")


Rule = Callable[[Record, RuleConfig, "int | None", frozenset[str]], Iterator[Finding]]
_RULES: tuple[tuple[frozenset[str], Rule], ...] = (
    (frozenset(("empty_query", "too_long")), _text),
    (_SCHEMA, _schema),
    (frozenset(("undefined_reference", "error_observation", "repeated_turn")), _trajectory),
    (frozenset(("low_quality_thought",)), _thoughts),
    (frozenset(("ungrounded_argument",)), _grounding),
    (frozenset(("pii",)), _pii),
)
_ORDER = {code: i for i, code in enumerate(Actions.model_fields)}


def _on(actions: Actions) -> frozenset[str]:
    return frozenset(code for code in Actions.model_fields if getattr(actions, code) != "off")


def repair(record: Record, config: RuleConfig) -> tuple[Record, list[Finding]]:
    """The record with personal data masked and values cast where the actions say so, and what was done."""
    done: list[Finding] = []
    if config.actions.pii == "repair":
        record, kinds = pii.mask(record)
        done += [Finding("pii", f"{kind} masked") for kind in kinds]
    fixes = {code for code in ("wrong_type", "not_in_enum") if getattr(config.actions, code) == "repair"}
    if not fixes:
        return record, done
    tools = {tool.name: tool for tool in record.tools}
    steps = []
    for i, step in enumerate(record.steps):
        calls = []
        for call in step.tool_calls:
            codes = {fault.code for fault in check_call(call, tools)} & fixes
            if codes:
                call, casts = _cast(call, tools[call.name], codes)
                done += [
                    Finding(min(codes, key=_ORDER.__getitem__), f"step {i + 1}, {cast}") for cast in casts
                ]
            calls.append(call)
        steps.append(step if calls == list(step.tool_calls) else replace(step, tool_calls=tuple(calls)))
    return (replace(record, steps=tuple(steps)) if done else record), done
