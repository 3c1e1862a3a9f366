"""The train step of a `Work`, traced for a mesh: what the compilers are given."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.plan.state import step_state
from xlam_jax.plan.work import Work
from xlam_jax.shards.batch import DTYPES, Batch
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.step import make_step, micro_sharding


def lower_step(work: Work, mesh: jax.sharding.Mesh) -> Any:
    """The lowered (`jax.stages.Lowered`) step of fine-tuning, with the attention that `work` names.

    Raises:
      InputError: the mesh does not fit the model, or the attention backend cannot compute it.
    """
    with jax.set_mesh(mesh):
        tx, state, placed = step_state(work, mesh)
        state = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), state, placed)
        shape = (work.accumulation, work.rows // work.accumulation, work.seq_len)
        fields = (jax.ShapeDtypeStruct(shape, d, sharding=micro_sharding(mesh)) for d in DTYPES)
        objective = sft_objective(
            work.cfg,
            remat=work.remat,
            compute_dtype=jnp.dtype(work.compute_dtype),
            attention=work.attention,
            max_segments=work.max_segments,
            chunk=work.chunk,
            moe=work.moe,
        )
        step = make_step(objective, tx, placed)
        return step.lower(  # type: ignore[attr-defined]
            state, Batch(*fields), jax.ShapeDtypeStruct((), jnp.float32)
        )
