"""What is refused before a run begins, and the error that ends one."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from xlam_jax.errors import FinalError, InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.shards.loader import PackedSource, Steps
from xlam_jax.shards.tokenize import tokenizer_hash
from xlam_jax.training.config import TrainConfig


def check_data(source: PackedSource, cfg: ModelConfig, model: str) -> None:
    manifest, where = source.manifest, str(source.folder)
    if not len(source) or not manifest["target_tokens"]:
        raise InputError("the data holds no token to train on", where=where, hint="xlam data build CONFIG")
    if manifest["max_token_id"] >= cfg.vocab_size:
        raise InputError(
            f"the data holds token id {manifest['max_token_id']}, the vocabulary has {cfg.vocab_size}",
            where=where,
            hint="build the data with the tokenizer of this model",
        )
    built, ours = (manifest.get("tokenizer") or {}).get("sha256"), tokenizer_hash(model)
    if built and ours and built != ours:
        raise InputError(
            "the data was tokenised with another tokenizer than the model's",
            where=f"{where}, {model}",
            hint=f"build the data with tokenizer={model}",
        )


def check_batch(config: TrainConfig, mesh: jax.sharding.Mesh) -> int:
    """Rows of a micro-batch."""
    ways = math.prod(mesh.shape[axis] for axis in ("data", "fsdp", "expert"))
    rows, accumulation = config.batch.rows, config.batch.accumulation
    if rows % (accumulation * ways):
        raise InputError(
            f"{rows} rows a step do not split into {accumulation} micro-batches over {ways} devices",
            where="batch.rows",
            hint=f"a multiple of {accumulation * ways}",
        )
    if config.steps == "auto" and config.max_minutes is None and config.max_epochs is None:
        raise no_length()
    return rows // accumulation


def check_context(seq_len: int, mesh: jax.sharding.Mesh) -> None:
    """Rows must divide over the mesh axis that splits positions."""
    ways = mesh.shape["context"]
    if seq_len % ways:
        raise InputError(
            f"rows of {seq_len} positions do not split {ways} ways",
            where="mesh.context",
            hint=f"build the data with a seq_len that is a multiple of {ways}",
        )


def no_length() -> InputError:
    return InputError(
        'steps is "auto", and nothing says how long to train',
        where="steps",
        hint="set steps, max_minutes or max_epochs",
    )


def not_finite(number: int, values: dict[str, Any], steps: Steps, saved: int) -> FinalError:
    """The error of a step whose loss or gradient is not finite, with the records of the rows at fault.

    Args:
      number: of the step, from 0.
      values: what the step gave, by name, on the host; `row_finite` is bool [A, B].
      steps: the data, which knows whose records a row holds.
      saved: the step of the last checkpoint, 0 for none.
    """
    rows = ~values["row_finite"]
    known = bool(rows.any())
    named = named_records(steps.record_ids(number), np.argwhere(rows if known else np.ones_like(rows)))
    return _stopped(
        number, values, saved, f"{'records' if known else 'records of the whole step'}: {_some(named)}"
    )


def spiked(
    number: int, values: dict[str, Any], limits: np.ndarray, steps: Steps, losses: np.ndarray, saved: int
) -> FinalError:
    """The error of a step that stands out.

    Args:
      limits: largest loss and gradient norm, see `spikes.SpikeRule`.
      losses: of the rows, [A, B].
    """
    order = np.argsort(-np.nan_to_num(losses.ravel(), nan=np.inf), kind="stable")
    ranked = [np.unravel_index(i, losses.shape) for i in order]
    named = named_records(steps.record_ids(number), ranked)
    worst = ", ".join(f"{losses[a, b]:.3g}" for a, b in ranked[:4])
    return _stopped(
        number,
        values,
        saved,
        f"records by loss of their row ({worst}{', ...' if len(ranked) > 4 else ''}): {_some(named)}",
        f" (limits {limits[0]:.4g}, {limits[1]:.4g}; spikes.deviations)",
    )


def broken_update(number: int, values: dict[str, Any], steps: Steps, saved: int) -> FinalError:
    """The error of a step whose update left parameters that are not finite.

    Args:
      number, values, steps, saved: as in `not_finite`.
    """
    ids = named_records(steps.record_ids(number), np.argwhere(np.ones_like(values["row_finite"])))
    return _stopped(
        number, values, saved, f"the updated parameters are not finite; its records: {_some(ids)}"
    )


def named_records(ids: list[list[list[str]]], rows: Any) -> list[str]:
    """Ids of the records in the rows [n, 2] (micro-batch, row) of a step."""
    return [i for a, b in rows for i in ids[a][b]]


def _some(names: list[str]) -> str:
    return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")


def _stopped(number: int, values: dict[str, Any], saved: int, where: str, limits: str = "") -> FinalError:
    kept = f"the last checkpoint is of step {saved}" if saved else "no checkpoint was written yet"
    loss, norm = float(values["loss"]), float(values["grad_norm"])
    return FinalError(
        f"step {number + 1}: loss {loss}, gradient norm {norm}{limits}",
        where=where,
        hint=f"{kept}; look at these records, lower optim.lr, or do without such steps: spikes.action=skip",
    )
