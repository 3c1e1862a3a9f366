"""Shapes and places of the state that a training run of this kind would hold; nothing is made."""

from __future__ import annotations

from typing import Any

import optax

from xlam_jax.models.spec import decay_mask
from xlam_jax.plan.work import Work
from xlam_jax.training import partition
from xlam_jax.training.config import DataConfig, PrecisionConfig, TrainConfig
from xlam_jax.training.lora import LoraRun
from xlam_jax.training.optimizer import make_optimizer
from xlam_jax.training.step import TrainState, state_spec


def step_state(work: Work, mesh: Any) -> tuple[optax.GradientTransformation, TrainState, TrainState]:
    """(optimizer, shapes, shardings) of the train state of `work`.

    Args:
      mesh: a `Mesh` or an `AbstractMesh`.

    Raises:
      InputError: a dimension that does not divide, or nothing to train.
    """
    if work.lora:
        run = lora_run(work, mesh)
        tx = make_optimizer(work.optim, run.decay_mask())
        return tx, *run.state_spec(tx)
    cut = (work.cfg, work.freeze, work.freeze_layers)
    partition.check(*cut)
    tx = make_optimizer(work.optim, partition.split_like(decay_mask(work.cfg), *cut)[0])
    return tx, *state_spec(work.cfg, tx, mesh, work.param_dtype, *cut[1:])


def lora_run(work: Work, mesh: Any) -> LoraRun:
    """The adapters of a run; its config names no files, because none is read."""
    assert work.lora
    config = TrainConfig(
        model="",
        out="",
        data=DataConfig(train=""),
        lora=work.lora,
        freeze=work.freeze,
        freeze_layers=work.freeze_layers,
        precision=PrecisionConfig(param_dtype=work.param_dtype),  # type: ignore[arg-type]
    )
    return LoraRun(config, work.cfg, mesh)
