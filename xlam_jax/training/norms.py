"""Norms of parameter-shaped trees, by leaf and layer. Stacked leaves stay stacked: reducing over the other
axes needs no copy of the stack."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.models.spec import path_name

Squares = dict[str, jax.Array]


def is_stacked(path: tuple) -> bool:
    """Whether the leaf at this key path carries the layers on its first axis."""
    return "layers" in path_name(path).split(".")[:-1]


def squares(tree: Any) -> Squares:
    """Sums of squares in float32: dotted path -> [L] of a stacked leaf, a scalar of another."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)

    def leaf(path: tuple, x: jax.Array) -> jax.Array:
        axes = tuple(range(1 if is_stacked(path) else 0, x.ndim))
        return jnp.square(x.astype(jnp.float32)).sum(axes)

    return {path_name(path): leaf(path, x) for path, x in leaves}


def total(squared: Squares) -> jax.Array:
    """The global norm, a scalar."""
    return jnp.sqrt(jnp.stack([x.sum() for x in squared.values()]).sum())


param_squares = jax.jit(squares)


def as_norms(squared: Any) -> dict[str, float | list[float]]:
    """Squares, read from the device, as norms for a line of metrics: a list by layer, or a number."""
    return {name: np.round(np.sqrt(np.asarray(x, np.float64)), 9).tolist() for name, x in squared.items()}
