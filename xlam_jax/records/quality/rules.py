"""The rules on one record: what is found, what is repaired, and what becomes of the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from xlam_jax.config import Config
from xlam_jax.format.record import Record
from xlam_jax.ledger import Entry
from xlam_jax.records.quality import (
    grounding,
    inappropriate,
    pii,
    references,
    secrets,
    thoughts,
    trajectory,
    unread_calls,
)
from xlam_jax.records.quality.cast import cast_call
from xlam_jax.records.quality.schema_check import check_call

STAGE = "rules"
On = frozenset[str]
# YAML reads a bare `off` as false.
_Off = BeforeValidator(lambda value: "off" if value is False else value)
Check = Annotated[Literal["off", "flag", "drop"], _Off]
Fix = Annotated[Literal["off", "flag", "drop", "repair"], _Off]


class Actions(Config):
    """What each finding does to its row: nothing, a flag in its lineage, its end, or a repair.

    A row that a repair cannot save is dropped under the same code. The paper's argument hallucination of
    type 1 is `undefined_function` and `undefined_argument`, of type 2 `ungrounded_argument`.

    Attributes:
      empty_query: no question, or one of blanks.
      too_long: more than `max_tokens`.
      undefined_function: a call of a function that is not among the tools.
      undefined_argument: an argument that the function does not have.
      missing_required: a required argument is not given.
      wrong_type: a value of another type than the schema's.
      not_in_enum: a value that is none of the listed.
      out_of_bounds: a number, length or count beyond the schema's limits.
      call_in_words: a step without calls whose words mean one.
      call_in_query: what the user says is itself a call.
      unverifiable: a part of an argument's schema cannot be read, so only the rest of it was checked.
      undefined_reference: a value that refers to a call that is not there.
      error_observation: a call failed, and no later step made it good.
      failed_step: a call failed, and a later step made it good. Repaired, the step has weight 0: it is context
        as it stands, and the recovery is what is learned.
      repeated_turn: a step only repeats the one before.
      low_quality_thought: a thought that says nothing, goes in circles, or contradicts the calls.
      ungrounded_argument: a value that nothing in the context supports.
      invented_secret: an API key or token that nothing in the context gave.
      inappropriate: words of the list of obscenities (`word_list`).
      pii: addresses, keys, and numbers of persons, cards and phones.
      contaminated: the query, or 13 words of it, stand in an evaluation set (`--against`).
      duplicate: the same as an earlier row.
      near_duplicate: nearly the same as an earlier row.
    """

    empty_query: Check = "drop"
    too_long: Check = "drop"
    undefined_function: Check = "drop"
    undefined_argument: Check = "drop"
    missing_required: Check = "drop"
    wrong_type: Fix = "repair"
    not_in_enum: Fix = "repair"
    out_of_bounds: Check = "drop"
    call_in_words: Check = "drop"
    call_in_query: Check = "flag"
    unverifiable: Check = "flag"
    undefined_reference: Check = "drop"
    error_observation: Check = "drop"
    failed_step: Fix = "repair"
    repeated_turn: Check = "drop"
    low_quality_thought: Check = "flag"
    ungrounded_argument: Check = "flag"
    invented_secret: Check = "drop"
    inappropriate: Check = "flag"
    pii: Fix = "flag"
    contaminated: Check = "drop"
    duplicate: Check = "drop"
    near_duplicate: Check = "drop"


class RuleConfig(Config):
    """Actions and thresholds of the rules.

    Attributes:
      max_tokens: of a row as JSON, tools included, at about four bytes a token.
      grounding_threshold: least score of an argument (see `grounding.score`).
      word_list: file of inappropriate words and phrases, one a line, in place of our own short list.
      thoughts_required: every step with calls must have a thought, also in rows without any.
      actions: what each finding does to its row.
    """

    actions: Actions = Actions()
    max_tokens: int = 32768
    grounding_threshold: float = 0.5
    thoughts_required: bool = False
    word_list: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: its code, and where (`step 2, get_weather: ...`)."""

    code: str
    detail: str


