"""Answers kept as they come: an evaluation that was killed goes on where it stopped.

`generations.jsonl` has a line a row, its raw text included; it grows a chunk at a time and is put into the order of
the cases at the end. `run.json` says what the answers are of, so that nobody goes on with another model or data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.harness import Case, CaseResult, Raw
from xlam_jax.files import read_object, room_on_disk, write_json, write_text
from xlam_jax.lease import Lease

GENERATIONS, RUN = "generations.jsonl", "run.json"
Ask = Callable[[Sequence[Case]], list[Raw]]


class Journal:
    """The rows of a run, in a folder or in memory; a context manager that holds the folder for one process.

    Args:
      folder: where they are kept; None keeps none.
      about: what they are of (JSON values).
      resume: go on in a folder that has some.

    Raises:
      InputError: on entry, the folder has rows and `resume` is off, or they are of something else (names the key).
      WorkError: on entry, another process works in the folder.
    """

    def __init__(self, folder: Path | None, about: dict[str, Any], *, resume: bool = False):
        self.folder, self.about, self.resume = folder, about, resume
        self.rows: dict[tuple[str, str, int], CaseResult] = {}
        self._lease = contextlib.ExitStack()

    def __enter__(self) -> Journal:
        if self.folder is None:
            return self
        self._lease.enter_context(Lease(self.folder / "lease.json", "results folder"))
        try:
            self._read(self.folder, self.folder / RUN)
        except BaseException:
            self._lease.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lease.close()

    def _read(self, folder: Path, run: Path) -> None:
        if run.is_file():
            if not self.resume:
                hint = "--resume to go on with it, or another --out"
                raise InputError("the folder has the answers of a run", where=str(folder), hint=hint)
            _same(read_object(run), self.about, run)
            self.rows = {row.key: row for row in read_rows(folder / GENERATIONS, cut=True)}
        elif (folder / GENERATIONS).exists():
            what = f"{GENERATIONS} without {RUN}, which says what it is of"
            raise InputError(what, where=str(folder), hint="another --out")
        write_json(run, self.about)

    def add(self, rows: Sequence[CaseResult]) -> None:
        """Keeps rows, on disk before this returns."""
        self.rows |= {row.key: row for row in rows}
        if self.folder is None:
            return
        with room_on_disk(self.folder), (self.folder / GENERATIONS).open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, rows)))

    def finish(self, order: Sequence[Case]) -> list[CaseResult]:
        """All rows in the order of the cases."""
        rows = [self.rows[case.key] for case in order]
        if self.folder is not None:
            write_text(self.folder / GENERATIONS, "".join(map(_line, rows)))
        return rows


def answer_cases(
    ask: Ask,
    cases: Sequence[Case],
    verdict: Callable[[Case, Raw], CaseResult],
    journal: Journal,
    *,
    chunk: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[CaseResult]:
    """Asks for what the journal lacks, `chunk` cases at a time, and judges everything anew.

    Args:
      verdict: what the rules make of an answer.
      progress: called with the number of rows that are there.

    Raises:
      InputError: no cases.
    """
    if not cases:
        raise InputError("nothing to evaluate")
    before = [case for case in cases if case.key in journal.rows]
    left = [case for case in cases if case.key not in journal.rows]
    for start in range(0, len(left), chunk):
        if progress:
            progress(len(cases) - len(left) + start)
        part = left[start : start + chunk]
        journal.add([verdict(case, raw) for case, raw in zip(part, ask(part), strict=True)])
    if progress:
        progress(len(cases))
    for case in before:  # rules may have changed since they were kept
        journal.rows[case.key] = verdict(case, journal.rows[case.key].raw)
    return journal.finish(cases)


def read_rows(path: Path, *, cut: bool = False) -> list[CaseResult]:
    """The rows of a `generations.jsonl`; none where there is no file.

    Args:
      cut: a last line that a kill left half written is cut off; otherwise it is an error.

    Raises:
      InputError: a line that is no row (names it).
    """
    if not path.is_file():
        return []
    rows = []
    with path.open("r+b" if cut else "rb") as file:
        end = 0
        for number, line in enumerate(file, 1):
            if cut and not line.endswith(b"\n"):
                file.truncate(end)
                break
            end += len(line)
            try:
                rows.append(CaseResult(**json.loads(line)))
            except (ValueError, TypeError) as e:
                raise InputError(f"not a row of results: {e}", where=f"{path}:{number}") from e
    return rows


def kept_rows(folder: Path) -> list[CaseResult]:
    """The rows that an evaluation kept in its folder.

    Raises:
      InputError: there are none, or a line is no row.
    """
    if rows := read_rows(folder / GENERATIONS):
        return rows
    raise InputError(
        f"no {GENERATIONS} in the folder", where=str(folder), hint="what an evaluation with --out wrote"
    )


def _line(row: CaseResult) -> str:
    return json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n"


def _same(then: dict[str, Any], now: dict[str, Any], where: Path) -> None:
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            raise InputError(
                f"the answers there are of another {key}: {_short(then.get(key))}, now {_short(now.get(key))}",
                where=str(where),
                hint="the same options, or another --out",
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
