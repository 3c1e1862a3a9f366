"""Eight fake devices against one: loss and every gradient, for each way to factorise the mesh."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.cases import long_but
from xlam_jax.models import decoder
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.named import named_config
from xlam_jax.models.routing import load_balance_loss
from xlam_jax.models.spec import shardings
from xlam_jax.parallel.mesh import AXES, MeshConfig, make_mesh
from xlam_jax.parallel.rules import batch_sharding

MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"tensor": 8},
    {"data": 4, "fsdp": 2},
    {"fsdp": 4, "tensor": 2},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "expert": 2, "tensor": 2},
]
MIXED = [{"expert": 8}, {"fsdp": 2, "expert": 2, "context": 2}, {"data": 2, "expert": 2, "tensor": 2}]
EVERY = [
    {axis: size for axis, size in zip(AXES, sizes, strict=True) if size > 1}
    for sizes in itertools.product((1, 2, 4, 8), repeat=len(AXES))
    if math.prod(sizes) == 8
]


def config_of(name):
    """Eight experts and eight key heads, so that any axis may have all eight devices."""
    cfg = named_config(name)
    if name in ("tiny-mixtral", "tiny-deepseek-v2", "tiny-deepseek-v3"):
        moe = dataclasses.replace(cfg.moe, num_experts=8)
        heads = {} if cfg.latent else {"num_kv_heads": 8, "head_dim": 8}
        cfg = cfg.replace(moe=moe, num_heads=8, **heads, **({"num_kv_heads": 8} if cfg.latent else {}))
    return cfg


def case(name):
    cfg = config_of(name)
    # Large enough that attention and the router are not uniform.
    params = jax.tree.map(lambda x: 6 * x if x.ndim >= 3 else x, tiny.params(cfg))
    B, S = 8, 24
    tokens = jax.random.randint(jax.random.key(1), (B, S), 0, cfg.vocab_size)
    segments = jnp.where(jnp.arange(S) < 10, 1, 2) * jnp.ones((B, 1), jnp.int32)
    positions = jnp.where(jnp.arange(S) < 10, jnp.arange(S), jnp.arange(S) - 10) * jnp.ones((B, 1), jnp.int32)
    # A different share of each row counts, so a mean of means would be caught.
    weights = (jnp.arange(S) < 5 + 2 * jnp.arange(B)[:, None]).astype(jnp.float32)
    return cfg, params, (tokens, positions, segments, jnp.roll(tokens, -1, axis=1), weights)


def loss_and_grads(cfg, remat="none"):
    def loss(params, tokens, positions, segments, targets, weights):
        hidden, sums = decoder.forward(params, tokens, positions, segments, cfg, remat=remat)
        total, weight, _ = chunked_cross_entropy(hidden, decoder.head_matrix(params), targets, weights, 8)
        if not cfg.moe:
            return total / weight
        router = load_balance_loss(sums["router_count"], sums["router_prob"], sums["router_tokens"], cfg.moe)
        return total / weight + 0.1 * router + sums["moe_dropped"].sum()

    return jax.value_and_grad(loss)


@pytest.fixture(scope="module")
def alone():
    @functools.cache
    def of(name):
        cfg, params, batch = case(name)
        return jax.jit(loss_and_grads(cfg))(params, *batch)

    return of


@pytest.mark.parametrize(
    ("name", "sizes"),
    # Every axis with another; the long proofs have each alone, each pair and the other families.
    long_but(
        [
            ("tiny-mistral", MESHES[5]),
            *(("tiny-mixtral", s) for s in MIXED[1:]),
        ],
        [("tiny-mistral", s) for s in MESHES]
        + [("tiny-llama-tied", s) for s in MESHES[4:6]]
        + [("tiny-mixtral", s) for s in (*MIXED, *(s for s in EVERY if s not in MIXED))]
        + [(f"tiny-deepseek-v{n}", s) for n in (2, 3) for s in MIXED],
    ),
    ids=lambda s: s if isinstance(s, str) else "x".join(f"{k}{v}" for k, v in s.items()),
)
def test_mesh_equals_one_device(name, sizes, alone):
    cfg, params, batch = case(name)
    mesh = make_mesh(MeshConfig(**sizes))
    param_shardings = shardings(cfg, mesh)
    with jax.set_mesh(mesh):
        params = jax.device_put(params, param_shardings)
        batch = jax.device_put(batch, batch_sharding(mesh))
        step = jax.jit(loss_and_grads(cfg, "full"), out_shardings=(None, param_shardings))
        loss, grads = step(params, *batch)
    right_loss, right = alone(name)
    np.testing.assert_allclose(loss, right_loss, rtol=1e-5)
    for (path, a), b in zip(
        jax.tree_util.tree_flatten_with_path(grads)[0], jax.tree.leaves(right), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max() + 1e-9, jax.tree_util.keystr(path)


def test_fsdp_shards_are_really_smaller():
    cfg, params, _ = case("tiny-mistral")
    mesh = make_mesh(MeshConfig(fsdp=8))
    params = jax.device_put(params, shardings(cfg, mesh))
    for leaf in jax.tree.leaves(params):
        if leaf.nbytes > 1 << 10:
            assert leaf.addressable_shards[0].data.nbytes * 8 == leaf.nbytes
