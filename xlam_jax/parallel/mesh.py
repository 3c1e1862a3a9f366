"""The device mesh: five named axes, each with one meaning, the ones that talk most inside a node.

data     replicas of the parameters, each with its own rows of the batch
fsdp     parameters and optimizer state split; rows of the batch split too
expert   experts of a mixture split; rows of the batch split too
context  positions of a row split; parameters are not
tensor   heads, MLP width and vocabulary split; the batch is not
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh
from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.parallel.fake_devices import separate_channels

AXES = ("data", "fsdp", "expert", "context", "tensor")  # neighbours along the last lie closest together
BATCH_AXES = ("data", "fsdp", "expert")
log = logging.getLogger(__name__)


class MeshConfig(Config):
    """Sizes of the mesh axes; one of them may be -1: whatever is left of the devices.

    Attributes:
      nodes: groups of devices that are joined by a fast network (hosts, TPU slices); 0: as the devices say.
      data: ways in which rows are split, parameters whole on each.
      fsdp: ways in which rows and parameters are split.
      expert: ways in which rows and experts are split.
      context: ways in which the positions of a row are split.
      tensor: ways in which heads and hidden sizes are split.
    """

    data: int = Field(default=1, ge=-1)
    fsdp: int = Field(default=1, ge=-1)
    expert: int = Field(default=1, ge=-1)
    context: int = Field(default=1, ge=-1)
    tensor: int = Field(default=1, ge=-1)
    nodes: int = Field(default=0, ge=0)


def mesh_shape(cfg: MeshConfig, device_count: int) -> tuple[int, ...]:
    """Sizes in the order of `AXES` for `device_count` devices, the -1 filled in.

    Raises:
      InputError: a zero, two -1, more devices than there are, or a -1 that would not come out whole.
    """
    sizes = [getattr(cfg, axis) for axis in AXES]
    asked = " x ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if 0 in sizes or sizes.count(-1) > 1:
        raise InputError(f"mesh {asked}: sizes are 1 or more, and one may be -1", where="mesh")
    fixed = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        if device_count % fixed:
            raise InputError(
                f"mesh {asked}: {device_count} devices do not divide by {fixed}",
                where="mesh",
                hint="choose sizes whose product divides the number of devices",
            )
        sizes[sizes.index(-1)] = device_count // fixed
    elif fixed > device_count:
        raise InputError(
            f"mesh {asked} needs {fixed} devices, found {device_count}",
            where="mesh",
            hint="lower a size, or set one axis to -1 to use what is there",
        )
    return tuple(sizes)


def make_mesh(cfg: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the axes of `AXES`, all of them Auto (the compiler places collectives).

    Over several nodes the axes are filled from the last: tensor, context and expert lie inside a node as far
    as they fit, and data, then fsdp, go across.

    Args:
      cfg: axis sizes; the default is one device.
      devices: defaults to all of `jax.devices()`. A smaller mesh takes the first ones, in one process only.

    Raises:
      InputError: see `mesh_shape`; also a mesh that leaves devices idle in a run of several processes, and
        nodes that do not hold equally many devices.
    """
    cfg = cfg or MeshConfig()
    devices = list(jax.devices() if devices is None else devices)
    shape = mesh_shape(cfg, len(devices))
    used = math.prod(shape)
    if used < len(devices) and len({d.process_index for d in devices}) > 1:
        raise InputError(
            f"the mesh uses {used} of {len(devices)} devices; with several processes it must use all",
            where="mesh",
            hint="set one axis to -1",
        )
    nodes = by_node(devices[:used], cfg.nodes)
    if used > 1 and devices[0].platform == "cpu":
        separate_channels()
    # The default axis type is Explicit, which changes what ordinary operations mean.
    types = (AxisType.Auto,) * len(AXES)
    if len(nodes) == 1:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=nodes[0])
    return Mesh(arrange(shape, nodes), AXES, axis_types=types)


