"""Cases in, verdicts out: generate an answer per case, parse it, score it by the BFCL rules.

Three things are kept apart: text that is no answer (`unparsable`, with the decoder's error code), an answer
that is wrong (with the checker's error type), and a case that could not be put to the model (`not_run`). All
three count as failures in the accuracy.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from xlam_jax.errors import InputError
from xlam_jax.format import Codec, ParseError, Record, Tool, ToolCall
from xlam_jax.format.call_formats.value_rules import unsaid
from xlam_jax.scoring.bfcl import answers_of, score
from xlam_jax.scoring.intervals import wilson


class Generates(Protocol):
    """What the harness asks of an engine; `inference.Engine` is one."""

    @property
    def generate(self) -> Callable[..., Sequence[Any]]: ...

    def grammar_error(self, grammar: str) -> str: ...


@dataclass(frozen=True)
class Case:
    """One question to the model.

    Attributes:
      style: group in the report.
      category: which of BFCL's matchers decides (`scoring.bfcl.CATEGORIES`).
      answers: BFCL's possible_answer.
    """

    id: str
    style: str
    category: str
    prompt: str
    tools: tuple[Tool, ...]
    answers: list[dict[str, dict[str, list]]] = field(default_factory=list)
    step: int = 0
    language: str = "python"


@dataclass(frozen=True)
class Row:
    """What came of one case.

    Attributes:
      calls: the parsed calls, None when the text is no answer.
      outcome: right, wrong, unparsable or not_run.
      error: empty when right, else the checker's error type or the decoder's error code.
      lenient: the verdict by BFCL's own rule for refusals: text that is no answer counts as no call.
    """

    id: str
    style: str
    step: int
    outcome: str
    error: str
    detail: str
    lenient: bool
    calls: list[dict[str, Any]] | None
    text: str
    finish_reason: str
    prompt_tokens: int
    new_tokens: int
    seconds: float

    @property
    def valid(self) -> bool:
        return self.outcome == "right"


@dataclass(frozen=True)
class EvalReport:
    """Rows in the order of the cases, and the summary over them (shares are fractions of 1)."""

    rows: tuple[Row, ...]
    summary: dict[str, Any]


def evaluate(
    engine: Generates,
    records: Iterable[Record],
    codec: Codec,
    *,
    constrained: bool = False,
    all_steps: bool = False,
    **kwargs: Any,
) -> EvalReport:
    """Puts records to the engine; see `evaluate_cases` for the other arguments.

    Args:
      all_steps: every assistant turn, each after the recorded history; otherwise the first turn only.

    Raises:
      InputError: no record has a step.
    """
    cases = [case for record in records for case in record_cases(record, codec, all_steps=all_steps)]
    return evaluate_cases(engine, cases, codec, constrained=constrained, **kwargs)


def record_cases(record: Record, codec: Codec, *, all_steps: bool = False) -> list[Case]:
    """The questions a record holds: one per step asked for; what the gold steps call is the answer."""
    return [
        Case(
            id=record.id,
            style=_style(record, step),
            # By structure, not by label: BFCL's "simple" looks at the first tool only.
            category=_category(record, step),
            prompt=codec.prompt(record, step),
            tools=record.tools,
            answers=answers_of(record.tools, record.steps[step].tool_calls),
            step=step,
        )
        for step in range(len(record.steps) if all_steps else min(1, len(record.steps)))
    ]


def evaluate_cases(
    engine: Generates,
    cases: Sequence[Case],
    codec: Codec,
    *,
    constrained: bool = False,
    tool_choice: str = "auto",
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> EvalReport:
    """Generates, parses and scores.

    Args:
      constrained: answers must follow the grammar of their tools.
      tool_choice: of the grammar: "auto" lets the model answer with an empty list, "required" demands a call
        where there are tools.

    Returns:
      With `constrained`, `summary["unsaid"]` lists what the tools' schemas say that the grammars do not.

    Raises:
      InputError: no cases, or an unknown tool_choice.
    """
    if not cases:
        raise InputError("nothing to evaluate", hint="records with at least one step")
    if tool_choice not in ("auto", "required"):
        raise InputError(f"unknown tool_choice {tool_choice!r}", hint="auto, required")
    begin = time.perf_counter()
    grammars: list[str | None] = [None] * len(cases)
    refused: dict[int, str] = {}
    if constrained:
        for i, case in enumerate(cases):
            fewest = 1 if tool_choice == "required" and case.tools else 0
            try:
                # Plain words would be scored as no answer; a call format's own empty answer is one.
                grammar = codec.grammar(case.tools, fewest, words=False)
            except InputError as e:
                refused[i] = f"{e.where}: {e.what}" if e.where else e.what
                continue
            if reason := engine.grammar_error(grammar):
                refused[i] = reason
            else:
                grammars[i] = grammar
    asked = [i for i in range(len(cases)) if i not in refused]
    generations = engine.generate(
        [cases[i].prompt for i in asked],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        grammars=[grammars[i] for i in asked] if constrained else None,
        until_broken=not constrained,
        progress=progress,
    )
    by_case = dict(zip(asked, generations, strict=True))
    rows = tuple(_row(case, by_case.get(i), refused.get(i, ""), codec) for i, case in enumerate(cases))
    summary = summarise(rows, time.perf_counter() - begin)
    if constrained:
        summary["unsaid"] = list(
            dict.fromkeys(line for grammar in grammars for line in unsaid(grammar or ""))
        )
    return EvalReport(rows, summary)


def summarise(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Counts and shares over rows; intervals are Wilson's at 95 %.

    `seconds_per_call` is wall time over rows, compilation included. `ast` counts a refusal as right only when
    it is an answer with an empty list; `ast_bfcl` also counts unparsable text as a refusal, as BFCL does.
    """
    return {
        **_shares(rows),
        "ast_bfcl": sum(r.lenient for r in rows) / len(rows),
        "seconds": seconds,
        "seconds_per_call": seconds / len(rows),
        "new_tokens": sum(r.new_tokens for r in rows),
        "errors": _count(r.error for r in rows if r.outcome == "wrong"),
        "decoder_errors": _count(r.error for r in rows if r.outcome == "unparsable"),
        "not_run": _count(r.error for r in rows if r.outcome == "not_run"),
        "by_category": {
            s: _shares([r for r in rows if r.style == s]) for s in sorted({r.style for r in rows})
        },
    }


