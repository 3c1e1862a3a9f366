"""Products with expert matrices, which may carry a LoRA adapter, and the SwiGLU network made of them.

Shape legend: E experts, R rows, D hidden, F expert width, r rank of an adapter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from xlam_jax.models import quantized
from xlam_jax.models.adapted import Matmul, product
from xlam_jax.models.params import Adapted, Quantized


class Experts(NamedTuple):
    """The three matrices of all experts; each an array or an `Adapted`."""

    gate: Any  # [E, D, F]
    up: Any  # [E, D, F]
    down: Any  # [E, F, D]


def expert_product(x_ERD: jax.Array, w_EDF: Any) -> jax.Array:
    """[E, R, D] x [E, D, F] -> [E, R, F] in the dtype of x: one batched matrix product."""
    return product(_batched, x_ERD, w_EDF)


def swiglu(matmul: Matmul, rows: jax.Array, experts: Experts) -> jax.Array:
    """(silu(x gate) * (x up)) down, row by row; `jax.checkpoint` policies know the middle as "mlp_hidden"."""
    gate = checkpoint_name(product(matmul, rows, experts.gate), "mlp_hidden")
    up = checkpoint_name(product(matmul, rows, experts.up), "mlp_hidden")
    return product(matmul, jax.nn.silu(gate) * up, experts.down)


def logical_axes(experts: Experts) -> Experts:
    """The same tree with the logical axis names of every array (see `parallel.rules`)."""
    wide, narrow = ("experts", "embed", "mlp"), ("experts", "mlp", "embed")
    return Experts(_axes(experts.gate, wide), _axes(experts.up, wide), _axes(experts.down, narrow))


def compute_dtypes(experts: Experts, dtype: Any) -> Experts:
    """The same tree with `dtype` for every array, but for those of a quantised matrix, which keep their own."""

    def one(w: Any) -> Any:
        return jax.tree.map(lambda x: x.dtype if isinstance(w, Quantized) else dtype, w)

    return jax.tree.map(one, experts, is_leaf=lambda w: isinstance(w, Quantized))


def _batched(x_ERD: jax.Array, w_EDF: jax.Array) -> jax.Array:
    return jnp.einsum("erd,edf->erf", x_ERD, w_EDF.astype(x_ERD.dtype))


def _axes(w: Any, names: tuple[str, str, str]) -> Any:
    if isinstance(w, Quantized):
        return quantized.axes(w, names)
    if not isinstance(w, Adapted):
        return names
    expert, fan_in, fan_out = names
    return w.replace(  # pyright: ignore[reportAttributeAccessIssue]
        w=_axes(w.w, names), a=(expert, fan_in, None), b=(expert, None, fan_out)
    )
