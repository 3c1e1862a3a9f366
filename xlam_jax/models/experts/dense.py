"""Every expert on every token: the oracle of the other backends, E / K times their work."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xlam_jax.models.experts.product import Experts, expert_product, swiglu
from xlam_jax.parallel.exchange.shards import Output


def dense(
    x_TD: jax.Array,
    ids_TK: jax.Array,
    weights_TK: jax.Array,
    experts: Experts,
    num_experts: int,
    capacity: int,
) -> Output:
    """See `models.experts.BACKENDS` for the contract.

    Args:
      x_TD, ids_TK, weights_TK, experts, num_experts: as in `batched`.
      capacity: not used; every expert computes every row.
    """
    del capacity
    out_ETD = swiglu(expert_product, jnp.broadcast_to(x_TD, (num_experts, *x_TD.shape)), experts)
    chosen_KTE1 = (ids_TK.T[..., None] == jnp.arange(num_experts))[..., None]
    chosen_KET1 = chosen_KTE1.swapaxes(1, 2)
    weighted_KETD = weights_TK.T[:, None, :, None].astype(jnp.float32) * out_ETD.astype(jnp.float32)
    y_TD = jnp.where(chosen_KET1, weighted_KETD, 0).sum(axis=(0, 1))
    return Output(y_TD, jnp.ones(()), chosen_KET1.sum(dtype=jnp.float32))
