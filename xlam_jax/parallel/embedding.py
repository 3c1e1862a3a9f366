"""Rows of an embedding table that is split over the mesh, and how it is split.

Left to itself, XLA gathers the activations of the whole batch on every device, in the table's dtype, as soon as
the batch is split over more axes than the table's width: its memory then grows with the number of devices. Here
every device looks its peers' tokens up in its own columns, and an all-to-all over these peers gives each device
all columns of its own tokens; the backward pass is the same in reverse, and an all-reduce of the table's gradient.

Shape legend: B rows, S positions, V vocabulary, D hidden.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from xlam_jax.parallel.active import active_mesh
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules, divides, to_spec


class Split(NamedTuple):
    """How a mesh splits a [V, D] table and [B, S] tokens; axes of size 1 are left out.

    Attributes:
      vocab, width: axes of the table's two dimensions.
      rows, length: axes of the tokens' two dimensions. Those of `width` are among them.
    """

    mesh: AbstractMesh | None
    vocab: tuple[str, ...]
    width: tuple[str, ...]
    rows: tuple[str, ...]
    length: tuple[str, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Axes over which devices hold different tokens."""
        return self.rows + self.length

    @property
    def others(self) -> tuple[str, ...]:
        """Axes over which devices hold different tokens and the same part of the table."""
        return tuple(axis for axis in self.tokens if axis not in self.width)

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis."""
        return self.vocab + self.tokens


def split_of(
    table: tuple[int, ...], tokens: tuple[int, ...], rules: ShardingRules = DEFAULT_RULES
) -> Split | None:
    """How the mesh of `jax.set_mesh` splits arrays of these shapes.

    None where there is none, where they do not divide by it, or where its rules are not of the kind that the
    functions here are made for: then the compiler has to see to it.
    """
    mesh = active_mesh()
    if mesh is None:
        return None
    vocab, width = (_used(part, mesh) for part in to_spec(("vocab", "embed"), mesh, rules))
    rows, length = (_used(part, mesh) for part in to_spec(("batch", "length"), mesh, rules))
    made_for = set(width) <= set(rows) and not set(vocab) & {*rows, *length}
    if made_for and divides(table, P(vocab, width), mesh) and divides(tokens, P(rows, length), mesh):
        return Split(mesh, vocab, width, rows, length)
    return None


def look_up(
    table_VD: jax.Array, tokens_BS: jax.Array, dtype: Any = None, rules: ShardingRules = DEFAULT_RULES
) -> jax.Array:
    """[B, S, D] rows of the table, split by batch and length.

    Args:
      tokens_BS: int32 ids.
      dtype: of the result; None for the table's own.
      rules: how the table and the tokens are split; they act only under `jax.set_mesh`.
    """
    dtype = dtype or table_VD.dtype
    split = split_of(table_VD.shape, tokens_BS.shape, rules)
    if split is None:
        return jnp.take(table_VD, tokens_BS, axis=0).astype(dtype)

    def local(table_VD: jax.Array, tokens_BS: jax.Array) -> jax.Array:
        if split.width:
            tokens_BS = jax.lax.all_gather(tokens_BS, split.width, axis=0, tiled=True)
        x_BSD = _own_rows(table_VD, tokens_BS, split.vocab).astype(dtype)
        if split.vocab:
            x_BSD = jax.lax.psum(x_BSD, split.vocab)  # all but one of the terms are zeros
        if split.width:
            x_BSD = jax.lax.all_to_all(x_BSD, split.width, split_axis=0, concat_axis=2, tiled=True)
        return x_BSD

    return jax.shard_map(
        local,
        mesh=split.mesh,
        in_specs=(P(split.vocab, split.width), P(split.rows, split.length)),
        out_specs=P(split.rows, split.length, None),
    )(table_VD, tokens_BS)


def _own_rows(table_VD: jax.Array, tokens_BS: jax.Array, vocab: tuple[str, ...]) -> jax.Array:
    """Rows of the part of the table that this device holds; zeros for tokens of other parts."""
    if not vocab:
        return jnp.take(table_VD, tokens_BS, axis=0)
    tokens_BS = tokens_BS - jax.lax.axis_index(vocab) * table_VD.shape[0]
    here_BS = (tokens_BS >= 0) & (tokens_BS < table_VD.shape[0])
    return jnp.where(here_BS[..., None], jnp.take(table_VD, tokens_BS, axis=0, mode="clip"), 0)


def _used(part: str | tuple[str, ...] | None, mesh: AbstractMesh) -> tuple[str, ...]:
    names = (part,) if isinstance(part, str) else part or ()
    return tuple(name for name in names if mesh.shape[name] > 1)
