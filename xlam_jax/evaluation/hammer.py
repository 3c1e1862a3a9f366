"""Hammer's test sets: precision, recall and F1 of function names and of arguments, and answers that are none.

Names and arguments are counted over all rows before they are divided (micro-averages), each as often as it is
called: an argument is right where its function, its name and its value are. Values compare as JSON, a number also
with its text, since the sets write `"40.7"` where a tool asks for a number. Measures as Hammer reports them (arXiv
2410.04587, section 4), on API-Bank, Seal-Tools and ToolAlpaca; its own scorer is not copied, so small differences are
possible.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.evaluation.harness import Case, CaseResult, Raw, judge, record_cases
from xlam_jax.format import Codec, Record, ToolCall
from xlam_jax.format.record import read_records
from xlam_jax.records.sources.base import Refused
from xlam_jax.records.sources.rows import read_rows
from xlam_jax.records.sources.xlam_60k import convert

_COUNTED = ("name", "argument")
_DRAWS = 2000
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d{1,3})?")


def read_questions(path: Path) -> tuple[list[Record], Counter[str]]:
    """Rows of a file: Records (`.jsonl`, `.jsonl.gz`), or Hammer's JSON (query, tools, answers).

    Returns:
      the rows that have a question and calls to compare with, and how many were refused, by reason.

    Raises:
      InputError: a file that cannot be read, or holds no rows.
    """
    refused: Counter[str] = Counter()
    records = []
    for record in _records(path, refused):
        names = {tool.name for tool in record.tools}
        if not record.steps or any(call.name not in names for call in record.steps[0].tool_calls):
            refused["call_of_no_tool" if record.steps else "no_steps"] += 1
        else:
            records.append(record)
    if not records:
        raise InputError("no rows", where=str(path), hint="Hammer's data/test/original/*.json, or Records")
    return records, refused


def _records(path: Path, refused: Counter[str]) -> Iterator[Record]:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from read_records(path)
        return
    for row in read_rows(path):
        try:
            yield convert(row)
        except Refused as e:
            refused[e.code] += 1


def hammer_cases(records: Sequence[Record], style: str, codec: Codec) -> list[Case]:
    """A case a row, its first step; ids that stand twice are told apart."""
    cases = [
        replace(case, style=style, record=record)
        for record in records
        for case in record_cases(record, codec)
    ]
    seen: Counter[str] = Counter()
    out = []
    for case in cases:
        seen[case.id] += 1
        out.append(case if seen[case.id] == 1 else replace(case, id=f"{case.id}#{seen[case.id]}"))
    return out


def gold_calls(case: Case) -> tuple[ToolCall, ...]:
    """The calls of the row."""
    return case.record.steps[case.step].tool_calls if case.record else ()


def judge_hammer(case: Case, raw: Raw, codec: Codec) -> CaseResult:
    """The verdict on an answer, with what is counted in `metrics`: `name_right`, `name_said`, `name_due`, and so on."""
    row = judge(case, raw, codec)
    said = [ToolCall(c["name"], c["arguments"]) for c in row.calls or ()]
    due = gold_calls(case)
    metrics = {
        **_counts("name", _names(said), _names(due)),
        **_counts("argument", _arguments(said), _arguments(due)),
    }
    return replace(row, metrics=metrics)


def _counts(kind: str, said: Counter[Any], due: Counter[Any]) -> dict[str, float]:
    return {f"{kind}_right": (said & due).total(), f"{kind}_said": said.total(), f"{kind}_due": due.total()}


def _names(calls: Sequence[ToolCall]) -> Counter[str]:
    return Counter(call.name for call in calls)


def _arguments(calls: Sequence[ToolCall]) -> Counter[tuple[str, str, str]]:
    return Counter((c.name, name, _plain(value)) for c in calls for name, value in c.arguments.items())


def _plain(value: Any) -> str:
    """A value as text that equal values share: 40.7, "40.7" and 40.70 are one, "007" and 7 are not."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(key)}: {_plain(item)}" for key, item in sorted(value.items())) + "}"
        )
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    text = str(value)
    if isinstance(value, str) and not _NUMBER.fullmatch(text):
        return json.dumps(text, ensure_ascii=False)
    return str(Decimal(text).normalize() + 0)  # + 0: -0 is 0


def summarise_hammer(rows: Sequence[CaseResult]) -> dict[str, Any]:
    """Shares for each file, and for all: `sets` of name -> {n, unparsable, name, argument}, and `mean` of the sets' F1.

    A share is {precision, recall, f1, low, high}: 95 % interval of F1, rows drawn with replacement.
    """
    styles = list(dict.fromkeys(row.style for row in rows))
    sets = {style: _shares([row for row in rows if row.style == style]) for style in styles}
    return {
        "n": len(rows),
        "sets": sets,
        "mean": {kind: float(np.mean([shares[kind]["f1"] for shares in sets.values()])) for kind in _COUNTED},
    }


def _shares(rows: Sequence[CaseResult]) -> dict[str, Any]:
    shares: dict[str, Any] = {
        "n": len(rows),
        "unparsable": sum(row.outcome == "unparsable" for row in rows) / len(rows),
        "not_run": sum(row.outcome == "not_run" for row in rows),
    }
    draw = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_DRAWS)
    for kind in _COUNTED:
        counts = np.array(
            [[row.metrics[f"{kind}_{part}"] for part in ("right", "said", "due")] for row in rows]
        )
        right, said, due = counts.sum(axis=0)
        drawn = draw @ counts
        low, high = np.quantile(_f1(drawn[:, 0], drawn[:, 1], drawn[:, 2]), (0.025, 0.975))
        shares[kind] = {
            "precision": float(right / said) if said else 0.0,
            "recall": float(right / due) if due else 0.0,
            "f1": float(_f1(right, said, due)),
            "low": float(low),
            "high": float(high),
        }
    return shares


def _f1(right: Any, said: Any, due: Any) -> Any:
    """F1 of counts; 1 where nothing is due and nothing said."""
    both = np.asarray(said + due, dtype=float)
    return np.where(both > 0, 2 * right / np.maximum(both, 1), 1.0)


def table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A line a set, in per cent."""
    lines = []
    for name, shares in summary["sets"].items():
        line: dict[str, Any] = {
            "set": name,
            "rows": shares["n"],
            "no answer %": round(100 * shares["unparsable"], 1),
        }
        for kind in _COUNTED:
            share = shares[kind]
            line[f"{kind} P/R %"] = f"{100 * share['precision']:.1f} / {100 * share['recall']:.1f}"
            line[f"{kind} F1 %"] = (
                f"{100 * share['f1']:.1f} ({100 * share['low']:.1f}-{100 * share['high']:.1f})"
            )
        lines.append(line)
    return lines
