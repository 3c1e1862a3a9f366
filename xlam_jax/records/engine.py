"""Engines: where row-wise data work runs. The same task gives the same bytes on each.

A task is a picklable callable on chunks; it sees the global index of its first row, so that seeds never
depend on how the rows were split or on the machine that worked on them.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from xlam_jax.errors import InputError, WorkError
from xlam_jax.format.record import Record, parse_line, write_lines
from xlam_jax.ledger import Entry, Ledger

CHUNK_ROWS = 256


@dataclass
class ChunkResult:
    """What became of a chunk: lines of the output file (JSON, no newline), ledger entries, and whatever else
    is counted."""

    lines: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ChunkTask(Protocol[R_co]):
    """Row-wise work; picklable, and without effects beyond its result."""

    def __call__(self, start: int, items: Sequence[Any]) -> R_co:
        """Args: `start`, the global index of `items[0]`; `items`, the rows."""
        ...


class RowEngine(Protocol):
    """Runs a task over chunks and yields the results in order, with few chunks in flight."""

    def run(
        self, task: ChunkTask[R], items: Iterable[Any], chunk_rows: int = CHUNK_ROWS
    ) -> Generator[R, None, None]: ...


@dataclass(frozen=True)
class LocalEngine:
    """This machine: in this process, or in `workers` processes (0: one a core)."""

    workers: int = 1

    def run(
        self, task: ChunkTask[R], items: Iterable[Any], chunk_rows: int = CHUNK_ROWS
    ) -> Generator[R, None, None]:
        """See `RowEngine`; an error in a worker is raised here, and ends the run.

        Raises:
          WorkError: a worker process was killed (by the system for want of memory, or by a crash).
        """
        workers = self.workers or available_cores()
        if workers == 1:
            yield from (task(start, chunk) for start, chunk in chunks(items, chunk_rows))
            return
        # Spawned, not forked: a fork inherits locks of threads (tokenizers, pyarrow).
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=_install, initargs=(task,)) as pool:
            waiting: deque[Future[R]] = deque()
            try:
                for start, chunk in chunks(items, chunk_rows):
                    waiting.append(pool.submit(_run_installed, start, chunk))
                    if len(waiting) > 2 * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool as e:
                raise WorkError(
                    "a worker process died in the middle of its work",
                    hint="if memory ran out, use fewer workers; --workers 1 shows a crash where it happens",
                ) from e
            finally:
                for future in waiting:
                    future.cancel()


def available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunks(items: Iterable[Any], rows: int) -> Iterator[tuple[int, list[Any]]]:
    """`(index of the first item, items)`, `rows` items each but for the last."""
    iterator, start = iter(items), 0
    while chunk := list(itertools.islice(iterator, rows)):
        yield start, chunk
        start += len(chunk)


_task: ChunkTask[Any] | None = None


def _install(task: ChunkTask[Any]) -> None:
    global _task
    _task = task
    # Ctrl-C reaches the whole process group: workers go quietly, and the parent cleans up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run_installed(start: int, chunk: list[Any]) -> Any:
    assert _task is not None
    try:
        return _task(start, chunk)
    except Exception as e:
        if (error := portable(e)) is e:
            raise
        raise error from e


def portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else a WorkError that says the same.

    An error whose constructor wants more than its message cannot be read on the other side, and there
    would pass for a dead worker.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkError(f"{type(error).__name__}: {error}")
    return error


@dataclass(frozen=True)
class RecordTask:
    """A task on the lines of a Records file (from `read_lines`), made of a function on one Record.

    Attributes:
      work: `(global index, record) -> (records out, ledger entries)`; an importable function or a picklable
        object. A dropped record gives no record and a `dropped` entry.
      stage: named in the ledger for lines that are no Record (reason `not_a_record`).
    """

    work: Callable[[int, Record], tuple[Iterable[Record], Iterable[Entry]]]
    stage: str

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> ChunkResult:
        result = ChunkResult()
        for index, (line, where) in enumerate(items, start):
            try:
                record = Record.from_json(parse_line(line, where), where)
            except InputError as e:
                result.entries.append(Entry(where, "", self.stage, "dropped", "not_a_record", e.what))
                continue
            records, entries = self.work(index, record)
            result.lines.extend(json.dumps(r.to_json(), ensure_ascii=False, allow_nan=False) for r in records)
            result.entries.extend(entries)
        return result


def run_to_file(
    engine: RowEngine,
    task: ChunkTask[ChunkResult],
    items: Iterable[Any],
    out: str | Path,
    ledger: Ledger,
    progress: Callable[[int], None] | None = None,
    chunk_rows: int = CHUNK_ROWS,
    counts: Counter[str] | None = None,
) -> int:
    """Runs `task` over `items`, writes its lines to `out` and its entries to `ledger`.

    Args:
      progress: called with the number of rows written so far.
      counts: gets the sum of the chunks' counts.

    Returns:
      The number of lines written. `out` appears only when it is complete.
    """

    def lines(results: Iterable[ChunkResult]) -> Iterator[str]:
        written = 0
        for result in results:
            for entry in result.entries:
                ledger.add_entry(entry)
            if counts is not None:
                counts.update(result.counts)
            yield from result.lines
            written += len(result.lines)
            if progress:
                progress(written)

    # Closed at once when writing fails: a traceback that keeps the generator alive would keep its workers.
    with closing(engine.run(task, items, chunk_rows)) as results:
        return write_lines(out, lines(results))
