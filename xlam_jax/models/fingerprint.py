"""A name for a set of weights, computed where they lie."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.models.spec import path_name


def weights_key(params: Any) -> str:
    """64 hexadecimal digits: equal on every mesh, others for every changed bit, dtype or path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    sums = jax.device_get(_sums([leaf for _, leaf in flat]))
    lines = [
        f"{path_name(path)} {leaf.dtype} {list(leaf.shape)} {a} {b}"
        for (path, leaf), (a, b) in zip(flat, sums, strict=True)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@jax.jit
def _sums(leaves: list[jax.Array]) -> list[tuple[jax.Array, jax.Array]]:
    return [(_mixed_sum(leaf, 0x9E3779B9), _mixed_sum(leaf, 0x7FEB352D)) for leaf in leaves]


def _mixed_sum(x: jax.Array, seed: int) -> jax.Array:
    """Sum modulo 2^32 of a hash of (bits, place): integer addition knows no order, so no sharding shows."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = jax.lax.bitcast_convert_type(x, {2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize])
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    h = x.astype(jnp.uint32) ^ (place * np.uint32(0x85EBCA6B) + np.uint32(seed))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = (h ^ (h >> shift)) * np.uint32(factor)
    return (h ^ (h >> 16)).sum(dtype=jnp.uint32)
