"""An LLM as judge of whole trajectories and of single steps: any OpenAI-compatible endpoint, cached."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xlam_jax.config import Config
from xlam_jax.errors import InputError, WorkError
from xlam_jax.format.record import Record, read_json_lines, step_json
from xlam_jax.format.tools import xlam_view
from xlam_jax.ledger import Entry
from xlam_jax.llm import LLM, LLMError, Messages

STAGE = "judge"

_SYSTEM = (
    "You check training data for models that call functions. Judge strictly, by what is written only. "
    'Answer with one JSON object and nothing else: {"score": 1-5, "pass": true or false, "reasons": '
    '["..."]}. Score 5: flawless. 4: blemishes. 3: usable. 2: an error that misleads. 1: wrong.'
)
_TRAJECTORY = (
    "Judge the whole trajectory: do the calls solve what the user asks, with the right functions; is every "
    "argument value given by the user or by an earlier result, and none invented; are the thoughts sound, "
    "and do they lead to the calls; does the end follow from the results?"
)
_STEP = (
    "Judge only the last step: is it the right next step; is every argument value given by the user or by an "
    "earlier result, and none invented; is its thought sound, and does it lead to the calls?"
)


class JudgeConfig(Config):
    """The judge stage.

    Attributes:
      base_url: of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`.
      cache: JSONL file of answers, so that a rerun asks nothing twice; empty keeps none.
      scope: what is judged: the whole trajectory, each step with calls, or both; the lowest score counts.
      min_score: least score that passes, 1 to 5.
      action: what a low score does to a row.
      unreadable: what an answer does that is no verdict, or that could not be had.
      model: its name there.
      api_key_env: variable that holds the key.
      concurrency: requests at a time.
      retries: of a request that failed.
      max_tokens: longest verdict.
    """

    base_url: str
    model: str = "judge"
    api_key_env: str = "OPENAI_API_KEY"
    cache: str = ""
    scope: Literal["trajectory", "steps", "both"] = "both"
    min_score: float = 3
    action: Literal["flag", "drop"] = "drop"
    unreadable: Literal["flag", "drop"] = "flag"
    concurrency: int = 8
    retries: int = 5
    max_tokens: int = 1024

    def client(self) -> LLM:
        """The client of this endpoint."""
        return LLM(
            self.base_url,
            self.model,
            self.api_key_env,
            self.cache or None,
            max_tokens=self.max_tokens,
            concurrency=self.concurrency,
            retries=self.retries,
        )


@dataclass(frozen=True)
class Judgement:
    """What the judge says of a record.

    Attributes:
      score: the lowest of its verdicts; None where an answer was unreadable or missing.
      reasons: the judge's words, or what was wrong with its answer.
      code: "" for a verdict, `judge_unreadable` or `judge_failed`.
    """

    score: float | None
    reasons: str = ""
    code: str = ""


def prompts(record: Record, scope: str = "both") -> list[Messages]:
    """The requests for one record: the whole, then each step with calls."""
    said = []
    if scope in ("trajectory", "both"):
        said.append(_messages(_TRAJECTORY, record, len(record.steps)))
    if scope in ("steps", "both"):
        said += [_messages(_STEP, record, i) for i, step in enumerate(record.steps, 1) if step.tool_calls]
    return said or [_messages(_TRAJECTORY, record, len(record.steps))]


def _messages(task: str, record: Record, steps: int) -> Messages:
    shown: dict[str, Any] = {"tools": [xlam_view(tool) for tool in record.tools], "query": record.query}
    if record.task_instruction:
        shown = {"task_instruction": record.task_instruction, **shown}
    listed = [step_json(step, i) for i, step in enumerate(record.steps[:steps], 1)]
    if task is _STEP and listed:
        # What came of the step is not known when it is taken.
        listed[-1] = {key: listed[-1][key] for key in ("step_id", "thought", "tool_calls")}
    shown["steps"] = listed
    text = f"{task}\n\n{json.dumps(shown, ensure_ascii=False, indent=1)}"
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]


def read_verdict(text: str) -> tuple[float, str] | None:
    """`(score, reasons)` of an answer; None where it is none. Text around the object is tolerated."""
    body = text.rsplit("</think>", 1)[-1]
    match = re.search(r"\{.*\}", body, re.DOTALL)
    try:
        verdict: Any = json.loads(match[0]) if match else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(verdict, dict):
        return None
    score = verdict.get("score")
    if isinstance(score, str) and re.fullmatch(r"[1-5](\.\d+)?", score.strip()):
        score = float(score)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 1 <= score <= 5:
        return None
    # A judge that fails a row in words and passes it in numbers means the words.
    if verdict.get("pass") is False:
        score = min(score, 2)
    reasons = verdict.get("reasons", "")
    return float(score), "; ".join(map(str, reasons)) if isinstance(reasons, list) else str(reasons)


def judge(records: Sequence[Record], llm: LLM, scope: str = "both") -> list[Judgement]:
    """One judgement a record. An unreadable answer is asked for once more.

    Raises:
      WorkError: no request of several was answered: the endpoint is down, and a later run goes on from the
        cache.
    """
    asked = [prompts(record, scope) for record in records]
    flat = [messages for each in asked for messages in each]
    answers = llm.complete_many(flat, json_mode=True)
    if flat and all(isinstance(answer, LLMError) for answer in answers):
        first = answers[0]
        assert isinstance(first, LLMError)
        hint = "start the endpoint and run again: answers so far are kept in the cache"
        raise WorkError(f"no answer from the judge: {first.what}", where=llm.base_url, hint=hint)
    odd = [i for i, a in enumerate(answers) if isinstance(a, str) and read_verdict(a) is None]
    for i, answer in zip(
        odd, llm.complete_many([flat[i] for i in odd], json_mode=True, sample=1), strict=True
    ):
        answers[i] = answer
    judgements, at = [], 0
    for each in asked:
        judgements.append(_judgement(answers[at : at + len(each)]))
        at += len(each)
    return judgements


def _judgement(answers: Sequence[str | LLMError]) -> Judgement:
    verdicts = []
    for answer in answers:
        if isinstance(answer, LLMError):
            return Judgement(None, answer.what, "judge_failed")
        verdict = read_verdict(answer)
        if verdict is None:
            return Judgement(None, answer[:160], "judge_unreadable")
        verdicts.append(verdict)
    score, reasons = min(verdicts, key=lambda verdict: verdict[0])
    return Judgement(score, reasons)


def judge_entry(record: Record, judgement: Judgement, config: JudgeConfig) -> Entry:
    """The ledger's entry: `judge_rejected` below the least score; a flag is a pass with a reason."""
    row = (record.id, record.source, STAGE)
    if judgement.score is None:
        verdict = "dropped" if config.unreadable == "drop" else "pass"
        return Entry(*row, verdict, judgement.code, judgement.reasons[:300])
    detail = f"{judgement.score:g}: {judgement.reasons}"[:300]
    if judgement.score >= config.min_score:
        return Entry(*row, "pass", "", detail)
    return Entry(*row, "dropped" if config.action == "drop" else "pass", "judge_rejected", detail)


def calibrate(labelled: Sequence[tuple[bool, Judgement]], min_score: float) -> dict[str, Any]:
    """Agreement of a judge with labels: accuracy, Cohen's kappa, confusion, and a sweep of thresholds.

    Args:
      labelled: `(is the row good, judgement)`.
      min_score: the threshold whose confusion is given.

    Raises:
      InputError: no row with a verdict.

    Source: kappa as in J. Cohen, A coefficient of agreement for nominal scales (1960).
    """
    read = [(good, j.score) for good, j in labelled if j.score is not None]
    if not read:
        raise InputError("no labelled row got a verdict", hint="look at the judge's answers in its cache")
    sweep = [
        _agreement([(good, score >= threshold) for good, score in read], threshold)
        for threshold in sorted({1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, float(min_score)})
    ]
    chosen = next(row for row in sweep if row["threshold"] == min_score)
    best = max(sweep, key=lambda row: (row["kappa"], row["accuracy"]))
    return {
        "rows": len(labelled),
        "read": len(read),
        "unread": len(labelled) - len(read),
        **chosen,
        "best_threshold": best["threshold"],
        "sweep": sweep,
    }


def _agreement(pairs: Sequence[tuple[bool, bool]], threshold: float) -> dict[str, Any]:
    n = len(pairs)
    both = sum(good and passed for good, passed in pairs)
    neither = sum(not good and not passed for good, passed in pairs)
    good, passed = sum(g for g, _ in pairs), sum(p for _, p in pairs)
    accuracy = (both + neither) / n
    chance = (good * passed + (n - good) * (n - passed)) / n**2
    return {
        "threshold": threshold,
        "accuracy": accuracy,
        "kappa": (accuracy - chance) / (1 - chance) if chance < 1 else 1.0,
        "good_passed": both,
        "good_failed": good - both,
        "bad_passed": passed - both,
        "bad_failed": neither,
    }


def read_labelled(path: Path) -> Iterator[tuple[Record, bool]]:
    """Rows `{"record": Record, "good": true or false}` of a JSONL file.

    Raises:
      InputError: a row of another shape, or none at all.
    """
    empty = True
    for obj, where in read_json_lines(path):
        if not isinstance(obj, dict) or not isinstance(obj.get("good"), bool):
            raise InputError("no label in this row", where=where, hint='{"record": {...}, "good": true}')
        empty = False
        yield Record.from_json(obj.get("record"), where), obj["good"]
    if empty:
        raise InputError("no labelled row", where=str(path))
