"""Adapters as a tree: which matrices they stand on, and that merged, attached and absent agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.cases import long_but
from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.models import lora as L
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.named import named_config
from xlam_jax.models.params import Adapted, Quantized, unstack
from xlam_jax.models.spec import count_params, leaves, shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh

KEY = jax.random.key(0)
NAMES = ("tiny-llama", "tiny-mixtral", "tiny-deepseek-v2")
CONFIGS = {name: named_config(name) for name in NAMES}
LORA = L.LoraConfig(rank=3, alpha=6.0)


def filled(cfg, lora=LORA):
    """Adapters whose second factor is not zero."""
    tree = L.init_adapters(cfg, lora, KEY)
    keys = iter(jax.random.split(jax.random.key(7), 100))
    return jax.tree.map(lambda x: x.replace(b=0.1 * jax.random.normal(next(keys), x.b.shape)), tree,
                        is_leaf=L.is_adapted)  # fmt: skip


def tokens_of(cfg, rows=2, length=12):
    return np.random.default_rng(1).integers(1, cfg.vocab_size, (rows, length)).astype(np.int32)


def run(params, cfg, **options):
    tokens = tokens_of(cfg)
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    hidden, _ = forward(params, tokens, positions, np.ones_like(tokens), cfg, **options)
    return logits(params, hidden, cfg)


@pytest.mark.parametrize("name", long_but(["tiny-llama"], NAMES))
def test_merged_equals_unmerged(name):
    cfg = CONFIGS[name]
    params = tiny.params(cfg)
    whole = L.attach(params, filled(cfg))
    plain, adapted = run(params, cfg), jax.jit(lambda p: run(p, cfg))(whole)
    assert np.abs(adapted - plain).max() > 1e-2  # the adapters do something
    np.testing.assert_allclose(jax.jit(lambda p: run(p, cfg))(L.merge(whole)), adapted, atol=1e-5)
    np.testing.assert_allclose(run(unstack(whole), cfg), adapted, atol=1e-5)
    assert jax.tree.structure(L.merge(whole)) == jax.tree.structure(params)
    for x, y in zip(jax.tree.leaves(L.base(whole)), jax.tree.leaves(params), strict=True):
        assert x is y


def test_the_merged_matrix_by_hand():
    cfg = CONFIGS["tiny-mixtral"]
    params, adapters = tiny.params(cfg), filled(cfg)
    merged = L.merge(L.attach(params, adapters))
    for where in (lambda p: p.layers.attn.q, lambda p: p.layers.mlp.down):
        w, x = np.asarray(where(params), np.float64), where(adapters)
        expected = w + 2.0 * (np.asarray(x.a, np.float64) @ np.asarray(x.b, np.float64))
        np.testing.assert_allclose(where(merged), expected, atol=1e-6)
    assert merged.layers.attn_norm is params.layers.attn_norm


def test_fresh_adapters_change_nothing():
    cfg = CONFIGS["tiny-llama"]
    params = tiny.params(cfg)
    np.testing.assert_array_equal(
        run(L.attach(params, L.init_adapters(cfg, LORA, KEY)), cfg), run(params, cfg)
    )


def test_initial_values_are_pefts():
    cfg = CONFIGS["tiny-llama"].replace(hidden_size=256, num_layers=8)
    a = np.asarray(L.init_adapters(cfg, LORA, KEY).layers.attn.q.a)
    assert np.abs(a).max() <= 1 / 16 and np.abs(a).max() > 0.99 / 16
    assert a.std() == pytest.approx(1 / 16 / np.sqrt(3), rel=0.05)
    gaussian = L.LoraConfig(rank=4, init="gaussian")
    assert np.asarray(L.init_adapters(cfg, gaussian, KEY).layers.attn.q.a).std() == pytest.approx(
        0.25, rel=0.05
    )


@pytest.mark.parametrize(
    ("name", "targets", "expected"),
    [
        ("tiny-llama", ["q_proj", "v_proj"], {"layers.attn.q", "layers.attn.v"}),
        ("tiny-llama", ["layers.attn.*"], {f"layers.attn.{k}" for k in "qkvo"}),
        ("tiny-llama", ["mlp"], {f"layers.mlp.{k}" for k in ("gate", "up", "down")}),
        ("tiny-mixtral", ["w1", "router"], {"layers.mlp.gate", "layers.mlp.router"}),
        ("tiny-mixtral", ["experts"], {f"layers.mlp.{k}" for k in ("gate", "up", "down")}),
        ("tiny-deepseek-v2", ["mlp"], {f"{p}.{k}" for p in ("layers.mlp.shared", "dense_layers.mlp")
                                       for k in ("gate", "up", "down")}),
    ],
)  # fmt: skip
def test_targets(name, targets, expected):
    assert set(L.target_paths(CONFIGS[name], L.LoraConfig(targets=targets))) == expected


def test_all_linear_is_every_matrix_of_the_layers():
    for cfg in CONFIGS.values():
        matrices = {p for p, s in leaves(cfg).items() if s.transform == "transpose" and s.per_layer}
        assert set(L.target_paths(cfg, L.LoraConfig())) == matrices


@pytest.mark.parametrize(
    ("target", "hint"),
    [("q_porj", "q_proj?"), ("embed", "known"), ("experts", "attention"), ("w1", "gate_proj")],
)
def test_an_unmatched_target_is_refused_with_what_exists(target, hint):
    with pytest.raises(InputError) as e:
        L.target_paths(CONFIGS["tiny-llama"], L.LoraConfig(targets=("q_proj", target)))
    assert repr(target) in e.value.what and hint in e.value.hint and "layers.attn.q" in e.value.hint


def test_unknown_keys_are_refused():
    with pytest.raises(InputError, match="rank"):
        make_config(L.LoraConfig, {"rnak": 3})


def test_counts():
    cfg = CONFIGS["tiny-mixtral"]
    adapters = L.init_adapters(cfg, LORA, KEY)
    by_hand = sum(
        np.prod(s.shape[:-2], dtype=int) * 3 * (s.shape[-2] + s.shape[-1])
        for p, s in leaves(cfg).items()
        if s.lora
    )
    assert L.count_adapters(cfg, LORA) == by_hand == sum(x.size for x in jax.tree.leaves(adapters))
    assert by_hand < count_params(cfg)


@pytest.mark.parametrize("name", long_but(["tiny-llama"], NAMES))
def test_a_mesh_of_eight_equals_one_device(name):
    cfg, lora = CONFIGS[name], L.LoraConfig(rank=4)
    mesh = make_mesh(MeshConfig(fsdp=2, expert=2, tensor=2))
    adapters = filled(cfg, lora)
    params = tiny.params(cfg)

    def loss(adapters, params):
        return (run(L.attach(params, adapters), cfg) ** 2).mean()

    expected = jax.jit(jax.value_and_grad(loss))(adapters, params)
    with jax.set_mesh(mesh):
        adapter_shardings = jax.tree.map(lambda s: s.sharding, L.adapter_shapes(cfg, lora, mesh=mesh))
        here = jax.tree.map(jax.device_put, (adapters, params), (adapter_shardings, shardings(cfg, mesh)))
        found = jax.jit(jax.value_and_grad(loss))(*here)
        fresh = L.init_adapters(cfg, lora, KEY, mesh=mesh)
    q, w = fresh.layers.attn.o, here[1].layers.attn.o
    assert q.a.sharding.spec[1] == w.sharding.spec[1] and q.b.sharding.spec[2] == w.sharding.spec[2]
    jax.tree.map(np.testing.assert_array_equal, fresh, L.init_adapters(cfg, lora, KEY))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    # Sums over a mesh are rounded in another order; the largest of these gradients are 1e-2.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=5e-6), found[1], expected[1])


@pytest.mark.slow
def test_a_quantised_mixture_on_a_mesh_equals_one_device():
    pytest.importorskip("qwix", reason="pip install 'xlam-jax[quant]'")
    cfg, lora = CONFIGS["tiny-mixtral"], L.LoraConfig(rank=4, targets=("experts",), quantize="nf4")
    # Two blocks of 64 rows, which split; of 96 rows there are three of 32.
    cfg = cfg.replace(moe=dataclasses.replace(cfg.moe, intermediate_size=128))
    params, adapters = tiny.params(cfg), filled(cfg, lora)
    one = L.attach(L.quantize_base(params, cfg, lora), adapters)
    assert isinstance(one.layers.mlp.up.w, Quantized) and isinstance(one.layers.attn.q, Quantized)
    assert not isinstance(one.layers.mlp.router, Quantized)
    expected = jax.jit(lambda p: run(p, cfg))(one)
    np.testing.assert_allclose(jax.jit(lambda p: run(p, cfg))(L.merge(one)), expected, atol=1e-5)
    mesh = make_mesh(MeshConfig(fsdp=2, expert=2, tensor=2))
    with jax.set_mesh(mesh):
        here = jax.tree.map(jax.device_put, params, shardings(cfg, mesh))
        whole = L.attach(L.quantize_base(here, cfg, lora, mesh, take=True), adapters)
        assert whole.layers.mlp.up.w.array.qvalue.sharding.spec == here.layers.mlp.up.sharding.spec
        found = jax.jit(lambda p: run(p, cfg))(whole)
    np.testing.assert_allclose(found, expected, atol=1e-5)


DROP = L.LoraConfig(rank=4, dropout=0.25, targets=("attention", "mlp"))


def dropped(whole, cfg, step):
    return np.asarray(run(L.with_dropout(whole, step, tokens_of(cfg)), cfg))


def test_dropout_depends_on_step_and_row_alone():
    cfg = CONFIGS["tiny-llama"]
    whole = L.attach(tiny.params(cfg), filled(cfg, DROP))
    one = dropped(whole, cfg, 3)
    np.testing.assert_array_equal(one, dropped(whole, cfg, 3))
    assert np.abs(one - dropped(whole, cfg, 4)).max() > 1e-3
    assert np.abs(one - np.asarray(run(whole, cfg))).max() > 1e-3  # without keys there is none
    keys = L.with_dropout(whole, 3, tokens_of(cfg)).layers.attn.q.keys
    turned = L.with_dropout(whole, 3, tokens_of(cfg)[::-1]).layers.attn.q.keys
    data = np.asarray(jax.random.key_data(keys))
    np.testing.assert_array_equal(data[:, ::-1], jax.random.key_data(turned))
    assert len({d.tobytes() for d in data.reshape(-1, 2)}) == data.shape[0] * data.shape[1]
    other = jax.random.key_data(L.with_dropout(whole, 3, tokens_of(cfg), seed=1).layers.attn.q.keys)
    assert not (np.asarray(other) == data).all(axis=-1).any()  # another seed, other masks


def test_dropout_keeps_the_expectation():
    """The low-rank path of one matrix, over many steps: mean and variance of inverted dropout."""
    from xlam_jax.models.blocks import product

    a, b = jnp.eye(8), jnp.eye(8)
    w = Adapted(w=jnp.zeros((8, 8)), a=a[None], b=b[None], scale=1.0, dropout=0.25)
    x = jnp.ones((64, 32, 8))
    tokens = np.arange(64 * 32, dtype=np.int32).reshape(64, 32)
    keyed = L.with_dropout(w, 0, tokens)
    y = np.asarray(product(x, dataclasses.replace(keyed, a=a, b=b, keys=keyed.keys[0])))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=4 * np.sqrt(1 / 3 / y.size))


def test_dropout_on_experts_is_refused():
    with pytest.raises(InputError, match="dropout"):
        L.target_paths(CONFIGS["tiny-mixtral"], L.LoraConfig(dropout=0.1))
