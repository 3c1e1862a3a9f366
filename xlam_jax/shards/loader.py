"""Packed shards -> batches. The state is one integer: the step.

Row `(step, i)` of the run is number `step * rows_per_step + i` in an endless stream of epochs, each a
permutation seeded by (seed, epoch). Nothing depends on the number of hosts or devices, so a run resumes on
any of them.

The paper seeds every process by its id, so that processes shuffle differently. That makes a run change with
the number of devices, and rows may be met twice or never in an epoch. Here one permutation is dealt out: the
rows of a step are cut into as many parts as there are hosts, so every host still gets its own rows in its own
order, reshuffled each epoch, and the run stays the same run.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlam_jax.errors import InputError, WorkError
from xlam_jax.extras import need
from xlam_jax.shards.batch import AnyBatch, stack
from xlam_jax.shards.folder import need_array_record, read_manifest, unpack_row


class PackedSource:
    """Random access to the packed rows of a data folder.

    Args:
      folder: written by `xlam data build`.
      verify: check every shard's sha256, not only its size.

    Raises:
      InputError: no data folder, or a shard that is missing, cut or changed.
    """

    def __init__(self, folder: str | Path, *, verify: bool = False):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, full=verify)
        module = need_array_record()
        self._readers = []
        for shard in self.manifest["shards"]:
            reader = module.ArrayRecordReader(str(self.folder / shard["file"]))
            if reader.num_records() != shard["rows"]:
                where = str(self.folder / shard["file"])
                raise InputError("the shard holds another number of rows than the manifest says", where=where)
            self._readers.append(reader)
        self._ends = list(accumulate(shard["rows"] for shard in self.manifest["shards"]))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> tuple[Any, list[str]]:
        """Row `index`: a `Batch` (`PairBatch` of preference data) with fields of shape `[seq_len]`, and its
        record ids in the order of its segments."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect.bisect_right(self._ends, index)
        start = self._ends[shard] - self.manifest["shards"][shard]["rows"]
        try:
            return unpack_row(self._readers[shard].read([index - start])[0])
        except Exception as e:  # the reader raises many kinds for a file that changed under it
            raise WorkError(
                f"a row cannot be read: {(str(e).splitlines() or [type(e).__name__])[0][:200]}",
                where=f"{self.folder / self.manifest['shards'][shard]['file']}, row {index - start}",
                hint="check the disk; data.verify=true checks every shard before training",
            ) from e

    @property
    def seq_len(self) -> int:
        return self.manifest["seq_len"]

    @property
    def fingerprint(self) -> str:
        return self.manifest["fingerprint"]


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(rows)


def row_indices(step: int, rows_per_step: int, num_rows: int, seed: int) -> np.ndarray:
    """Which rows of the source make up `step`: int64 [rows_per_step].

    Args:
      step: from 0.
      rows_per_step: over all hosts.
      num_rows: of the source, an epoch.
      seed: of the permutations of all epochs.
    """
    stream = step * rows_per_step + np.arange(rows_per_step)
    return np.asarray(
        [_permutation(seed, int(g // num_rows), num_rows)[g % num_rows] for g in stream], np.int64
    )


class Steps(Sequence):
    """Step -> this host's part of the step's batch, `[A, B / hosts, S]`; a random-access source for Grain.

    Args:
      rows: rows of a whole step over all hosts, A * B.
      accumulation: micro-batches of a step, A.
    """

    def __init__(
        self, source: PackedSource, rows: int, accumulation: int, seed: int, num_steps: int,
        process_index: int = 0, process_count: int = 1,
    ):  # fmt: skip
        if rows % (accumulation * process_count):
            raise InputError(
                f"{rows} rows a step do not split over {accumulation} micro-batches, {process_count} hosts",
                where="batch.rows",
            )
        self._source, self._rows, self._accumulation, self._seed = source, rows, accumulation, seed
        self._num_steps, self._host, self._hosts = num_steps, process_index, process_count

    def __len__(self) -> int:
        return self._num_steps

    def indices(self, step: int) -> np.ndarray:
        """Row numbers of the step on all hosts, int64 [A, B]."""
        flat = row_indices(step, self._rows, len(self._source), self._seed)
        return flat.reshape(self._accumulation, -1)

    def __getitem__(self, step: int) -> Any:
        if not 0 <= step < self._num_steps:
            raise IndexError(step)
        mine = np.split(self.indices(step), self._hosts, axis=1)[self._host]
        return stack([stack([self._source[int(i)][0] for i in micro]) for micro in mine])

    def record_ids(self, step: int) -> list[list[list[str]]]:
        """Record ids by [micro-batch][row], of all hosts; for reports."""
        return [[self._source[int(i)][1] for i in micro] for micro in self.indices(step)]


class Numbered(NamedTuple):
    """A step's number and batch."""

    step: int
    batch: Any


def batches(steps: Steps, start_step: int = 0, *, threads: int = 2, ahead: int = 4) -> Iterator[Numbered]:
    """Host batches from `start_step` on, read ahead by Grain's threads.

    Args:
      threads: of Grain, that read rows.
      ahead: batches that are read before they are asked for.
    """
    need("grain")
    import grain

    if start_step >= len(steps):
        return
    data = grain.MapDataset.source(steps).slice(slice(start_step, len(steps)))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    for k, batch in enumerate(data.to_iter_dataset(options)):
        yield Numbered(start_step + k, batch)


def eval_batches(
    source: PackedSource, rows: int, process_index: int = 0, process_count: int = 1, first: int = 0
) -> Iterator[Any]:
    """Every row from `first` on once, in order, as this host's part of `[1, rows, S]` batches; empty rows
    fill the last.

    Args:
      rows: of a batch over all hosts.
      process_index, process_count: this host has part `process_index` of so many equal ones.
    """
    row = source[0][0]
    empty = type(row)(*(np.zeros_like(field) for field in row))
    for start in range(first, len(source), rows):
        part = [source[i][0] if i < len(source) else empty for i in range(start, start + rows)]
        mine = np.split(np.arange(rows), process_count)[process_index]
        yield stack([stack([part[i] for i in mine])])


def to_device(batch: AnyBatch, sharding: Any, parts: int | None = None) -> AnyBatch:
    """This host's rows -> global jax arrays over the mesh; `sharding` fits `[..., B, S]`.

    Args:
      parts: of how many equal parts of the batch's rows `batch` is one; None for one a process. Positions are
        whole in every part, also where `sharding` splits them.
    """
    import jax

    parts = jax.process_count() if parts is None else parts

    def place(field: np.ndarray) -> Any:
        shape = (*field.shape[:-2], field.shape[-2] * parts, field.shape[-1])
        return jax.make_array_from_process_local_data(sharding, field, shape)

    return type(batch)(*(place(field) for field in batch))
