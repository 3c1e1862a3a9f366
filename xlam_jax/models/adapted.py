"""Products, whatever their kind, whose matrix may carry a LoRA adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from xlam_jax.models.params import Adapted

# (rows, matrix) -> rows; how rows and matrices belong together is the caller's business.
Matmul = Callable[[jax.Array, jax.Array], jax.Array]


def product(matmul: Matmul, x: jax.Array, w: Any) -> jax.Array:
    """`matmul(x, w)` for a plain matrix; for an `Adapted` one the correction is added."""
    if isinstance(w, Adapted):
        low = matmul(matmul(x, w.a), w.b)
        return product(matmul, x, w.w) + low * w.scale
    return matmul(x, w)