def _shares(rows: Sequence[Row]) -> dict[str, Any]:
    n, right = len(rows), sum(r.valid for r in rows)
    low, high = wilson(right, n)
    return {
        "n": n,
        "parsable": sum(r.calls is not None for r in rows) / n,
        "ast": right / n,
        "ast_low": low,
        "ast_high": high,
    }


def _count(errors: Iterable[str]) -> dict[str, int]:
    return dict(Counter(errors).most_common())


def _row(case: Case, generation: Any, refused: str, codec: Codec) -> Row:
    def row(outcome: str, error: str, detail: str, lenient: bool, calls: Sequence[ToolCall] | None) -> Row:
        g = generation
        return Row(
            case.id,
            case.style,
            case.step,
            outcome,
            error,
            detail,
            lenient,
            None if calls is None else [{"name": c.name, "arguments": c.arguments} for c in calls],
            g.text if g else "",
            g.finish_reason if g else "",
            g.prompt_tokens if g else 0,
            len(g.token_ids) if g else 0,
            g.seconds if g else 0.0,
        )

    if generation is None:
        return row("not_run", "grammar", refused, False, None)
    if not generation.token_ids:
        return row("not_run", "prompt_too_long", f"{generation.prompt_tokens} tokens", False, None)
    try:
        calls = codec.parse(generation.text, words=False).tool_calls
    except ParseError as e:
        code = "cut_off" if generation.finish_reason == "length" else parse_code(e)
        return row("unparsable", code, e.what, case.category == "irrelevance", None)
    verdict = score(case.tools, calls, case.answers, category=case.category, language=case.language)
    outcome = "right" if verdict.valid else "wrong"
    return row(outcome, "" if verdict.valid else verdict.error_type, verdict.detail, verdict.valid, calls)


def parse_code(error: ParseError) -> str:
    """A short class for a decoder's message: its words before anything that is quoted from the text."""
    message = re.sub(r"^arguments of .* are", "arguments are", error.what, flags=re.DOTALL)
    words = re.split(r"[:\"']", message, maxsplit=1)[0].strip()
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "unreadable"


def _style(record: Record, step: int) -> str:
    if step == 0:
        for mark in reversed(record.lineage):
            if mark.startswith("style:"):
                return mark.removeprefix("style:").replace("-", "_")
    return _category(record, step)


def _category(record: Record, step: int) -> str:
    calls, tools = len(record.steps[step].tool_calls), len(record.tools)
    if calls == 0:
        return "irrelevance"
    if calls == 1:
        return "simple" if tools == 1 else "multiple"
    return "parallel" if tools == 1 else "parallel_multiple"
