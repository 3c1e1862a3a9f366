"""Rows of a synthesis that failed a stage, as Records again: for ablations of the filter, and as negatives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlam_jax.apigen.verify import STAGES, Rejection
from xlam_jax.errors import InputError, unknown
from xlam_jax.format.record import Record, parse_line, read_lines

REJECTED = "rejected.jsonl"


def entry(id: str, stage: str, fault: Rejection, row: Any) -> str:
    """A line of rejected.jsonl.

    Args:
      row: the Record as JSON, or what a model said that is none.
    """
    kept = {"id": id, "stage": stage, "reason": fault.reason, "detail": fault.detail, "row": row}
    return json.dumps(kept, ensure_ascii=False) + "\n"


def rejected_records(
    run: Path, stages: Sequence[str], left: Callable[[str], None] = lambda reason: None
) -> Iterator[Record]:
    """Training rows that failed one of `stages`; their lineage says where and why.

    Args:
      run: folder of `xlam apigen run`.
      left: told why a rejected training row of these stages is no Record.

    Raises:
      InputError: no such run, an unknown stage, or a line that is not of rejected.jsonl.
    """
    for stage in stages:
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES, where="--stage")
    path = run / REJECTED
    if not path.is_file():
        raise InputError(
            f"no {REJECTED} in the folder", where=str(run), hint="a folder that xlam apigen run wrote"
        )
    for line, where in read_lines(path):
        rejection = parse_line(line, where)
        if not isinstance(rejection, dict) or not {"id", "stage", "reason", "row"} <= rejection.keys():
            raise InputError(f"not a line of {REJECTED}", where=where)
        if rejection["stage"] not in stages or "train" not in rejection["id"].split("-"):
            continue
        try:
            record = Record.from_json(rejection["row"])
        except (InputError, TypeError) as e:
            left(str(e).splitlines()[0])
            continue
        yield replace(
            record, lineage=(*record.lineage, f"rejected:{rejection['stage']}/{rejection['reason']}")
        )
