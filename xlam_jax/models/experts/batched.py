"""Windowed batched GEMM: capacity without drops.

Window w takes rows [w * C, (w + 1) * C) of every expert and multiplies them in three plain batched products, which
every backend of XLA hands to its fastest GEMM. C is a little more than a balanced router needs, so one window
is the rule; an uneven router costs more windows and never a token. A token names an expert at most once, so
there are at most ceil(T / C) of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xlam_jax.models.experts.product import Experts, expert_product, swiglu
from xlam_jax.parallel.dispatch import combine, dispatch, make_plan, sum_windows, window
from xlam_jax.parallel.exchange.shards import Output


def batched(
    x_TD: jax.Array,
    ids_TK: jax.Array,
    weights_TK: jax.Array,
    experts: Experts,
    num_experts: int,
    capacity: int,
) -> Output:
    """See `models.experts.BACKENDS` for the contract.

    Args:
      x_TD: rows of one device.
      ids_TK: int32; `num_experts` is an expert elsewhere, or padding.
      weights_TK: of each choice in the sum.
      experts: those of this device.
      num_experts: on this device.
      capacity: rows of each expert that a window holds.
    """
    T, D = x_TD.shape
    plan = make_plan(ids_TK, num_experts)

    def one(index, diff, plan):
        x_TD, weights_TK, experts = diff
        slots = window(plan, index, capacity)
        rows_ECD = dispatch(x_TD, slots).reshape(num_experts, capacity, D)
        rows_ECD = swiglu(expert_product, rows_ECD, experts)
        return combine(rows_ECD.reshape(-1, D), weights_TK, slots), ()

    used = jnp.maximum(-(-plan.count_E.max() // capacity), 1)
    y_TD, _ = sum_windows(one, used, -(-T // capacity), (x_TD, weights_TK, experts), plan)
    return Output(y_TD, used.astype(jnp.float32), plan.count_E.sum().astype(jnp.float32))
