"""Nothing large is held by every device: with fsdp, each layer's matrices are split over it."""

import math

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from xlam_jax.models.named import NAMED
from xlam_jax.models.spec import leaves
from xlam_jax.parallel.mesh import AXES
from xlam_jax.parallel.rules import to_spec

MESH = AbstractMesh(
    tuple(2 if axis == "fsdp" else 1 for axis in AXES), AXES, axis_types=(AxisType.Auto,) * len(AXES)
)


@pytest.mark.parametrize("name", [n for n in NAMED if not n.startswith("tiny")])
def test_no_layer_holds_more_than_a_megabyte_unsplit(name):
    large = 0
    for path, s in leaves(NAMED[name]).items():
        of_layer = math.prod(s.shape[1:] if s.per_layer else s.shape) * 2  # bf16
        if of_layer > 1 << 20:
            large += 1
            axes = jax.tree.leaves(tuple(to_spec(s.axes, MESH)))
            assert "fsdp" in axes, (path, s.axes)
    assert large > 3
