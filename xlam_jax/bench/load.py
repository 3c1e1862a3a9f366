"""Rows a second of the data loader, against what a training step eats."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from xlam_jax.bench import protocol
from xlam_jax.errors import InputError
from xlam_jax.shards.loader import PackedSource, Steps, batches


def bench_load(
    folder: Path, *, rows: int = 8, steps: int = 50, threads: int = 2, step_seconds: float | None = None
) -> dict[str, Any]:
    """Reads `steps` batches of `rows` packed rows from shards, the way a run does.

    Args:
      step_seconds: of a training step with these rows; the loader must be faster.

    Returns:
      rows/s, tokens/s, seconds until the first batch, and `headroom`: how many times faster than the step.

    Raises:
      InputError: no data folder, or none to read.
    """
    source = PackedSource(folder)
    if not len(source):
        raise InputError("the data holds no row", where=str(folder), hint="xlam data build CONFIG")
    begun = time.perf_counter()
    stream = batches(Steps(source, rows, 1, 0, steps + 1), threads=threads)
    next(stream)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    read = sum(1 for _ in stream)
    rate = read * rows / (time.perf_counter() - begun)
    return {
        "data": str(folder),
        "rows": rows,
        "seq_len": source.seq_len,
        "steps": read,
        "threads": threads,
        "first_batch_seconds": first,
        "rows_per_second": rate,
        "tokens_per_second": rate * source.seq_len,
        "step_seconds": step_seconds,
        "headroom": rate / rows * step_seconds if step_seconds else None,
        **protocol.environment(),
    }
