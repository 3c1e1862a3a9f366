"""The device mesh: four named axes, each with one meaning.

data    replicas of the parameters, each with its own rows of the batch
fsdp    parameters and optimizer state split; rows of the batch split too
expert  experts of a mixture split; rows of the batch split too
tensor  heads, MLP width and vocabulary split; the batch is not
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh
from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.errors import InputError

AXES = ("data", "fsdp", "expert", "tensor")


class MeshConfig(Config):
    """Sizes of the mesh axes; one of them may be -1: whatever is left of the devices."""

    data: int = Field(default=1, ge=-1)
    fsdp: int = Field(default=1, ge=-1)
    expert: int = Field(default=1, ge=-1)
    tensor: int = Field(default=1, ge=-1)


def mesh_shape(cfg: MeshConfig, device_count: int) -> tuple[int, int, int, int]:
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
    return tuple(sizes)  # type: ignore[return-value]


def make_mesh(cfg: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the four axes of `AXES`, all of them Auto (the compiler places collectives).

    Args:
      cfg: axis sizes; the default is one device.
      devices: defaults to all of `jax.devices()`. A smaller mesh takes the first ones, in one process only.

    Raises:
      InputError: see `mesh_shape`; also a mesh that leaves devices idle in a run of several processes.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = mesh_shape(cfg or MeshConfig(), len(devices))
    used = math.prod(shape)
    if used < len(devices) and jax.process_count() > 1:
        raise InputError(
            f"the mesh uses {used} of {len(devices)} devices; with several processes it must use all",
            where="mesh",
            hint="set one axis to -1",
        )
    # The default axis type is Explicit, which changes what ordinary operations mean.
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:used])