SCHEMA_CODES = (
    "undefined_function", "undefined_argument", "missing_required", "wrong_type", "not_in_enum",
    "out_of_bounds", "unverifiable",
)  # fmt: skip


def _text(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    if "empty_query" in on and not record.query.strip():
        yield Finding("empty_query", "the query has no words")
    if "too_long" in on:
        if size is None:
            size = len(json.dumps(record.to_json(), ensure_ascii=False).encode())
        if size > 4 * config.max_tokens:
            yield Finding("too_long", f"about {size // 4} tokens")


def _schema(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    tools = {tool.name: tool for tool in record.tools}
    for i, step in enumerate(record.steps):
        for call in step.tool_calls if step.weight else ():
            for fault in check_call(call, tools, unverifiable="unverifiable" in on):
                if fault.code in on:
                    yield Finding(fault.code, f"step {i + 1}, {call.name}: {fault.detail}")


def _trajectory(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    if "undefined_reference" in on:
        for i, name, reference in references.undefined_references(record):
            yield Finding("undefined_reference", f"step {i + 1}, {name}: {reference}")
    if "error_observation" in on:
        for i, text in trajectory.unrecovered_errors(record):
            yield Finding("error_observation", f"step {i + 1}: {text}")
    if "failed_step" in on:
        for i in trajectory.recovered_errors(record):
            if record.steps[i].weight:
                yield Finding("failed_step", f"step {i + 1}: a later one made it good")
    if "repeated_turn" in on and len(record.steps) > 1:
        for i, what in trajectory.repeated_turns(record):
            yield Finding("repeated_turn", f"step {i + 1}: {what}")


def _words(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    # Without tools words are words: code and JSON may be the answer.
    if "call_in_words" in on and record.tools:
        for i, text in unread_calls.unread_calls(record):
            yield Finding("call_in_words", f"step {i + 1}: {text}")
    if "call_in_query" in on:
        for i, text in unread_calls.calls_asked_with(record):
            yield Finding("call_in_query", f"{f'after step {i + 1}' if i >= 0 else 'query'}: {text}")


def _thoughts(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    for i, what in thoughts.thought_faults(record, config.thoughts_required):
        yield Finding("low_quality_thought", f"step {i + 1}: {what}")


def _grounding(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
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
                if isinstance(schema, dict) and not references.holds_reference(value):
                    yield i, call.name, name, value, grounding.score(value, schema, said)
        if step.next_observation or step.user_input:
            parts += [step.next_observation, step.user_input]
            said = None


def _pii(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    for kind, text in pii.find_pii("\n".join(pii.record_texts(record))):
        yield Finding("pii", f"{kind}: {text[:4]}...")


def _secrets(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    for i, place in secrets.invented_secrets(record):
        yield Finding("invented_secret", f"step {i + 1}, {place}")


def _inappropriate(record: Record, config: RuleConfig, size: int | None, on: On) -> Iterator[Finding]:
    if words := inappropriate.inappropriate_words(record, config.word_list):
        yield Finding("inappropriate", ", ".join(words)[:80])


Rule = Callable[[Record, RuleConfig, "int | None", On], Iterator[Finding]]
_RULES: tuple[tuple[frozenset[str], Rule], ...] = (
    (frozenset(("empty_query", "too_long")), _text),
    (frozenset(SCHEMA_CODES), _schema),
    (frozenset(("undefined_reference", "error_observation", "failed_step", "repeated_turn")), _trajectory),
    (frozenset(("call_in_words", "call_in_query")), _words),
    (frozenset(("low_quality_thought",)), _thoughts),
    (frozenset(("ungrounded_argument",)), _grounding),
    (frozenset(("invented_secret",)), _secrets),
    (frozenset(("inappropriate",)), _inappropriate),
    (frozenset(("pii",)), _pii),
)
_ROW_CODES = frozenset(code for codes, _ in _RULES for code in codes)


class Rules:
    """The rules with one config: `find` what is wrong, `apply` what the actions say.

    Example:
      >>> from xlam_jax.format import Record, Step, Tool, ToolCall
      >>> tool = Tool("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": []})
      >>> row = Record("1", "Add 5.", (tool,), (Step(tool_calls=(ToolCall("add", {"a": "5"}),)),))
      >>> fixed, entry = Rules(RuleConfig()).apply(row)
      >>> fixed.steps[0].tool_calls[0].arguments, entry.verdict, entry.reason
      ({'a': 5}, 'repaired', 'wrong_type')
    """

    def __init__(self, config: RuleConfig):
        self.config = config
        actions = config.actions
        self._on = frozenset(code for code in _ROW_CODES if getattr(actions, code) != "off")
        self._fixes = frozenset(c for c in ("wrong_type", "not_in_enum") if getattr(actions, c) == "repair")

    def find(self, record: Record, size: int | None = None) -> list[Finding]:
        """Everything the rules find in a record, in the order of the rules.

        Args:
          size: bytes of the record as JSON, where the caller knows it.
        """
        config, on = self.config, self._on
        return [f for codes, rule in _RULES if codes & on for f in rule(record, config, size, on)]

    def apply(self, record: Record, size: int | None = None) -> tuple[Record | None, Entry]:
        """The record as it goes on (None when it is dropped), and its entry in the ledger.

        The reason is the first finding that decides; the detail has all of them. Flags and repairs are noted
        in the lineage. Applied to its own output, nothing changes any more.
        """
        fixed, done = self.repair(record)
        findings = self.find(fixed, size)
        actions = self.config.actions
        detail = "; ".join(f"{f.code}: {f.detail}" for f in (*done, *findings))[:500]
        for finding in findings:
            # What is still wrong after the repair is beyond it.
            if getattr(actions, finding.code) in ("drop", "repair"):
                return None, Entry(record.id, record.source, STAGE, "dropped", finding.code, detail)
        notes = [f"repaired:{f.code}" for f in done] + [f"flagged:{f.code}" for f in findings]
        fixed = noted(fixed, notes)
        if done:
            return fixed, Entry(record.id, record.source, STAGE, "repaired", done[0].code, detail)
        return fixed, Entry(
            record.id, record.source, STAGE, "pass", findings[0].code if findings else "", detail
        )

    def repair(self, record: Record) -> tuple[Record, list[Finding]]:
        """The record with personal data masked and values cast as the actions say, and what was done."""
        done: list[Finding] = []
        if self.config.actions.pii == "repair":
            record, kinds = pii.mask(record)
            done += [Finding("pii", f"{kind} masked") for kind in kinds]
        if self.config.actions.failed_step == "repair":
            for i in trajectory.recovered_errors(record):
                if record.steps[i].weight:
                    done.append(Finding("failed_step", f"step {i + 1}: what mended it is trained instead"))
                    context = replace(record.steps[i], weight=0)
                    record = replace(record, steps=(*record.steps[:i], context, *record.steps[i + 1 :]))
        if not self._fixes:
            return record, done
        tools = {tool.name: tool for tool in record.tools}
        for i, step in enumerate(record.steps):
            for j, call in enumerate(step.tool_calls if step.weight else ()):
                faults = [fault for fault in check_call(call, tools) if fault.code in self._fixes]
                if not faults:
                    continue
                call, casts = cast_call(call, tools[call.name], {fault.argument for fault in faults})
                if casts:
                    code = max(fault.code for fault in faults)  # a wrong type before a wrong choice
                    done += [Finding(code, f"step {i + 1}, {call.name}.{cast}") for cast in casts]
                    calls = (*record.steps[i].tool_calls[:j], call, *step.tool_calls[j + 1 :])
                    fixed = replace(step, tool_calls=calls)
                    record = replace(record, steps=(*record.steps[:i], fixed, *record.steps[i + 1 :]))
        return record, done


def noted(record: Record, notes: list[str]) -> Record:
    """The record with notes in its lineage, each once."""
    new = [note for note in dict.fromkeys(notes) if note not in record.lineage]
    return replace(record, lineage=(*record.lineage, *new)) if new else record
