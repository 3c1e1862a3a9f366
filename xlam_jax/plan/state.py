"""Shapes and shardings of the state that a training run of this kind would hold; nothing is made."""

from __future__ import annotations

from typing import Any

import optax

from xlam_jax.plan.work import Work
from xlam_jax.training.config import DataConfig, PrecisionConfig, TrainConfig
from xlam_jax.training.optimizer import make_optimizer
from xlam_jax.training.step import TrainState
from xlam_jax.training.trainable import trainable_of


def step_state(work: Work, mesh: Any) -> tuple[optax.GradientTransformation, TrainState, TrainState]:
    """(optimizer, shapes, shardings) of the train state of `work`.

    Args:
      mesh: a `Mesh` or an `AbstractMesh`.

    Raises:
      InputError: a dimension that does not divide, or nothing to train.
    """
    config = TrainConfig(  # names no files, because none is read
        model="",
        out="",
        data=DataConfig(train=""),
        lora=work.lora,
        freeze=work.freeze,
        freeze_layers=work.freeze_layers,
        precision=PrecisionConfig(param_dtype=work.param_dtype),  # type: ignore[arg-type]
    )
    trained = trainable_of(config, work.cfg, mesh)
    tx = make_optimizer(work.optim, trained.decay_mask())
    return tx, *trained.state_spec(tx)
