"""Nothing large is held by every device: with fsdp, each layer's matrices are split over it."""

import math

import jax
from jax.sharding import AbstractMesh, AxisType

from tests.cases import case
from xlam_jax.models.named import NAMED
from xlam_jax.models.spec import leaves
from xlam_jax.parallel.mesh import AXES
from xlam_jax.parallel.rules import to_spec

MESH = AbstractMesh(
    tuple(2 if axis == "fsdp" else 1 for axis in AXES), AXES, axis_types=(AxisType.Auto,) * len(AXES)
)


def test_no_layer_holds_more_than_a_megabyte_unsplit():
    for name in NAMED:
        if not name.startswith("tiny"):
            with case(name):
                check_large_matrices(name)


def check_large_matrices(name):
    large = 0
    for path, s in leaves(NAMED[name]).items():
        of_layer = math.prod(s.shape[1:] if s.per_layer else s.shape) * 2  # bf16
        if of_layer > 1 << 20:
            large += 1
            axes = jax.tree.leaves(tuple(to_spec(s.axes, MESH)))
            assert "fsdp" in axes, (path, s.axes)
    assert large > 3
