"""The mesh: axis sizes, the axis type, and what is refused."""

import jax
import pytest
from jax.sharding import AxisType

from xlam_jax.errors import InputError
from xlam_jax.parallel.mesh import AXES, MeshConfig, make_mesh, mesh_shape


@pytest.mark.parametrize(
    ("sizes", "devices", "shape"),
    [
        ({}, 8, (1, 1, 1, 1, 1)),
        ({"fsdp": -1}, 8, (1, 8, 1, 1, 1)),
        ({"data": -1, "fsdp": 2, "tensor": 2}, 8, (2, 2, 1, 1, 2)),
        ({"expert": 8}, 8, (1, 1, 8, 1, 1)),
        ({"context": -1, "tensor": 2}, 8, (1, 1, 1, 4, 2)),
        ({"data": -1}, 1, (1, 1, 1, 1, 1)),
    ],
)
def test_shape(sizes, devices, shape):
    assert mesh_shape(MeshConfig(**sizes), devices) == shape


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"fsdp": 16}, "needs 16 devices, found 8"),
        ({"fsdp": 3, "data": -1}, "do not divide by 3"),
        ({"fsdp": -1, "data": -1}, "one may be -1"),
        ({"tensor": 0}, "1 or more"),
    ],
)
def test_refused(sizes, words):
    with pytest.raises(InputError, match=words):
        mesh_shape(MeshConfig(**sizes), 8)


def test_axes_are_auto_and_named():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    assert mesh.axis_names == AXES and mesh.size == 8
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_a_small_mesh_takes_the_first_devices():
    assert list(make_mesh(MeshConfig(fsdp=2)).devices.ravel()) == jax.devices()[:2]
