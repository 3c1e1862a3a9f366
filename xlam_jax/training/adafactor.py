"""Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) for stacked layers.

optax's own looks at a leaf as one tensor, so a stack of layers would share one clipping, and a small layer
axis could be taken for a dimension of the matrix. Here every matrix of a stack is its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xlam_jax.training.norms import is_stacked


class FactoredState(NamedTuple):
    """`rows` [..., in, 1] and `cols` [..., 1, out] of the squared gradient's running mean; of vectors the
    whole mean in `rows`, and `cols` of size 1."""

    count: Any
    rows: Any
    cols: Any


def scale_by_factored_rms(
    decay: float = 0.8, eps: float = 1e-30, threshold: float = 1.0
) -> optax.GradientTransformation:
    """Divides by the factored root mean square, then clips each matrix's (or vector's) own RMS.

    The running mean at step t, from 1, weighs the past with `1 - t**-decay`. No relative step size and no
    first moment: the learning rate means what it says.

    Args:
      threshold: largest RMS of an update.
    """

    def init(params: Any) -> FactoredState:
        def rows(path: tuple, p: jax.Array) -> jax.Array:
            return jnp.zeros((*p.shape[:-1], 1) if _is_matrix(path, p) else p.shape, jnp.float32)

        def cols(path: tuple, p: jax.Array) -> jax.Array:
            shape = (*p.shape[:-2], 1, p.shape[-1]) if _is_matrix(path, p) else (1,) * p.ndim
            return jnp.zeros(shape, jnp.float32)

        by_path = jax.tree_util.tree_map_with_path
        return FactoredState(jnp.zeros((), jnp.int32), by_path(rows, params), by_path(cols, params))

    def update(grads: Any, state: FactoredState, params: Any = None) -> tuple[Any, FactoredState]:
        count = state.count + 1
        past = 1.0 - count.astype(jnp.float32) ** -decay

        def leaf(path: tuple, g: jax.Array, rows: jax.Array, cols: jax.Array) -> _Leaf:
            square = jnp.square(g) + eps
            if _is_matrix(path, g):
                rows = past * rows + (1 - past) * square.mean(-1, keepdims=True)
                cols = past * cols + (1 - past) * square.mean(-2, keepdims=True)
                scale = jax.lax.rsqrt(rows / rows.mean(-2, keepdims=True)) * jax.lax.rsqrt(cols)
                axes = (-2, -1)
            else:
                rows = past * rows + (1 - past) * square
                scale, axes = jax.lax.rsqrt(rows), (-1,)
            out = g * scale
            rms = jnp.sqrt(jnp.square(out).mean(axes, keepdims=True))
            return _Leaf(out / jnp.maximum(1.0, rms / threshold), rows, cols)

        stepped = jax.tree_util.tree_map_with_path(leaf, grads, state.rows, state.cols)

        def part(i: int) -> Any:
            return jax.tree.map(lambda x: x[i], stepped, is_leaf=lambda x: isinstance(x, _Leaf))

        return part(0), FactoredState(count, part(1), part(2))

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


class _Leaf(NamedTuple):
    out: jax.Array
    rows: jax.Array
    cols: jax.Array


def _is_matrix(path: tuple, p: jax.Array) -> bool:
    return p.ndim - is_stacked(path) >= 2
