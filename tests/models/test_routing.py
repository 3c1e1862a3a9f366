"""Routing against the routers of transformers, and its statistics against the load-balance loss there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.models.config import MoeConfig
from xlam_jax.models.params import Adapted
from xlam_jax.models.routing import load_balance_loss, route

torch = pytest.importorskip("torch")
moe_blocks = pytest.importorskip("moe_blocks")


def by_expert(ids_TK, weights_TK, E):
    """[T, E] weights: the order of a token's choices has no meaning."""
    out = np.zeros((len(ids_TK), E + 1), np.float32)
    np.put_along_axis(out, np.asarray(ids_TK), np.asarray(weights_TK), axis=1)
    return out


@pytest.mark.parametrize("name", moe_blocks.NAMES)
def test_choices_and_weights_equal_transformers(name):
    block, x = moe_blocks.make(name), moe_blocks.hidden(B=4, S=64)
    cfg = block.cfg
    ours = jax.jit(route, static_argnums=2)(x, block.router_DE, cfg, None, block.bias_E)
    with torch.no_grad():
        logits, weights, ids = block.gate(torch.tensor(x).reshape(-1, x.shape[-1]))
    K, E = cfg.experts_per_token, cfg.num_experts
    assert (np.sort(ours.ids_BSK.reshape(-1, K)) == np.sort(ids.numpy())).all()
    np.testing.assert_allclose(
        by_expert(ours.ids_BSK.reshape(-1, K), ours.weights_BSK.reshape(-1, K), E),
        by_expert(ids.numpy(), weights.numpy(), E),
        atol=2e-6,
    )
    assert ours.weights_BSK.dtype == jnp.float32 and ours.ids_BSK.dtype == jnp.int32
    np.testing.assert_array_equal(ours.count_E, np.bincount(ids.numpy().ravel(), minlength=E))
    probs = logits.softmax(-1) if cfg.scoring == "softmax" else logits.sigmoid()
    np.testing.assert_allclose(ours.prob_E, (probs / probs.sum(-1, keepdim=True)).sum(0), rtol=1e-5)
    assert ours.tokens == 4 * 64


@pytest.mark.parametrize("name", moe_blocks.NAMES)
def test_gradient_of_the_weights_equals_transformers(name):
    block, x = moe_blocks.make(name), moe_blocks.hidden()
    E, K = block.cfg.num_experts, block.cfg.experts_per_token
    pull = np.random.default_rng(0).standard_normal((x.shape[0] * x.shape[1], E)).astype(np.float32)

    def ours(x, router):
        r = route(x, router, block.cfg, None, block.bias_E)
        return (r.weights_BSK.reshape(-1, K) * jnp.take_along_axis(pull, r.ids_BSK.reshape(-1, K), 1)).sum()

    d_x, d_router = jax.jit(jax.grad(ours, (0, 1)))(x, block.router_DE)
    xt = torch.tensor(x, requires_grad=True)
    _, weights, ids = block.gate(xt.reshape(-1, x.shape[-1]))
    (weights * torch.tensor(pull).gather(1, ids)).sum().backward()
    for a, b in ((d_x, xt.grad.numpy()), (d_router, block.gate.weight.grad.numpy().T)):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("masked", [False, True])
def test_load_balance_loss_equals_transformers(masked):
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    cfg, L, B, S = MoeConfig(8, 2, 4), 3, 4, 16
    rng = np.random.default_rng(0)
    x = rng.standard_normal((L, B, S, 12)).astype(np.float32)
    router = rng.standard_normal((L, 12, 8)).astype(np.float32)
    mask = (np.arange(S) < rng.integers(3, S, (B, 1))) if masked else np.ones((B, S), bool)

    def ours(router):
        r = jax.vmap(lambda x, w: route(x, w, cfg, jnp.asarray(mask)))(jnp.asarray(x), router)
        stacked = load_balance_loss(r.count_E, r.prob_E, r.tokens, cfg)
        summed = load_balance_loss(r.count_E.sum(0), r.prob_E.sum(0), r.tokens.sum(), cfg)
        return stacked, summed

    (stacked, summed), pull = jax.vjp(ours, router)
    weight = torch.tensor(router, requires_grad=True)
    logits = torch.einsum("lbsd,lde->lbse", torch.tensor(x), weight).reshape(L, B * S, 8)
    right = load_balancing_loss_func(tuple(logits), 8, 2, torch.tensor(mask) if masked else None)
    right.backward()
    np.testing.assert_allclose([stacked, summed], right.item(), rtol=1e-5)
    (grad,) = pull((jnp.float32(1), jnp.float32(0)))
    np.testing.assert_allclose(grad, weight.grad, atol=1e-6)


