"""Every device computes its share: what XLA counts for one of eight devices against one that has all of it."""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests import tiny
from tests.cases import long_but
from xlam_jax.models import decoder
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.parallel.rules import batch_sharding

MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"data": 2, "fsdp": 4},
    {"fsdp": 2, "expert": 4},
    {"fsdp": 2, "tensor": 4},
    {"context": 8},
    {"fsdp": 2, "context": 4},
    {"fsdp": 2, "context": 2, "tensor": 2},
]
B, S = 8, 64
CFG = named_config("tiny-llama").replace(num_kv_heads=4, vocab_size=64)


def flops(sizes: dict[str, int]) -> float:
    mesh = make_mesh(MeshConfig(**sizes))
    params = tiny.params(CFG)
    # XLA counts the body of a loop once; layers that are unrolled are counted each.
    layers = tuple(jax.tree.map(lambda x, i=i: x[i], params.layers) for i in range(CFG.num_layers))
    with jax.set_mesh(mesh):
        param_shardings = shardings(CFG, mesh)
        drop = lambda s: jax.NamedSharding(s.mesh, jax.P(*s.spec[1:]))  # noqa: E731
        layer_shardings = jax.tree.map(drop, param_shardings.layers)
        params = jax.device_put(
            params.replace(layers=layers), param_shardings.replace(layers=(layer_shardings,) * CFG.num_layers)
        )
        tokens = jax.device_put(jnp.ones((B, S), jnp.int32), batch_sharding(mesh))
        positions = jax.device_put(jnp.tile(jnp.arange(S), (B, 1)), batch_sharding(mesh))

        def loss(params):
            hidden, _ = decoder.forward(params, tokens, positions, tokens, CFG)
            return jnp.square(hidden).sum()

        return jax.jit(jax.grad(loss)).lower(params).compile().cost_analysis()["flops"]


@functools.cache
def flops_of_all() -> float:
    return flops({"data": 1, "fsdp": 1})


@pytest.mark.optimised
@pytest.mark.parametrize("sizes", long_but(MESHES[-1:], MESHES), ids=str)
def test_a_device_has_an_eighth_of_the_work(sizes):
    share = 8 * flops(sizes) / flops_of_all()
    print(sizes, share)
    assert 0.98 < share < 1.1
