"""Preference pairs: a Record whose last step is the better answer, and a worse one to the same prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, Step, read_json_lines, step_json, write_json_lines


@dataclass(frozen=True)
class Pair:
    """`chosen.steps[-1]` is preferred to `rejected`; everything before is the common prompt.

    Attributes:
      reason: why the rejected answer is worse, a code such as `wrong_type` or `model:NAME`.
    """

    chosen: Record
    rejected: Step
    reason: str = ""

    @property
    def rejected_record(self) -> Record:
        """The record with the worse answer in place of the better one."""
        return replace(self.chosen, steps=(*self.chosen.steps[:-1], self.rejected))

    @classmethod
    def from_json(cls, obj: Any, where: str = "") -> Pair:
        """Reads a Record with the two further keys `rejected` (a step) and `rejected_reason`.

        Raises:
          InputError: a bad record or step, or a record without steps.
        """
        if not isinstance(obj, dict) or not isinstance(obj.get("rejected"), dict):
            raise InputError("a preference pair needs a step under 'rejected'", where=where)
        rest = {k: v for k, v in obj.items() if k not in ("rejected", "rejected_reason")}
        chosen = Record.from_json(rest, where)
        if not chosen.steps:
            raise InputError("a preference pair needs a chosen step", where=where)
        worse = Record.from_json({**rest, "steps": [obj["rejected"]]}, where).steps[0]
        return cls(chosen, worse, str(obj.get("rejected_reason", "")))

    def to_json(self) -> dict[str, Any]:
        """The chosen Record's JSON with `rejected` and `rejected_reason`."""
        rejected = step_json(self.rejected, len(self.chosen.steps))
        return {**self.chosen.to_json(), "rejected": rejected, "rejected_reason": self.reason}


def read_pairs(path: str | Path) -> Iterator[Pair]:
    """Yields the pairs of a JSONL file (gzip by name); errors as in `read_records`."""
    for obj, where in read_json_lines(path):
        yield Pair.from_json(obj, where)


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> int:
    """Writes JSONL (gzip by name) and returns the number of pairs."""
    return write_json_lines(path, (pair.to_json() for pair in pairs))
