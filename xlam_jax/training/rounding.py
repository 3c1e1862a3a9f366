"""Stochastic rounding to bfloat16: right on average, so that small updates are not lost.

bfloat16 keeps 8 bits, so an update smaller than about 1/256 of a weight vanishes under rounding to nearest,
step after step. Rounded up with the probability of the part that is cut off, it arrives in expectation
(Gupta et al. 2015, arXiv:1502.02551).
"""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.models.spec import path_name


def round_tree(tree: Any, like: Any, salt: jax.Array) -> Any:
    """Float32 leaves in the dtypes of `like`: bfloat16 by stochastic rounding, float32 as it is.

    Args:
      salt: integer scalar; the same salt draws the same numbers, on any mesh.
    """

    def leaf(path: tuple, x: jax.Array, target: jax.Array) -> jax.Array:
        if target.dtype != jnp.bfloat16 or x.dtype == jnp.bfloat16:
            return x.astype(target.dtype)
        return stochastic_round(
            x, _mix(salt.astype(jnp.uint32) ^ jnp.uint32(zlib.crc32(path_name(path).encode())))
        )

    return jax.tree_util.tree_map_with_path(leaf, tree, like)


def salted(step: Any, seed: int) -> jax.Array:
    """The salt of a step: other seeds draw other numbers. Seed 0 leaves the step as it is."""
    return jnp.asarray(step).astype(jnp.uint32) ^ _mix(jnp.uint32(seed % 2**32))


def stochastic_round(x: jax.Array, salt: jax.Array) -> jax.Array:
    """float32 of any shape -> bfloat16; not finite stays what it is."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = _noise(x.shape, salt) >> 16
    cut = (bits + noise) & jnp.uint32(0xFFFF0000)
    rounded = jax.lax.bitcast_convert_type(cut, jnp.float32)
    # Adding to the bits of an infinity would make a NaN of it.
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _noise(shape: tuple[int, ...], salt: jax.Array) -> jax.Array:
    """uint32 per element, a hash of its place. Unlike `jax.random`, elementwise, so it melts into the update
    and no array of random numbers as large as the parameters ever exists."""
    noise = salt.astype(jnp.uint32)
    for axis, size in enumerate(shape):
        place = jnp.arange(size, dtype=jnp.uint32).reshape(-1, *[1] * (len(shape) - axis - 1))
        noise = _mix(noise + place * jnp.uint32(0x9E3779B9))
    return jnp.broadcast_to(noise, shape)


def _mix(x: jax.Array) -> jax.Array:
    """A 32-bit finaliser (two multiplications, three shifts) in which every input bit moves every output
    bit."""
    x = x ^ (x >> 16)
    x = x * jnp.uint32(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
