"""Cases in, verdicts out: generate an answer per case, parse it, score it by the BFCL rules.

Three things are kept apart: text that is no answer (`unparsable`, with the decoder's error code), an answer
that is wrong (with the checker's error type), and a case that could not be put to the model (`not_run`). All
three count as failures in the accuracy. What a model said (`Raw`) is kept apart from what rules make of it
(`judge`), so that it can be judged again.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from xlam_jax.errors import InputError
from xlam_jax.format import Codec, ParseError, Record, Tool, ToolCall
from xlam_jax.format.call_formats.value_rules import unsaid
from xlam_jax.scoring.bfcl import answers_of, score
from xlam_jax.scoring.intervals import wilson
from xlam_jax.scoring.strict import score_strict

T = TypeVar("T")


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
      language: of the values; in Java and JavaScript they are source text.
      judged: the tools as the rules see them, where they differ from those that the model is shown.
      record: the question itself with what came before, for models that take messages.
    """

    id: str
    style: str
    category: str
    prompt: str
    tools: tuple[Tool, ...]
    answers: list[dict[str, dict[str, list]]] = field(default_factory=list)
    step: int = 0
    language: str = "python"
    judged: tuple[Tool, ...] = ()
    record: Record | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What a row of results is found again by."""
        return self.style, self.id, self.step


@dataclass(frozen=True)
class Raw:
    """What a model said to one case, or why it did not answer (`refused`, with a code in `finish_reason`).

    Without new tokens the prompt itself was too long.
    """

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    refused: str = ""


@dataclass(frozen=True)
class CaseResult:
    """What came of one case.

    Attributes:
      calls: the parsed calls, None when the text is no answer.
      outcome: right, wrong, unparsable or not_run.
      error: empty when right, else the checker's error type or the decoder's error code.
      lenient: the verdict by BFCL's own rule for refusals: text that is no answer counts as no call.
      strict: the verdict by the strict rules (`scoring.strict`); `strict_error` as `error`.
      metrics: numbers beside the verdict, where a benchmark has some.
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
    strict: bool = False
    strict_error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        return self.outcome == "right"

    @property
    def key(self) -> tuple[str, str, int]:
        return self.style, self.id, self.step

    @property
    def raw(self) -> Raw:
        """What the model said, for judging it again."""
        refused = self.detail if self.outcome == "not_run" and self.error != "prompt_too_long" else ""
        return Raw(self.text, self.finish_reason, self.prompt_tokens, self.new_tokens, self.seconds, refused)


@dataclass(frozen=True)
class EvalReport:
    """Rows in the order of the cases, and the summary over them (shares are fractions of 1)."""

    rows: tuple[CaseResult, ...]
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
            category=structure_of(record, step),
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
    raws, said_not = ask(
        engine,
        cases,
        codec,
        constrained=constrained,
        tool_choice=tool_choice,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        progress=progress,
    )
    rows = tuple(judge(case, raw, codec) for case, raw in zip(cases, raws, strict=True))
    summary = summarise(rows, time.perf_counter() - begin)
    if constrained:
        summary["unsaid"] = said_not
    return EvalReport(rows, summary)


def ask(
    engine: Generates,
    cases: Sequence[Case],
    codec: Codec,
    *,
    constrained: bool = False,
    tool_choice: str = "auto",
    **generation: Any,
) -> tuple[list[Raw], list[str]]:
    """What the engine says to each case, and what the tools' schemas say that the grammars do not.

    Args:
      generation: of `Engine.generate`.
    """
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
        grammars=[grammars[i] for i in asked] if constrained else None,
        until_broken=not constrained,
        **generation,
    )
    raws = {i: Raw(refused=reason) for i, reason in refused.items()}
    for i, g in zip(asked, generations, strict=True):
        raws[i] = Raw(g.text, g.finish_reason, g.prompt_tokens, len(g.token_ids), g.seconds)
    said_not = list(dict.fromkeys(line for grammar in grammars for line in unsaid(grammar or "")))
    return [raws[i] for i in range(len(cases))], said_not


def summarise(rows: Sequence[CaseResult], seconds: float) -> dict[str, Any]:
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


def _shares(rows: Sequence[CaseResult]) -> dict[str, Any]:
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


def judge(case: Case, raw: Raw, codec: Codec) -> CaseResult:
    """What the rules make of a model's words."""

    def row(
        outcome: str, error: str, detail: str, calls: Sequence[ToolCall] | None = None, **verdicts: Any
    ) -> CaseResult:
        return CaseResult(
            case.id,
            case.style,
            case.step,
            outcome,
            error,
            detail,
            verdicts.get("lenient", False),
            None if calls is None else [{"name": c.name, "arguments": c.arguments} for c in calls],
            raw.text,
            raw.finish_reason,
            raw.prompt_tokens,
            raw.new_tokens,
            raw.seconds,
            verdicts.get("strict", False),
            verdicts.get("strict_error", error),
        )

    if raw.refused:
        return row("not_run", raw.finish_reason or "grammar", raw.refused)
    if not raw.new_tokens:
        return row("not_run", "prompt_too_long", f"{raw.prompt_tokens} tokens")
    try:
        calls = codec.parse(raw.text, words=False).tool_calls
    except ParseError as e:
        code = "cut_off" if raw.finish_reason == "length" else parse_code(e)
        return row("unparsable", code, e.what, lenient=case.category == "irrelevance")
    tools, how = case.judged or case.tools, {"category": case.category, "language": case.language}
    verdict = score(tools, calls, case.answers, **how)
    strict = score_strict(tools, calls, case.answers, **how)
    return row(
        "right" if verdict.valid else "wrong",
        verdict.error_type,
        verdict.detail,
        calls,
        lenient=verdict.valid,
        strict=strict.valid,
        strict_error=strict.error_type,
    )


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
    return structure_of(record, step)


def structure_of(record: Record, step: int) -> str:
    """What kind of question a step answers, by its calls and tools: BFCL's names."""
    calls, tools = len(record.steps[step].tool_calls), len(record.tools)
    if calls == 0:
        return "irrelevance"
    if calls == 1:
        return "simple" if tools == 1 else "multiple"
    return "parallel" if tools == 1 else "parallel_multiple"


def sample(cases: list[T], limit: int | None, seed: int) -> list[T]:
    """`limit` of the cases, drawn by `seed`, in their order; all where there are no more."""
    if limit is None or limit >= len(cases):
        return cases
    drawn = sorted(random.Random(seed).sample(range(len(cases)), limit))
    return [cases[i] for i in drawn]
