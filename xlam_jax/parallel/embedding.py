"""Rows of an embedding table that is split over the mesh.

Left to itself, XLA gathers the activations of the whole batch on every device, in the table's dtype, as soon as
the batch is split over more axes than the table's width: its memory then grows with the number of devices. Here
every device looks its peers' tokens up in its own columns, and an all-to-all over these peers gives each device
all columns of its own tokens; the backward pass is the same in reverse, and an all-reduce of the table's gradient.

Shape legend: B rows, S positions, V vocabulary, D hidden.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from xlam_jax.parallel.attention import active_mesh
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules, divides, to_spec


def look_up(
    table_VD: jax.Array, tokens_BS: jax.Array, dtype: Any = None, rules: ShardingRules = DEFAULT_RULES
) -> jax.Array:
    """[B, S, D] rows of the table in `dtype` (None: the table's own), split by batch and length.

    Arrays that do not divide by the mesh of `jax.set_mesh` are left to the compiler.
    """
    dtype, mesh = dtype or table_VD.dtype, active_mesh()
    if mesh is not None:
        vocab, width = (_split(part, mesh) for part in to_spec(("vocab", "embed"), mesh, rules))
        rows, length = (_split(part, mesh) for part in to_spec(("batch", "length"), mesh, rules))
        table, tokens = P(vocab, width), P(rows, length)
        by_peers = set(width) <= set(rows) and not set(vocab) & {*rows, *length}
        if by_peers and divides(table_VD.shape, table, mesh) and divides(tokens_BS.shape, tokens, mesh):

            def local(table_VD: jax.Array, tokens_BS: jax.Array) -> jax.Array:
                if width:
                    tokens_BS = jax.lax.all_gather(tokens_BS, width, axis=0, tiled=True)
                x_BSD = _own_rows(table_VD, tokens_BS, vocab).astype(dtype)
                if vocab:
                    x_BSD = jax.lax.psum(x_BSD, vocab)  # all but one of the terms are zeros
                if width:
                    x_BSD = jax.lax.all_to_all(x_BSD, width, split_axis=0, concat_axis=2, tiled=True)
                return x_BSD

            run = jax.shard_map(local, mesh=mesh, in_specs=(table, tokens), out_specs=P(rows, length, None))
            return run(table_VD, tokens_BS)
    return jnp.take(table_VD, tokens_BS, axis=0).astype(dtype)


def _own_rows(table_VD: jax.Array, tokens_BS: jax.Array, vocab: tuple[str, ...]) -> jax.Array:
    """Rows of the part of the table that this device holds; zeros for tokens of other parts."""
    if not vocab:
        return jnp.take(table_VD, tokens_BS, axis=0)
    tokens_BS = tokens_BS - jax.lax.axis_index(vocab) * table_VD.shape[0]
    here_BS = (tokens_BS >= 0) & (tokens_BS < table_VD.shape[0])
    return jnp.where(here_BS[..., None], jnp.take(table_VD, tokens_BS, axis=0, mode="clip"), 0)


def _split(part: str | tuple[str, ...] | None, mesh: AbstractMesh) -> tuple[str, ...]:
    names = (part,) if isinstance(part, str) else part or ()
    return tuple(name for name in names if mesh.shape[name] > 1)
