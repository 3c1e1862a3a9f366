"""The expert layer on eight devices equals the dense network on one: every mesh, exchange and kind of routing."""

import functools

import jax
import numpy as np
import pytest
from moe_cases import CFG, FACTORS, KINDS, SLACK, case, check, name_of, on_mesh, put

from xlam_jax.errors import InputError
from xlam_jax.models.experts import Experts, moe_ffn
from xlam_jax.models.params import Adapted
from xlam_jax.models.routing import route
from xlam_jax.parallel.exchange import choose_exchange

SPLIT = [sizes for sizes in FACTORS if sizes["expert"] > 1]
WHOLE = [sizes for sizes in FACTORS if sizes["expert"] == 1]
# Each axis alone and each pair once; `test_every_mesh_exchange_and_backend` has all of them.
QUICK = [(SPLIT[8], "gather")] + [(SPLIT[i], "all_to_all") for i in (3, 7)]
QUICK += [(WHOLE[0], "none")]
QUICK += [({"expert": 2, "context": 2, "tensor": 2}, "all_to_all")]
ids = lambda case: name_of(case) if isinstance(case, dict) else case  # noqa: E731


@pytest.mark.parametrize(("sizes", "exchange"), QUICK, ids=ids)
def test_every_mesh_equals_one_device(sizes, exchange):
    turns = [check(on_mesh(sizes), kind, 0, "batched", exchange) for kind in KINDS]
    assert max(t["windows"] for t in turns) > 1 or exchange == "none"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dense", "batched"])
@pytest.mark.parametrize("exchange", ["none", "gather", "all_to_all", "auto"])
@pytest.mark.parametrize("sizes", FACTORS, ids=ids)
def test_every_mesh_exchange_and_backend(sizes, exchange, backend):
    for kind in KINDS:
        check(on_mesh(sizes), kind, 0, backend, exchange)


SEEDED = [({"data": 2, "expert": 4}, "gather"), ({"data": 2, "expert": 2, "tensor": 2}, "all_to_all")]


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 200), marks=pytest.mark.slow)], ids=len)
@pytest.mark.parametrize(("sizes", "exchange"), SEEDED, ids=ids)
def test_many_seeds_so_that_devices_disagree(sizes, exchange, seeds):
    """Turns differ between devices here; a collective that not all of them reach would hang."""
    mesh, seen = on_mesh(sizes), set()
    for seed in seeds:
        stats = check(mesh, tuple(KINDS)[seed % 4], seed, "batched", exchange)
        seen.add((stats["windows"], stats["rounds"]))
    assert len(seen) > 1  # the seeds do make a difference


@pytest.mark.parametrize("exchange", ["none", "gather", "all_to_all"])
def test_nothing_is_dropped(exchange):
    """Experts that return ones: every token gets the sum of its weights, whatever the routing."""
    ones = Experts(np.zeros((8, 16, 8), "f4"), np.zeros((8, 16, 8), "f4"), np.full((8, 8, 16), 0.125, "f4"))
    ones.gate[:, 1], ones.up[:, 1] = 1, 1

    def total(x, router, experts, mask):
        routing = route(x, router, CFG, mask)
        y, stats = moe_ffn(x, routing, experts, CFG, exchange=exchange, slack=SLACK)
        return y[..., 0] / jax.nn.silu(1.0), routing.weights_BSK.sum(-1), stats

    mesh, run = on_mesh({"data": 2, "expert": 4}), jax.jit(total)
    with jax.set_mesh(mesh):
        for seed in range(6):
            x, router, _, mask = case(tuple(KINDS)[seed % 4], seed)
            x[..., 1] = 1
            got, weights, stats = run(*put(mesh, x, router, ones, mask))
            np.testing.assert_allclose(got, weights, atol=1e-6)
            np.testing.assert_allclose(weights, mask, atol=1e-6)
            assert stats["dropped"] == 0


@pytest.mark.parametrize("exchange", ["none", "gather", "all_to_all"])
def test_one_prompt_on_a_mesh_that_cannot_split_it(exchange):
    """Generation: a batch of one is repeated over the axes it does not divide by."""
    x, router, experts, _ = case("balanced", 0)
    x = x[:1, :5]

    def run(x, router, experts):
        y, stats = moe_ffn(x, route(x, router, CFG), experts, CFG, exchange=exchange)
        return np.float32(0.5) * (y**2).sum(), (y, stats)

    grad = jax.value_and_grad(run, (0, 1, 2), has_aux=True)
    (_, (right, _)), right_grads = jax.jit(grad)(x, router, experts)
    mesh = on_mesh({"fsdp": 2, "expert": 2, "tensor": 2})
    with jax.set_mesh(mesh):
        _, r, e, _ = put(mesh, *case("balanced", 0))
        (_, (y, stats)), grads = jax.jit(grad)(x, r, e)
    np.testing.assert_allclose(y, right, atol=1e-5)
    assert stats["dropped"] == 0
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(right_grads), strict=True):
        assert np.abs(np.asarray(a) - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["gather", "all_to_all"])
def test_adapters_on_a_mesh(exchange):
    """Only the adapters are differentiated, inside scan and checkpoint as in training."""
    x, router, experts, mask = case("skewed", 0)
    rng = np.random.default_rng(1)
    low = [
        tuple(0.3 * rng.standard_normal(s).astype("f4") for s in ((8, w.shape[1], 2), (8, 2, w.shape[2])))
        for w in experts
    ]

    def total(low, x, router, experts, mask):
        adapted = Experts(*(Adapted(w, a, b, 0.5) for w, (a, b) in zip(experts, low, strict=True)))

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def layer(x, _):
            routing = route(x, router, CFG, mask)
            return x + moe_ffn(x, routing, adapted, CFG, exchange=exchange, slack=SLACK)[0], None

        return jax.lax.scan(layer, x, None, length=2)[0].sum()

    right = jax.jit(jax.grad(total))(low, x, router, experts, mask)
    mesh = on_mesh({"fsdp": 2, "expert": 2, "tensor": 2})
    with jax.set_mesh(mesh):
        grads = jax.jit(jax.grad(total))(low, *put(mesh, x, router, experts, mask))
    # Sums over all tokens in another order, through two layers: 2e-5 apart with AVX-512, 5e-5 with AVX2.
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(right), strict=True):
        assert np.abs(np.asarray(a) - b).max() <= 2e-4 * np.abs(b).max()


def test_auto_takes_the_exchange_that_moves_less():
    assert choose_exchange(4096, 2, peers=1, slack=1.25) == "none"
    assert choose_exchange(4096, 2, peers=4, slack=1.25) == "gather"  # Mixtral, half a node
    assert choose_exchange(4096, 2, peers=8, slack=1.25) == "all_to_all"  # Mixtral, a node
    assert choose_exchange(4096, 8, peers=8, slack=1.25) == "gather"  # DeepSeek-V3
    assert choose_exchange(4096, 8, peers=32, slack=1.25) == "all_to_all"
    assert choose_exchange(4, 2, peers=8, slack=1.25) == "gather"  # a step of generation


def test_experts_that_do_not_split_are_told():
    cfg_experts = jax.tree.map(lambda w: w[:6], case("balanced", 0)[2])
    x, router, _, _ = case("balanced", 0)
    cfg = type(CFG)(6, 2, 8)
    with jax.set_mesh(on_mesh({"data": 2, "expert": 4})), pytest.raises(InputError, match="'experts' of 6"):
        moe_ffn(x, route(x, router[:, :6], cfg), cfg_experts, cfg)
