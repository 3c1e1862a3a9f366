"""Rules: logical names to mesh axes, collisions, and activation constraints."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from xlam_jax.errors import InputError
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.parallel.rules import ShardingRules, batch_sharding, constrain, to_sharding, to_spec


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


def test_names_become_mesh_axes(mesh):
    assert to_spec(("layers", "embed", "mlp"), mesh) == P(None, "fsdp", "tensor")
    assert batch_sharding(mesh).spec == P(("data", "fsdp", "expert"), "context")


def test_axes_that_the_mesh_lacks_are_left_out():
    small = jax.make_mesh(
        (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )
    assert to_spec(("batch", "embed"), small) == P("data", None)


def test_one_mesh_axis_cannot_split_two_dimensions(mesh):
    with pytest.raises(InputError, match="'fsdp' would split both 'embed' and 'mlp'"):
        to_sharding(("embed", "mlp"), mesh, ShardingRules(mlp="fsdp"))
    with pytest.raises(InputError, match="would split both"):
        to_sharding(("batch", "embed"), mesh)


def test_unknown_logical_axis(mesh):
    with pytest.raises(InputError, match="unknown logical axis 'hidden'"):
        to_sharding(("hidden",), mesh)


def test_a_dimension_that_does_not_divide(mesh):
    with pytest.raises(InputError, match="'vocab' of 33 does not split 2 ways"):
        to_sharding(("vocab", "embed"), mesh, shape=(33, 64))


def test_constrain_acts_under_a_mesh_only(mesh):
    def f(x):
        return constrain(x * 2, ("batch", "length", "act_mlp"))

    x = jnp.ones((4, 3, 8))
    assert "sharding_constraint" not in str(jax.make_jaxpr(f)(x))
    with jax.set_mesh(mesh):
        assert "sharding_constraint" in str(jax.make_jaxpr(f)(x))
        out = jax.jit(f)(x)
        assert out.sharding.shard_shape(out.shape) == (1, 3, 4)
        # One prompt cannot be split over four shards of the batch; it is left to the compiler.
        assert "sharding_constraint" not in str(jax.make_jaxpr(f)(x[:1]))
