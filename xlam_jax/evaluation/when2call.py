"""When2Call: to call, to ask for what is missing, or to say that it cannot be done; by log-probability.

Four answers to each question are given, one of each kind. The model's choice is the likeliest: by the sum of the
log-probabilities of its tokens (`acc` in lm-evaluation-harness), and by that sum over the answer's length in characters
(`acc_norm`). Answers are written as this model writes them, calls in its call format, words as its words. A direct
answer is never right here and is a fourth class of the macro F1. Measures of Ross et al. 2025 (arXiv 2504.18851).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.harness import Case, CaseResult, Raw
from xlam_jax.format import Codec, Record
from xlam_jax.records.sources.base import Refused
from xlam_jax.records.sources.rows import read_rows
from xlam_jax.records.sources.values import Row
from xlam_jax.records.sources.when2call import convert
from xlam_jax.scoring.intervals import wilson

KINDS = ("direct", "tool_call", "request_for_info", "cannot_answer")
_DRAWS = 400
_NEEDED = {"question", "correct_answer", "answers"}


@dataclass(frozen=True)
class Question:
    """A row of the multiple-choice test.

    Attributes:
      answers: kind -> the question with this answer.
    """

    id: str
    right: str
    answers: dict[str, Record]

    @property
    def tools(self) -> int:
        """How many tools are offered."""
        return len(self.answers[self.right].tools)


def read_questions(path: Path) -> tuple[list[Question], Counter[str]]:
    """Rows of `when2call_test_mcq.jsonl`.

    Returns:
      the questions, and how many rows were refused, by reason.

    Raises:
      InputError: a file that cannot be read, or holds no such rows.
    """
    refused: Counter[str] = Counter()
    questions = []
    for row in read_rows(path):
        obj = row.obj
        if not isinstance(obj, dict) or not obj.keys() >= _NEEDED or obj["correct_answer"] not in KINDS:
            refused["no_choice"] += 1
            continue
        try:
            answers = {kind: _answered(row, kind) for kind in KINDS}
        except Refused as e:
            refused[e.code] += 1
            continue
        questions.append(Question(answers["direct"].id, obj["correct_answer"], answers))
    if not questions:
        raise InputError(
            "no multiple-choice rows", where=str(path), hint="data/test/when2call_test_mcq.jsonl of When2Call"
        )
    ids = Counter(question.id for question in questions)
    if twice := [name for name, n in ids.items() if n > 1]:
        raise InputError(f"two rows are called {twice[0]!r}", where=str(path), hint="one uuid a row")
    return questions, refused


def _answered(row: Row, kind: str) -> Record:
    record = convert(replace(row, raw=None, parsed={**row.obj, "correct_answer": kind}))
    if not isinstance(record, Record):
        raise Refused("no_choice", "no record")
    return record


def when2call_cases(questions: Sequence[Question], codec: Codec) -> list[Case]:
    """A case a question; its group in results is the kind of its right answer."""
    return [
        Case(
            id=q.id,
            style=q.right,
            category="",
            prompt=codec.styled(q.answers[q.right].style).prompt(q.answers[q.right]),
            tools=q.answers[q.right].tools,
            record=q.answers[q.right],
        )
        for q in questions
    ]


def choices(question: Question, codec: Codec) -> tuple[str, list[str]]:
    """(the prompt, the text of every kind of answer in the order of `KINDS`, its stop token included)."""
    prompt = codec.prompt(question.answers[question.right])
    texts = []
    for kind in KINDS:
        record = question.answers[kind]
        mine = codec.prompt(record)
        texts.append(codec.render(record).text[len(mine) :])
    return prompt, texts


def judge_choice(case: Case, raw: Raw, tools: int) -> CaseResult:
    """The verdict on kept log-probabilities: `raw.text` is JSON, kind -> [sum, characters]."""
    row = CaseResult(
        case.id, case.style, case.step, "not_run", "prompt_too_long", "", False, None,
        raw.text, raw.finish_reason, raw.prompt_tokens, raw.new_tokens, raw.seconds,
    )  # fmt: skip
    if not raw.text:
        return row
    scores = json.loads(raw.text)
    # Of equal ones the first, as an argmax has it.
    plain = max(KINDS, key=lambda kind: scores[kind][0])
    normed = max(KINDS, key=lambda kind: scores[kind][0] / scores[kind][1])
    right = normed == case.style
    return replace(
        row,
        outcome="right" if right else "wrong",
        error="" if right else f"chose_{normed}",
        lenient=right,
        strict=right,
        strict_error="" if right else f"chose_{normed}",
        metrics={"normed": KINDS.index(normed), "plain": KINDS.index(plain), "tools": tools},
    )


def summarise_when2call(rows: Sequence[CaseResult]) -> dict[str, Any]:
    """Shares are fractions of 1, with 95 % intervals: accuracy and macro F1 of the `normed` and of the `plain` choice,
    how often a call is chosen where there is no tool and no answer (`tool_hallucination`), and the confusion.

    Raises:
      InputError: no question was short enough for the model.
    """
    ran = [row for row in rows if row.outcome != "not_run"]
    if not ran:
        raise InputError("no question fits", where="--max-len", hint="a larger one")
    return {
        "n": len(rows),
        "not_run": len(rows) - len(ran),
        **{how: _scores(ran, how, len(rows)) for how in ("normed", "plain")},
    }


def _scores(ran: Sequence[CaseResult], how: str, n: int) -> dict[str, Any]:
    pairs = [(row.style, KINDS[int(row.metrics[how])]) for row in ran]
    right = sum(due == said for due, said in pairs)
    low, high = wilson(right, n)
    draw = random.Random(0)
    drawn = sorted(macro_f1(draw.choices(pairs, k=len(pairs))) for _ in range(_DRAWS))
    without = [
        said
        for row, (due, said) in zip(ran, pairs, strict=True)
        if due == "cannot_answer" and not row.metrics["tools"]
    ]
    called = sum(said == "tool_call" for said in without)
    confusion = Counter(pairs)
    return {
        "accuracy": {"value": right / n, "low": low, "high": high},
        "macro_f1": {
            "value": macro_f1(pairs),
            "low": drawn[int(0.025 * _DRAWS)],
            "high": drawn[int(0.975 * _DRAWS)],
        },
        "tool_hallucination": {
            **dict(zip(("low", "high"), wilson(called, len(without)), strict=True)),
            "value": called / len(without),
            "n": len(without),
        }
        if without
        else None,
        "confusion": {due: {said: confusion[due, said] for said in KINDS} for due in KINDS},
    }


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """Mean F1 of the kinds that are due or chosen anywhere; (due, chosen)."""
    scores = []
    for kind in KINDS:
        both = sum(due == said == kind for due, said in pairs)
        either = sum((due == kind) + (said == kind) for due, said in pairs)
        if either:
            scores.append(2 * both / either)
    return sum(scores) / len(scores) if scores else 0.0


def tables(summary: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(a line a way to choose, in per cent; a line a kind that is due: how often each was chosen)."""
    lines = []
    for how in ("normed", "plain"):
        line: dict[str, Any] = {"choice": "by length" if how == "normed" else "by sum"}
        for name in ("accuracy", "macro_f1", "tool_hallucination"):
            s = summary[how][name]
            line[f"{name} %"] = (
                f"{100 * s['value']:.1f} ({100 * s['low']:.1f}-{100 * s['high']:.1f})" if s else None
            )
        lines.append(line)
    confusion = [
        {"due": due, **said} for due, said in summary["normed"]["confusion"].items() if any(said.values())
    ]
    return lines, confusion