def by_node(devices: Sequence[Any], nodes: int = 0) -> list[list[Any]]:
    """Devices grouped by the fast network that joins them, nodes in the order of their number.

    A device says where it is by `slice_index` (the host of a GPU, the slice of a TPU) or else by `process_index`,
    which on a TPU is no border: a slice that is only compiled for says nothing, and is one. A given number of `nodes`
    cuts the devices, in that order, into as many equal parts.

    Raises:
      InputError: parts that are not equal.
    """
    places: list[Any] = [getattr(d, "slice_index", None) for d in devices]
    if None in places:
        places = [0 if d.platform == "tpu" else d.process_index for d in devices]
    if nodes == 1 or (not nodes and len(set(places)) == 1):
        return [list(devices)]
    order = sorted(range(len(devices)), key=lambda i: (places[i], devices[i].process_index, devices[i].id))
    groups = [[devices[i] for i in order if places[i] == place] for place in sorted(set(places))]
    if nodes:
        size, rest = divmod(len(devices), nodes)
        if rest:
            raise InputError(f"{len(devices)} devices do not divide by {nodes} nodes", where="mesh.nodes")
        groups = [[devices[i] for i in order[n * size : (n + 1) * size]] for n in range(nodes)]
    if len({len(group) for group in groups}) > 1:
        raise InputError(
            f"nodes hold {', '.join(str(len(g)) for g in groups)} devices of the mesh, not equally many",
            where="mesh",
            hint="use whole nodes, or give mesh.nodes",
        )
    return groups


def arrange(shape: Sequence[int], nodes: Sequence[Sequence[Any]]) -> np.ndarray:
    """Devices in the order of `AXES`: inside a node along the last axes, across nodes along the first."""
    left = len(nodes[0])  # every prime factor of it divides some axis, so it comes down to 1
    inner = [1] * len(shape)
    for i in reversed(range(len(shape))):
        inner[i] = math.gcd(shape[i], left)
        left //= inner[i]
    outer = [size // part for size, part in zip(shape, inner, strict=True)]
    crossing = [axis for axis, ways in zip(AXES[2:], outer[2:], strict=True) if ways > 1]
    if crossing:
        log.warning("mesh: %s crosses nodes, over the slow network", " and ".join(crossing))
    blocks = [
        mesh_utils.create_device_mesh(inner, list(node), allow_split_physical_axes=True) for node in nodes
    ]
    grid = np.empty((*outer, *inner), dtype=object)
    for place, block in zip(np.ndindex(*outer), blocks, strict=True):
        grid[place] = block
    together = [axis for i in range(len(shape)) for axis in (i, len(shape) + i)]
    return grid.transpose(together).reshape(shape)


def batch_share(mesh: Mesh, process_index: int | None = None) -> tuple[int, int]:
    """(i, n): this process holds part i of n equal parts of the batch's rows.

    With a process per GPU several processes may hold the same rows, when tensor or context spans them.

    Raises:
      InputError: rows that are not one such part.
    """
    process_index = jax.process_index() if process_index is None else process_index
    batch_axes = [AXES.index(axis) for axis in BATCH_AXES]
    others = tuple(i for i in range(len(AXES)) if i not in batch_axes)
    ways = math.prod(mesh.devices.shape[i] for i in batch_axes)
    owners = np.vectorize(lambda d: d.process_index, otypes=[int])(mesh.devices)
    mine = np.flatnonzero((owners == process_index).any(axis=others).reshape(ways))
    size = len(mine)
    if size and ways % size == 0 and mine[0] % size == 0 and mine[-1] - mine[0] + 1 == size:
        return int(mine[0]) // size, ways // size
    raise InputError(
        f"process {process_index} holds shards {mine.tolist()} of {ways} of the batch, not one equal part",
        where="mesh",
        hint="choose sizes so that whole nodes hold neighbouring shards of the batch",
    )
