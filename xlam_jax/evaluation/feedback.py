"""From an evaluation back to the data: kinds of questions that a model gets wrong are drawn more often.

A kind is what BFCL's categories are named after: one tool or several, one call or several, or none. Its weight is its
error rate over the mean error rate of the training rows, held between 1 / most and most; rates are smoothed
((wrong + 1) / (rows + 2)), so that three lucky answers do not switch a kind off.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.harness import CaseResult, structure_of
from xlam_jax.files import write_text
from xlam_jax.format import Record

KINDS = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance")
INPUTS = "inputs.json"


def errors_by_kind(rows: Iterable[CaseResult]) -> tuple[dict[str, tuple[int, int]], Counter[str]]:
    """Kind -> (rows, wrong), and the rows of styles that are no kind, by style."""
    kinds: dict[str, tuple[int, int]] = {}
    others: Counter[str] = Counter()
    for row in rows:
        kind = row.style.removeprefix("live_").removeprefix("exec_").removesuffix("_python")
        if kind not in KINDS:
            others[row.style] += 1
            continue
        n, wrong = kinds.get(kind, (0, 0))
        kinds[kind] = (n + 1, wrong + (not row.valid))
    return kinds, others


def weights(errors: dict[str, tuple[int, int]], counts: dict[str, int], most: float) -> dict[str, float]:
    """Kind -> how often each of its rows is used; 1 for a kind that was not evaluated.

    Args:
      errors: see `errors_by_kind`.
      counts: training rows of each kind.
    """
    rates = {kind: (wrong + 1) / (n + 2) for kind, (n, wrong) in errors.items() if counts.get(kind)}
    total = sum(counts[kind] for kind in rates)
    if not total:
        raise InputError(
            "no kind of question is both in the evaluation and in the rows", hint=", ".join(KINDS)
        )
    mean = sum(rates[kind] * counts[kind] for kind in rates) / total
    return {
        kind: round(min(most, max(1 / most, rates[kind] / mean)), 2) if kind in rates else 1.0
        for kind in counts
    }


def split(records: Iterable[Record], out: Path) -> dict[str, int]:
    """Writes OUT/KIND.jsonl for every kind among the records, by their first step; returns their numbers.

    Raises:
      InputError: no records.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for record in records:
            kind = structure_of(record, 0) if record.steps else "irrelevance"
            if kind not in files:
                files[kind] = stack.enter_context((out / f"{kind}.jsonl").open("w", encoding="utf-8"))
            files[kind].write(json.dumps(record.to_json(), ensure_ascii=False) + "\n")
            counts[kind] += 1
    if not counts:
        raise InputError("no rows", where=str(out))
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def write_inputs(out: Path, place: Path, epochs: dict[str, float]) -> list[dict[str, Any]]:
    """Writes `inputs` of a data config as JSON, each kind with its epochs, for an OUT that will stand at `place`."""
    inputs = [{"path": str(place / f"{kind}.jsonl"), "epochs": value} for kind, value in epochs.items()]
    write_text(out / INPUTS, json.dumps(inputs) + "\n")
    return inputs


def line(
    kind: str, errors: dict[str, tuple[int, int]], counts: dict[str, int], epochs: float
) -> dict[str, Any]:
    """A line of the table.

    Args:
      errors, counts: as in `weights`.
      epochs: of this kind, from `weights`.
    """
    n, wrong = errors.get(kind, (0, 0))
    share = f"{100 * wrong / n:.1f} ({wrong} of {n})" if n else "not evaluated"
    return {"kind": kind, "rows": counts[kind], "wrong %": share, "epochs": epochs}
