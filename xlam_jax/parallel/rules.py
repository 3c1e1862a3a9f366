"""From logical axes ("embed", "mlp", ...) to mesh axes: one table, checked for collisions."""

from __future__ import annotations

import dataclasses
import math

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xlam_jax.errors import InputError

MeshAxes = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class ShardingRules:
    """Field: a logical axis. Value: the mesh axis (or axes) it is split over; None: not split.

    The first group names axes of parameters, the second axes of activations.
    """

    layers: MeshAxes = None
    vocab: MeshAxes = "tensor"
    embed: MeshAxes = "fsdp"
    heads: MeshAxes = "tensor"
    kv_heads: MeshAxes = "tensor"
    mlp: MeshAxes = "tensor"
    experts: MeshAxes = "expert"
    router: MeshAxes = None
    latent: MeshAxes = None
    latent_in: MeshAxes = "fsdp"
    norm: MeshAxes = None

    batch: MeshAxes = ("data", "fsdp", "expert")
    length: MeshAxes = "context"
    act_embed: MeshAxes = None
    act_heads: MeshAxes = "tensor"
    act_mlp: MeshAxes = "tensor"
    act_vocab: MeshAxes = "tensor"


DEFAULT_RULES = ShardingRules()


def to_spec(
    axes: tuple[str | None, ...], mesh: Mesh | AbstractMesh, rules: ShardingRules = DEFAULT_RULES
) -> P:
    """Partition spec of an array whose dimensions have the logical names `axes` (None: never split).

    Mesh axes that `mesh` does not have are left out.

    Raises:
      InputError: a logical axis that the rules do not name, or one mesh axis used for two dimensions.
    """
    known = {field.name for field in dataclasses.fields(rules)}
    parts: list[MeshAxes] = []
    seen: dict[str, str] = {}
    for axis in axes:
        if axis is None:
            parts.append(None)
            continue
        if axis not in known:
            raise InputError(
                f"unknown logical axis {axis!r}", where=str(axes), hint="known: " + ", ".join(sorted(known))
            )
        value = getattr(rules, axis)
        names = [value] if isinstance(value, str) else list(value or ())
        names = [name for name in names if name in mesh.axis_names]
        for name in names:
            if name in seen:
                raise InputError(
                    f"mesh axis {name!r} would split both {seen[name]!r} and {axis!r} of one array",
                    where=str(axes),
                    hint="map one of the two logical axes to another mesh axis or to None",
                )
            seen[name] = axis
        parts.append(tuple(names) if len(names) > 1 else names[0] if names else None)
    return P(*parts)


def to_sharding(
    axes: tuple[str | None, ...],
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    shape: tuple[int, ...] | None = None,
) -> NamedSharding:
    """Sharding of an array by the logical names of its dimensions.

    Args:
      axes: None for a dimension that is never split.
      shape: None checks no dimension.

    Raises:
      InputError: as `to_spec`; with `shape`, also a dimension that does not divide by its mesh axes.
    """
    spec = to_spec(axes, mesh, rules)
    for size, axis, part in zip(shape or (), axes, spec, strict=False):
        names = (part,) if isinstance(part, str) else part or ()
        ways = math.prod(mesh.shape[name] for name in names)
        if size % ways:
            raise InputError(
                f"dimension {axis!r} of {size} does not split {ways} ways over mesh axes {'/'.join(names)}",
                where=f"array {dict(zip(map(str, axes), shape or (), strict=False))}",
                hint=f"choose a size of {'/'.join(names)} that divides {size}",
            )
    return NamedSharding(mesh, spec)


def batch_sharding(mesh: Mesh, rules: ShardingRules = DEFAULT_RULES) -> NamedSharding:
    """Sharding of a [B, S] batch array: rows over data, fsdp and expert, positions over context."""
    return to_sharding(("batch", "length"), mesh, rules)


def constrain(x: jax.Array, axes: tuple[str | None, ...], rules: ShardingRules = DEFAULT_RULES) -> jax.Array:
    """Pins the sharding of an activation under `jax.set_mesh`; returns `x` untouched when no mesh is set.

    A batch that does not divide by the mesh (a single prompt, say) is left to the compiler.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    spec = to_spec(axes, mesh, rules)
    return jax.lax.with_sharding_constraint(x, spec) if divides(x.shape, spec, mesh) else x


def divides(shape: tuple[int, ...], spec: P, mesh: Mesh | AbstractMesh) -> bool:
    """Whether every dimension divides by the mesh axes that split it."""
    parts = [(part,) if isinstance(part, str) else part or () for part in spec]
    return all(
        size % math.prod(mesh.shape[name] for name in names) == 0
        for size, names in zip(shape, parts, strict=True)
    )
