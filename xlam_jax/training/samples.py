"""A batch that was asked for in samples, as packed rows.

Recipes are published in samples a step, each padded to a row of its own; a packed row holds several. A sample is a
record of the data (a preference pair, where it holds pairs), with all its turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from xlam_jax.parallel.mesh import BATCH_AXES
from xlam_jax.training.config import BatchConfig, TrainConfig
from xlam_jax.training.kept import newest_meta


def samples_per_row(manifest: Mapping[str, Any]) -> float:
    """Mean samples of a packed row, by the manifest of the shards."""
    return manifest["records"] / manifest["rows"]


def rows_for(batch: BatchConfig, per_row: float, ways: int) -> int:
    """Rows whose samples come nearest to `batch.samples`, in whole rows for each device and micro-batch.

    Args:
      per_row: mean samples of a row.
      ways: how many ways the mesh splits rows.
    """
    assert batch.samples
    unit = batch.accumulation * ways
    return max(1, round(batch.samples / per_row / unit)) * unit


def describe(batch: BatchConfig, rows: int, per_row: float, ways: int) -> str:
    """One line: what was asked for, what it came to, and why that is not the same.

    Args:
      rows: of a step, chosen to hold about `batch.samples`.
      per_row: samples in a packed row, on average.
      ways: into how many parts the mesh splits a micro-batch.
    """
    assert batch.samples
    held = rows * per_row
    line = f"batch: {batch.samples} samples asked for; {rows} rows of {per_row:.3g} samples hold {held:.4g}"
    times = held / batch.samples
    if abs(times - 1) > 0.1:
        line += f", {times:.2g} times as many: rows come in {batch.accumulation * ways}s here"
        line += f" ({batch.accumulation} micro-batches, {ways} ways)"
    return line


def with_rows(
    config: TrainConfig, manifest: Mapping[str, Any], mesh: Mesh, say: Callable[[str], None] = lambda _: None
) -> TrainConfig:
    """The config with `batch.rows` filled in, where `batch.samples` asks for it.

    A run that goes on keeps the rows of its checkpoint, also on another mesh.

    Args:
      manifest: of the training data.
      say: told the line of `describe`.
    """
    batch = config.batch
    if batch.samples is None or not manifest["rows"]:
        return config
    ways, per_row = math.prod(mesh.shape[axis] for axis in BATCH_AXES), samples_per_row(manifest)
    before = newest_meta(Path(config.out)).get("config", {})
    same = before.get("batch.samples") == batch.samples
    rows = before["batch.rows"] if same else rows_for(batch, per_row, ways)
    say(describe(batch, rows, per_row, ways) + (", as before" if same else ""))
    return config.model_copy(update={"batch": batch.model_copy(update={"rows": rows})})
