"""The mesh that a function is traced under."""

from __future__ import annotations

import jax
from jax.sharding import AbstractMesh, AxisType

CONTEXT = "context"  # the axis that splits the positions of a row


def active_mesh() -> AbstractMesh | None:
    """The mesh of `jax.set_mesh` when it splits anything; None inside a `shard_map`, where all is local."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types:
        return None
    return mesh


def context_ways(mesh: AbstractMesh | None) -> int:
    """Into how many parts the mesh splits the sequence."""
    return mesh.shape.get(CONTEXT, 1) if mesh else 1
