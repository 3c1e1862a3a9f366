"""Grouped GEMM: rows sorted by expert, one kernel over groups of their true sizes.

Rows beyond those held at a time go to later windows, as in `models.experts.batched`. The kernels are chosen for each
of the two operations by `models.experts.kernels`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.models.experts.kernels import Kernels, choose_kernels
from xlam_jax.models.experts.product import Experts, swiglu
from xlam_jax.parallel.dispatch import combine, dispatch, make_plan, packed_window, sum_windows
from xlam_jax.parallel.exchange.shards import Output


def grouped(
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
      capacity: a window holds `capacity * num_experts` rows, however they are spread over the experts.

    Raises:
      InputError: no kernel is installed, or none computes correctly on this machine.
    """
    T, K = ids_TK.shape
    plan = make_plan(ids_TK, num_experts)
    most = T * min(K, num_experts)
    held = min(capacity * num_experts, most)
    kernels = choose_kernels(num_experts)

    def one(index, diff, plan):
        x_TD, weights_TK, experts = diff
        slots, size_E = packed_window(plan, index, held)

        def matmul(rows_RD: jax.Array, w_EDF: jax.Array) -> jax.Array:
            out_RF: Any = _grouped_dot(kernels, rows_RD, w_EDF.astype(rows_RD.dtype), size_E)
            # Kernels leave rows of no group as they found them.
            return jnp.where(slots.used_R[:, None], out_RF, 0)

        return combine(swiglu(matmul, dispatch(x_TD, slots), experts), weights_TK, slots), ()

    used = jnp.maximum(-(-plan.count_E.sum() // held), 1)
    y_TD, _ = sum_windows(one, used, -(-most // held), (x_TD, weights_TK, experts), plan)
    return Output(y_TD, used.astype(jnp.float32), plan.count_E.sum().astype(jnp.float32))


# A kernel does not differentiate itself, and the best one for the weight gradient is another.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _grouped_dot(kernels: Kernels, x_RD: jax.Array, w_EDF: jax.Array, size_E: jax.Array) -> jax.Array:
    return kernels.rows(x_RD, w_EDF, size_E)


def _grouped_dot_fwd(kernels, x_RD, w_EDF, size_E):
    return kernels.rows(x_RD, w_EDF, size_E), (x_RD, w_EDF, size_E)


def _grouped_dot_bwd(kernels, saved, d_RF):
    x_RD, w_EDF, size_E = saved
    d_x_RD = kernels.rows(d_RF, w_EDF.swapaxes(1, 2), size_E)
    return d_x_RD.astype(x_RD.dtype), kernels.weights(x_RD, d_RF, size_E).astype(w_EDF.dtype), None


_grouped_dot.defvjp(_grouped_dot_fwd, _grouped_dot_bwd)
