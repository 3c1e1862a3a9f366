"""Expert networks on one device: against transformers' blocks, and the backends against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.cases import long_but
from xlam_jax.errors import InputError
from xlam_jax.models.config import MoeConfig
from xlam_jax.models.experts import Experts, moe_ffn
from xlam_jax.models.params import Adapted
from xlam_jax.models.routing import Routing, route
from xlam_jax.parallel.dispatch import combine, dispatch, make_plan, packed_window, window

torch = pytest.importorskip("torch")
moe_blocks = pytest.importorskip("moe_blocks")

CFG = MoeConfig(8, 2, 16)
D = 24
BACKENDS = ["dense", "batched", "grouped"]


def close(a, b, tolerance=1e-5):
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        u, v = np.asarray(u), np.asarray(v)
        assert np.abs(u - v).max() <= tolerance * np.abs(v).max()


@pytest.mark.parametrize(
    ("name", "backend"),
    long_but(
        [("mixtral", "batched"), ("deepseek-v3", "batched"), ("mixtral", "dense")],
        [*((name, "batched") for name in moe_blocks.NAMES), ("mixtral", "dense"), ("deepseek-v3", "grouped")],
    ),
)
def test_output_and_all_gradients_equal_transformers(name, backend):
    block, x = moe_blocks.make(name), moe_blocks.hidden()
    pull = moe_blocks.hidden(seed=2)

    def ours(x, router, experts):
        routing = route(x, router, block.cfg, None, block.bias_E)
        # A slack this small makes several windows.
        y, stats = moe_ffn(x, routing, experts, block.cfg, backend=backend, slack=0.3)
        return (y * pull).sum(), (y, stats)

    grad = jax.jit(jax.value_and_grad(ours, (0, 1, 2), has_aux=True))
    (_, (y, stats)), grads = grad(x, block.router_DE, block.matrices)
    xt = torch.tensor(x, requires_grad=True)
    right = block.routed(xt)
    (right * torch.tensor(pull)).sum().backward()
    close(y, moe_blocks.numpy(right))
    close(grads, (moe_blocks.numpy(xt.grad), *block.gradients))
    assert stats["dropped"] == 0 and (backend == "dense" or stats["windows"] > 1)


def random_case(seed, T=96, bias=None, F=16):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    x = draw(2, T // 2, D)
    logits = draw(2, T // 2, 8) + (0 if bias is None else jnp.asarray(bias))
    weights, ids = jax.lax.top_k(jax.nn.softmax(logits), 2)
    count = jnp.bincount(ids.ravel(), length=8).astype(jnp.float32)
    routing = Routing(weights, ids, count, jax.nn.softmax(logits).sum((0, 1)), jnp.float32(T))
    return x, routing, Experts(0.4 * draw(8, D, F), 0.4 * draw(8, D, F), 0.4 * draw(8, F, D))


ROUTINGS = {
    "balanced": None,
    "skewed": [3.0, 2, 1, 0, 0, 0, -1, -2],
    "two-experts": [0, 0, 99.0, 0, 98, 0, 0, 0],
    "empty-experts": [-99.0, 0, 0, -99, 0, 0, 0, -99],
}


def value_and_grads(backend, slack):
    def total(x, weights, experts, routing):
        routing = routing._replace(weights_BSK=weights)
        y, stats = moe_ffn(x, routing, experts, CFG, backend=backend, slack=slack)
        return jnp.sin(y).sum(), (y, stats)

    grad = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))

    def run(x, routing, experts):
        (_, (y, stats)), grads = grad(x, routing.weights_BSK, experts, routing)
        return y, grads, stats

    return run


@pytest.fixture(scope="module")
def dense():
    return value_and_grads("dense", 1.0)


@pytest.mark.parametrize("slack", [0.2, 1.25, 100.0])
@pytest.mark.parametrize("backend", ["batched", "grouped"])
def test_windows_equal_the_dense_oracle(backend, slack, dense):
    windowed = value_and_grads(backend, slack)
    turns = {}
    for name, bias in ROUTINGS.items():
        for seed in range(3):
            case = random_case(seed, bias=bias)
            right, ours = dense(*case), windowed(*case)
            close(ours[:2], right[:2])
            assert ours[2]["dropped"] == 0
            turns[name] = float(ours[2]["windows"])
    # 96 tokens, 24 rows of an expert expected: windows of 8, 32 and 96 rows of each expert, or of 64, 192 (all
    # assignments there are) and 192 rows altogether.
    expected = {"batched": {0.2: 12, 1.25: 3, 100.0: 1}, "grouped": {0.2: 3, 1.25: 1, 100.0: 1}}
    assert turns["two-experts"] == expected[backend][slack]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_dropped_whatever_the_routing(backend):
    """Experts that return ones: each token must get the sum of its weights."""
    ones = Experts(
        jnp.zeros((8, D, 1)).at[:, 0].set(1.0), jnp.zeros((8, D, 1)).at[:, 0].set(1.0), jnp.ones((8, 1, D))
    )
    run = jax.jit(lambda x, routing: moe_ffn(x, routing, ones, CFG, backend=backend, slack=0.2)[0])
    scale = 1 / jax.nn.silu(1.0)
    for seed in range(20):
        x, routing, _ = random_case(seed, bias=4 * np.random.default_rng(seed).standard_normal(8))
        y = run(x.at[..., 0].set(1.0), routing)
        np.testing.assert_allclose(y[..., 0] * scale, routing.weights_BSK.sum(-1), rtol=1e-6)


def test_stats_tell_the_load():
    x, routing, experts = random_case(0, bias=ROUTINGS["two-experts"])
    _, stats = moe_ffn(x, routing, experts, CFG)
    # Two experts have 96 of 192 assignments each, the mean is 24.
    assert stats["max_load"] == 4 and stats["rounds"] == 1
    np.testing.assert_allclose(stats["cv"], np.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_poison_in_padding_never_leaks(backend):
    cfg, S = CFG, 20
    x, _, experts = random_case(0, T=2 * S)
    router = jax.random.normal(jax.random.key(0), (D, 8))
    mask = jnp.arange(S) < jnp.array([[13], [6]])

    def total(x, router, experts):
        y, stats = moe_ffn(x, route(x, router, cfg, mask), experts, cfg, backend=backend, slack=0.3)
        return jnp.sin(y).sum(), (y, stats)

    run = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    bad = jnp.where(mask[..., None], x, jnp.nan)
    (_, (y, stats)), grads = run(bad, router, experts)
    (_, (right, _)), right_grads = run(jnp.where(mask[..., None], x, 0), router, experts)
    np.testing.assert_array_equal(y, right)
    assert (y[~mask] == 0).all() and (grads[0][~mask] == 0).all() and stats["dropped"] == 0
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(right_grads), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_mask_may_come_late(backend):
    x, routing, experts = random_case(0)
    mask = jnp.arange(x.shape[1]) < 30
    run = jax.jit(lambda mask: moe_ffn(x, routing, experts, CFG, mask_BS=mask, backend=backend))
    (y, stats), (right, _) = run(mask[None]), run(jnp.ones_like(mask[None]))
    np.testing.assert_array_equal(y, jnp.where(mask[None, :, None], right, 0))
    assert stats["dropped"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_infinite_token_stays_alone(backend):
    x, routing, experts = random_case(0)
    sick = x.at[0, 3].set(jnp.inf)
    run = jax.jit(lambda x: moe_ffn(x, routing, experts, CFG, backend=backend, slack=0.3)[0])
    y, right = run(sick), run(x)
    others = jnp.ones(x.shape[:2], bool).at[0, 3].set(False)
    assert not np.isfinite(y[0, 3]).any()
    np.testing.assert_allclose(y[others], right[others], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_adapters_equal_merged_matrices(backend):
    x, routing, experts = random_case(0)
    rng = np.random.default_rng(5)

    def adapt(w):
        a, b = (
            jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((8, w.shape[1], 3), (8, 3, w.shape[2]))
        )
        return Adapted(w, a, 0.3 * b, scale=0.7)

    adapted = Experts(*(adapt(w) for w in experts))
    low = [(w.a, w.b) for w in adapted]

    def put(low, merged):
        pairs = zip(adapted, low, strict=True)
        if merged:
            return Experts(*(w.w + w.scale * jnp.einsum("edr,erf->edf", a, b) for w, (a, b) in pairs))
        return Experts(*(w.replace(a=a, b=b) for w, (a, b) in pairs))

    def total(x, low, merged):
        y, _ = moe_ffn(x, routing, put(low, merged), CFG, backend=backend, slack=0.3)
        return jnp.sin(y).sum(), y

    run = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True), static_argnums=2)
    (_, y), grads = run(x, low, False)
    (_, right), right_grads = run(x, low, True)
    close((y, grads), (right, right_grads), 2e-5)


def test_gradients_not_asked_of_are_not_computed():
    """With frozen experts the backward pass has no weight-gradient products: 3 of 9 batched products less."""
    x, routing, experts = random_case(0)

    def total(x, experts):
        return moe_ffn(x, routing, experts, CFG, slack=0.3)[0].sum()

    def products(argnums):
        jaxpr = str(jax.make_jaxpr(jax.grad(total, argnums))(x, experts))
        return jaxpr.count("dot_general")

    # Twice: of the first window, and of the loop over the others, which recomputes its own forward pass.
    # (The third count is the forward loop.)
    assert products((0, 1)) - products(0) == 2 * 3


def test_remat_policies_may_save_the_middle_of_the_network():
    x, routing, experts = random_case(0)

    def total(x, policy):
        body = jax.checkpoint(lambda x: moe_ffn(x, routing, experts, CFG)[0], policy=policy)
        return jnp.sin(body(x)).sum()

    saved = jax.checkpoint_policies.save_only_these_names("mlp_hidden")
    products = [
        str(jax.make_jaxpr(jax.grad(total), static_argnums=1)(x, policy)).count("dot_general")
        for policy in (None, saved)
    ]
    assert products[0] - products[1] == 2  # gate and up are not computed again
    run = jax.jit(jax.grad(total), static_argnums=1)
    close(run(x, saved), run(x, None))


def test_bf16_networks_sum_in_float32():
    x, routing, experts = random_case(0)
    low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), experts)
    y, _ = moe_ffn(x.astype(jnp.bfloat16), routing, low, CFG)
    right, _ = moe_ffn(x, routing, experts, CFG)
    assert y.dtype == jnp.bfloat16
    close(y.astype(jnp.float32), right, 0.03)


def test_results_do_not_depend_on_the_order_of_tokens():
    x, routing, experts = random_case(0)
    order = np.random.default_rng(0).permutation(x.shape[1])
    moved = routing._replace(weights_BSK=routing.weights_BSK[:, order], ids_BSK=routing.ids_BSK[:, order])
    run = jax.jit(lambda x, routing: moe_ffn(x, routing, experts, CFG, slack=0.2)[0])
    np.testing.assert_allclose(run(x, routing)[:, order], run(x[:, order], moved), atol=1e-5)


def test_plan_by_hand():
    # Tokens 0..3 name bins; 3 is no bin.
    plan = jax.jit(make_plan, static_argnums=1)(jnp.array([[2, 0], [0, 3], [2, 1], [0, 2]]), 3)
    np.testing.assert_array_equal(plan.count_E, [3, 1, 3])
    np.testing.assert_array_equal(plan.order_A[:7], [1, 2, 6, 5, 0, 4, 7])
    np.testing.assert_array_equal(plan.rank_TK, [[0, 0], [1, 0], [1, 0], [2, 2]])
    slots = window(plan, 0, 2)
    np.testing.assert_array_equal(slots.used_R, [1, 1, 1, 0, 1, 1])
    x = jnp.arange(1.0, 5.0)[:, None]
    np.testing.assert_array_equal(dispatch(x, slots)[:, 0], [1, 2, 3, 0, 1, 3])
    later = window(plan, 1, 2)
    np.testing.assert_array_equal(dispatch(x, later)[:, 0], [4, 0, 0, 0, 4, 0])
    ones = jnp.ones((4, 2))
    both = sum(combine(dispatch(x, s), ones, s) for s in (slots, later))
    np.testing.assert_array_equal(both[:, 0], [2, 2, 6, 8])  # token 1 names one bin only
    packed, sizes = packed_window(plan, 1, 3)
    np.testing.assert_array_equal(sizes, [0, 1, 2])
    np.testing.assert_array_equal(dispatch(x, packed)[:, 0], [3, 1, 3])


def test_moving_rows_has_the_right_gradients():
    rng = np.random.default_rng(0)
    plan = make_plan(jnp.asarray(rng.integers(0, 6, (10, 3))), 5)
    x, w = jnp.asarray(rng.standard_normal((10, 4))), jnp.asarray(rng.standard_normal((10, 3)))
    for slots in (window(plan, 0, 3), packed_window(plan, 1, 7)[0]):

        @jax.jit
        def through(x, w, slots=slots):
            return combine(jnp.sin(dispatch(x, slots)), w, slots)

        check_grads(through, (x, w), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_unknown_names_are_told():
    x, routing, experts = random_case(0)
    with pytest.raises(InputError, match="'bached'") as told:
        moe_ffn(x, routing, experts, CFG, backend="bached")
    assert told.value.hint == "batched"
    with pytest.raises(InputError, match="'all2all'"):
        moe_ffn(x, routing, experts, CFG, exchange="all2all")
    with pytest.raises(InputError, match="slack"):
        moe_ffn(x, routing, experts, CFG, slack=0.0)
