"""Products, whatever their kind, whose matrix may be quantised or carry a LoRA adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.models.params import Adapted, Quantized
from xlam_jax.models.quantized import dequantize

# (rows, matrix) -> rows; how rows and matrices belong together is the caller's business.
Matmul = Callable[[jax.Array, jax.Array], jax.Array]


def product(matmul: Matmul, x: jax.Array, w: Any) -> jax.Array:
    """`matmul(x, w)` of an array, a `Quantized` matrix (expanded) or an `Adapted` one (with its addition)."""
    if isinstance(w, Adapted):
        low = matmul(matmul(_drop(x, w), w.a), w.b)
        return product(matmul, x, w.w) + low * w.scale
    if isinstance(w, Quantized):
        w = dequantize(w, x.dtype)
    return matmul(x, w)


def _drop(x_BSD: jax.Array, w: Adapted) -> jax.Array:
    """Inverted dropout, a mask for each row from its own key."""
    if w.keys is None:
        return x_BSD
    keep = 1.0 - w.dropout
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x_BSD.shape[1:]))(w.keys)
    return jnp.where(kept, x_BSD / keep, 0)
