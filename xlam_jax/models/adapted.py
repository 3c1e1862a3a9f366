"""A matrix product whose matrix may carry a LoRA adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

try:
    from xlam_jax.models.params import Adapted  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:

    @flax.struct.dataclass
    class Adapted:
        """A frozen matrix with a low-rank correction: y = x w + (x a) b * scale."""

        w: Any
        a: Any
        b: Any
        scale: Any = flax.struct.field(pytree_node=False, default=1.0)


# (rows, matrix) -> rows; how rows and matrices belong together is the caller's business.
Matmul = Callable[[jax.Array, jax.Array], jax.Array]


def product(matmul: Matmul, x: jax.Array, w: Any) -> jax.Array:
    """`matmul(x, w)` for a plain matrix; for an `Adapted` one the correction is added."""
    if isinstance(w, Adapted):
        low = matmul(matmul(x, w.a), w.b)
        return product(matmul, x, w.w) + low * jnp.asarray(w.scale, low.dtype)
    return matmul(x, w)