def test_load_balance_loss_of_a_perfect_balance_and_of_no_token():
    cfg = MoeConfig(4, 2, 4)
    even = jnp.full(4, 8.0)
    assert load_balance_loss(even, even / 2, jnp.float32(16), cfg) == pytest.approx(2.0)
    assert load_balance_loss(0 * even, 0 * even, jnp.float32(0), cfg) == 0


def test_padding_is_not_read_not_routed_not_counted():
    cfg = MoeConfig(8, 2, 4)
    x = moe_blocks.hidden(B=2, S=10)
    router = np.random.default_rng(2).standard_normal((x.shape[-1], 8)).astype(np.float32)
    mask = np.arange(10) < np.array([[7], [4]])
    poisoned = np.where(mask[..., None], x, np.nan)

    def total(x, router):
        r = route(x, router, cfg, mask)
        return (r.weights_BSK[..., 0] ** 2).sum() + (r.prob_E**2).sum(), r

    (_, r), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(poisoned, router)
    alone = route(x[mask][None], router, cfg)
    np.testing.assert_array_equal(r.ids_BSK[mask], alone.ids_BSK[0])
    # The router's product has another shape here, and its last bit depends on the processor.
    np.testing.assert_allclose(r.weights_BSK[mask], alone.weights_BSK[0], rtol=1e-5)
    assert (r.ids_BSK[~mask] == 8).all() and (r.weights_BSK[~mask] == 0).all()
    np.testing.assert_array_equal(r.count_E, alone.count_E)
    np.testing.assert_allclose(r.prob_E, alone.prob_E, rtol=1e-6)
    assert r.tokens == 11 and r.count_E.sum() == 22
    assert (grads[0][~mask] == 0).all() and np.isfinite(grads[0]).all() and np.isfinite(grads[1]).all()


def test_choices_are_distinct_and_ties_go_to_the_lower_number():
    cfg = MoeConfig(8, 3, 4)
    flat = route(jnp.ones((1, 5, 6)), jnp.zeros((6, 8)), cfg)
    assert (flat.ids_BSK == jnp.array([0, 1, 2])).all()
    np.testing.assert_allclose(flat.weights_BSK, 1 / 3, rtol=1e-6)
    # Scores that underflow to zero are still distinct choices.
    sharp = route(jnp.ones((1, 5, 6)), jnp.zeros((6, 8)).at[:, 5].set(100.0), cfg)
    assert (sharp.ids_BSK == jnp.array([5, 0, 1])).all()


def test_router_with_an_adapter_equals_the_merged_one():
    cfg = MoeConfig(8, 2, 4)
    x = moe_blocks.hidden()
    w, a, b = (
        np.random.default_rng(3).standard_normal(s).astype(np.float32) for s in ((32, 8), (32, 2), (2, 8))
    )
    one, two = route(x, Adapted(w, a, b, 0.5), cfg), route(x, w + 0.5 * a @ b, cfg)
    np.testing.assert_array_equal(one.ids_BSK, two.ids_BSK)
    np.testing.assert_allclose(one.weights_BSK, two.weights_BSK, atol=1e-5)


def test_bf16_hidden_states_are_routed_in_float32():
    cfg, x = MoeConfig(8, 2, 4), jnp.asarray(moe_blocks.hidden(), jnp.bfloat16)
    router = jax.random.normal(jax.random.key(0), (32, 8))
    one, two = route(x, router, cfg), route(x.astype(jnp.float32), router, cfg)
    np.testing.assert_array_equal(one.weights_BSK, two.weights_BSK)


def test_bad_settings_are_told():
    x, router = jnp.ones((1, 2, 4)), jnp.ones((4, 8))
    with pytest.raises(InputError, match="bias is absent"):
        route(x, router, MoeConfig(8, 2, 4, selection_bias=True))
    with pytest.raises(InputError, match="bias is given"):
        route(x, router, MoeConfig(8, 2, 4), bias_E=jnp.ones(8))
    with pytest.raises(InputError, match="two experts a group"):
        route(x, router, MoeConfig(8, 2, 4, n_group=8, topk_group=4, group_scoring="top2"))
