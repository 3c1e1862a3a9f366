"""Optimizers against torch and transformers, schedules against transformers, rounding against statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Layer, Params
from xlam_jax.models.spec import decay_mask, shapes
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.training import norms
from xlam_jax.training.optimizer import OptimConfig, apply, learning_rate, make_optimizer
from xlam_jax.training.rounding import round_tree, salted, stochastic_round
from xlam_jax.training.step import state_spec

CFG = ModelConfig("llama", 24, 16, 32, 3, 2, 1, 8, tie_embeddings=False)


def random_tree(seed: int, scale: float = 1.0) -> Params:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: (scale * rng.normal(size=s.shape)).astype(np.float32), shapes(CFG))


def run(optim: OptimConfig, steps: int, lr=lambda t: 1e-2 / (t + 1), dtype=np.float32, seed=0) -> Params:
    """Parameters after `steps` steps with the gradients `random_tree(100 + t)`."""
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), random_tree(seed, 0.5))
    tx = make_optimizer(optim, decay_mask(CFG))
    state = tx.init(params)

    @jax.jit
    def step(params, state, grads, lr, t):
        direction, state = tx.update(grads, state, params)
        return apply(params, direction, lr, t, optim.rounding), state

    for t in range(steps):
        grads = jax.tree.map(lambda p: jnp.asarray(p, dtype), random_tree(100 + t))
        params, state = step(params, state, grads, jnp.float32(lr(t)), jnp.int32(t))
    return jax.device_get(params)


def one_by_one(tree: Params) -> dict[str, np.ndarray]:
    """Every matrix and vector as the tensor it is in a checkpoint: no stacks."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        parts = enumerate(leaf) if name.startswith("layers.") else [("", leaf)]
        found.update({f"{name}{i}": np.asarray(part) for i, part in parts})
    return found


def torch_run(make, steps: int, lr=lambda t: 1e-2 / (t + 1)) -> dict[str, np.ndarray]:
    torch = pytest.importorskip("torch")
    params = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in one_by_one(random_tree(0, 0.5)).items()}
    decayed = one_by_one(jax.tree.map(lambda m, s: np.full(s.shape, m), decay_mask(CFG), shapes(CFG)))
    groups = [
        {"params": [p for k, p in params.items() if decayed[k].all() == flag], "weight_decay": wd}
        for flag, wd in ((True, 0.1), (False, 0.0))
    ]
    optimizer = make(groups)
    for t in range(steps):
        for k, g in one_by_one(random_tree(100 + t)).items():
            params[k].grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_(params.values(), 5.0)
        for group in optimizer.param_groups:
            group["lr"] = lr(t)
        optimizer.step()
    return {k: p.detach().numpy() for k, p in params.items()}


def assert_equal(ours: Params, wanted: dict[str, np.ndarray], atol: float) -> None:
    found = one_by_one(ours)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name], atol=atol, err_msg=name)


def test_adamw_is_torch_s():
    torch = pytest.importorskip("torch")
    optim = OptimConfig(name="adamw", weight_decay=0.1, clip=5.0, beta2=0.95)
    wanted = torch_run(lambda g: torch.optim.AdamW(g, betas=(0.9, 0.95), eps=1e-8), 20)
    assert_equal(run(optim, 20), wanted, 2e-6)


def test_adafactor_is_transformers():
    """Every matrix of a stack has its own factors and its own clipping."""
    from transformers.optimization import Adafactor

    optim = OptimConfig(name="adafactor", weight_decay=0.1, clip=5.0)
    wanted = torch_run(
        lambda g: Adafactor(g, lr=1e-2, relative_step=False, scale_parameter=False, warmup_init=False), 20
    )
    assert_equal(run(optim, 20), wanted, 2e-6)


def test_sgd_by_hand():
    lr = lambda t: 0.1  # noqa: E731
    found = run(OptimConfig(name="sgd", clip=None), 2, lr)
    wanted = jax.tree.map(
        lambda p, a, b: p - 0.1 * (a + b), *map(random_tree, (0,), (0.5,)), *map(random_tree, (100, 101))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)


def test_muon_orthogonalises_each_matrix():
    """After one step from zero momentum the direction is the gradient's polar factor U V^T, times the scale
    0.2 sqrt(max(in, out)); the iteration is known to leave singular values in about 0.7 to 1.2."""
    lr = lambda t: 1.0  # noqa: E731
    moved = run(OptimConfig(name="muon", clip=None), 1, lr)
    before, grads = random_tree(0, 0.5), random_tree(100)
    for of in (lambda p: p.layers.attn.q, lambda p: p.layers.mlp.gate, lambda p: p.layers.mlp.down):
        for layer in range(CFG.num_layers):
            step = of(before)[layer] - of(moved)[layer]
            scale = 0.2 * np.sqrt(max(step.shape))
            u, values, vt = np.linalg.svd(step / scale, full_matrices=False)
            assert values.min() > 0.6 and values.max() < 1.25
            gu, _, gvt = np.linalg.svd(of(grads)[layer], full_matrices=False)
            np.testing.assert_allclose(u @ vt, gu @ gvt, atol=0.02)


def test_muon_leaves_tables_norms_and_head_to_adamw():
    muon = run(OptimConfig(name="muon", clip=5.0, weight_decay=0.1), 5)
    adamw = run(OptimConfig(name="adamw", clip=5.0, weight_decay=0.1), 5)
    same = {k for k, v in one_by_one(muon).items() if np.allclose(v, one_by_one(adamw)[k], atol=1e-7)}
    vectors = {f"layers.{n}{i}" for n in ("attn_norm", "mlp_norm") for i in range(3)}
    assert same == {"embed", "head", "final_norm", *vectors}


def test_muon_is_optax_s_on_a_single_matrix():
    import optax
    from optax import contrib

    params = random_tree(0, 0.5).layers.mlp.up[1]
    tx = contrib.muon(1.0, beta=0.95, consistent_rms=0.2)
    state = tx.init(params)
    for t in range(5):
        updates, state = tx.update(random_tree(100 + t).layers.mlp.up[1], state, params)
        params = optax.apply_updates(params, 1e-2 / (t + 1) * updates)
    np.testing.assert_allclose(
        run(OptimConfig(name="muon", clip=None), 5).layers.mlp.up[1], params, atol=1e-6
    )


# -- state ----


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon", "sgd"])
@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_state_lies_where_its_parameter_lies(name, moments):
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    tx = make_optimizer(OptimConfig(name=name, moment_dtype=moments), decay_mask(CFG))
    state, state_shardings = state_spec(CFG, tx, mesh, jnp.bfloat16)
    by_name = {
        jax.tree_util.keystr(p, simple=True, separator="."): (x, s)
        for (p, x), s in zip(
            jax.tree_util.tree_leaves_with_path(state.opt_state),
            jax.tree.leaves(state_shardings.opt_state),
            strict=True,
        )
    }
    jax.tree.map(
        lambda x, s: s.shard_shape(x.shape), state.opt_state, state_shardings.opt_state
    )  # all divide
    queries = {k: v for k, v in by_name.items() if k.endswith(".layers.attn.q")}
    dtypes = {str(x.dtype) for x, _ in queries.values()}
    match name:
        case "sgd":
            assert not queries
        case "adafactor":
            specs = {k.split(".layers.")[0].split(".")[-1]: s.spec for k, (_, s) in queries.items()}
            q = state_shardings.params.layers.attn.q.spec
            assert specs["rows"] == jax.P(q[0], q[1], None) and specs["cols"] == jax.P(q[0], None, q[2])
        case _:
            assert len(queries) == (1 if name == "muon" else 2)
            assert all(s == state_shardings.params.layers.attn.q for _, s in queries.values())
    assert dtypes <= {moments}
    vectors = [x for k, (x, _) in by_name.items() if k.endswith(".final_norm") and x.ndim == 1]
    assert all(x.dtype == jnp.float32 for x in vectors)


def test_moments_in_bfloat16_follow_those_in_float32():
    """100 steps: the second moment falls again after a large gradient, which to nearest it would not."""
    wide, narrow = (
        make_optimizer(OptimConfig(beta2=0.999, clip=None, moment_dtype=d), decay_mask(CFG))
        for d in ("float32", "bfloat16")
    )
    params = random_tree(0)
    states = [wide.init(params), narrow.init(params)]
    updates = [jax.jit(tx.update) for tx in (wide, narrow)]
    for t in range(400):
        grads = jax.tree.map(lambda p, t=t: np.full_like(p, 10.0 if t == 0 else 0.1), params)
        states = [update(grads, s, params)[1] for update, s in zip(updates, states, strict=True)]
    exact = states[0][1].nu.embed
    found = states[1][1].inner.nu.embed
    assert found.dtype == jnp.bfloat16
    assert np.mean(np.asarray(found, np.float64)) == pytest.approx(float(exact.mean()), rel=0.01)
    assert float(exact.mean()) < 0.75 * 100 * 0.001  # it fell by a third


# -- rounding ----


def test_stochastic_rounding_is_unbiased():
    """Over 4096 salts the mean of a value that lies k/16 between two bfloat16 neighbours is that value: the
    standard error of the share is at most 1/128, and five of them are allowed."""
    ulp = 2.0**-7
    x = jnp.asarray([s * (1 + k / 16 * ulp) for k in range(17) for s in (1, -1)], jnp.float32)
    salts = jnp.arange(4096, dtype=jnp.uint32)
    found = np.asarray(jax.jit(jax.vmap(stochastic_round, (None, 0)))(x, salts), np.float64)
    low, high = np.floor(np.abs(x) / ulp) * ulp, np.ceil(np.abs(x) / ulp) * ulp
    assert ((np.abs(found) == low) | (np.abs(found) == high)).all()
    assert (np.sign(found) == np.sign(x)).all()
    np.testing.assert_allclose(found.mean(0), x, atol=5 * ulp / 128)


def test_noise_differs_by_place_leaf_and_salt():
    """Shares of neighbours that round alike are those of independent coins: 1/2, within five deviations."""
    x = jnp.full((3, 64, 64), 1 + 0.5 * 2**-7, jnp.float32)
    like = {"a": x.astype(jnp.bfloat16), "b": x.astype(jnp.bfloat16)}
    first = round_tree({"a": x, "b": x}, like, jnp.int32(0))
    second = round_tree({"a": x, "b": x}, like, jnp.int32(1))
    a, b, c = (np.asarray(t > 1) for t in (first["a"], first["b"], second["a"]))
    pairs = [(a, b), (a, c), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a[..., 1:], a[..., :-1])]
    for left, right in pairs:
        assert abs((left == right).mean() - 0.5) < 2.5 / np.sqrt(left.size)


def test_rounding_follows_the_seed():
    x, like = jnp.full((64, 64), 1.0 + 2**-9), {"a": jnp.zeros((64, 64), jnp.bfloat16)}
    by_seed = [round_tree({"a": x}, like, salted(jnp.int32(5), seed))["a"] for seed in (0, 1, 1, 2**40 + 7)]
    assert (
        (by_seed[1] == by_seed[2]).all()
        and (by_seed[0] != by_seed[1]).any()
        and (by_seed[1] != by_seed[3]).any()
    )
    assert (by_seed[0] == round_tree({"a": x}, like, jnp.int32(5))["a"]).all()  # seed 0 is the step alone


def test_rounding_keeps_what_is_not_finite_and_what_fits():
    x = jnp.asarray([jnp.inf, -jnp.inf, jnp.nan, 0.0, 1.5, -3.0, 1e-40], jnp.float32)
    for salt in range(20):
        found = np.asarray(stochastic_round(x, jnp.uint32(salt)), np.float32)
        np.testing.assert_array_equal(found[:6], np.asarray(x)[:6])
        assert 0 <= found[6] < 2e-40


def test_rounding_does_not_depend_on_the_mesh():
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    x = np.random.default_rng(0).normal(size=(3, 16, 32)).astype(np.float32)
    place = jax.NamedSharding(mesh, jax.P(None, "fsdp", "tensor"))
    fn = jax.jit(lambda x: stochastic_round(x, jnp.uint32(7)))
    np.testing.assert_array_equal(fn(x), fn(jax.device_put(x, place)))


def test_small_updates_arrive_in_bfloat16():
    """Weights of 1 and 500 steps of 1e-4: to nearest nothing moves, stochastically the mean does."""
    params = {"w": jnp.ones((64, 64), jnp.bfloat16)}
    direction = {"w": jnp.ones((64, 64), jnp.float32)}
    for rounding, wanted in (("nearest", 1.0), ("stochastic", 0.95)):
        moved = params
        step = jax.jit(lambda p, t, r=rounding: apply(p, direction, jnp.float32(1e-4), t, r))
        for t in range(500):
            moved = step(moved, jnp.int32(t))
        mean = float(np.asarray(moved["w"], np.float64).mean())
        assert mean == pytest.approx(wanted, abs=1e-3)


# -- schedules ----


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedules_are_transformers_one_step_ahead(kind, warmup):
    """Ours spends no step at rate 0 and ends at the end of the decay: its step s is their step s + 1."""
    torch = pytest.importorskip("torch")
    from transformers import optimization

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    match kind:
        case "cosine":
            theirs = optimization.get_cosine_schedule_with_warmup(optimizer, warmup, 50)
        case "linear":
            theirs = optimization.get_linear_schedule_with_warmup(optimizer, warmup, 50)
        case "constant":
            theirs = optimization.get_constant_schedule_with_warmup(optimizer, warmup)
    rate = learning_rate(OptimConfig(lr=3e-4, schedule=kind, warmup_steps=warmup, final=0), 50)
    for step in range(50):
        optimizer.step()
        theirs.step()
        assert rate(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12), step


def test_warmup_steps_go_before_the_fraction():
    rate = learning_rate(OptimConfig(lr=1.0, warmup=0.5, warmup_steps=4), 100)
    assert [rate(s) for s in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0], abs=1e-3)


# -- norms ----


def test_norms_by_leaf_and_layer():
    tree = random_tree(3)
    found = norms.as_norms(jax.device_get(norms.squares(tree)))
    assert found["embed"] == pytest.approx(np.linalg.norm(tree.embed), rel=1e-6)
    wanted = [np.linalg.norm(tree.layers.mlp.gate[i]) for i in range(3)]
    assert found["layers.mlp.gate"] == pytest.approx(wanted, rel=1e-6)
    assert isinstance(tree.layers, Layer) and len(found["layers.attn_norm"]) == 3
    whole = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in jax.tree.leaves(tree)))
    assert float(norms.total(norms.squares(tree))) == pytest.approx(whole, rel=1e-6)


def test_norms_never_unstack():
    """No slice, split or gather of a stack in the compiled program's source."""
    text = str(jax.make_jaxpr(norms.squares)(random_tree(0)))
    assert "reduce_sum" in text
    for word in ("slice", "gather", "split", "unstack"):
        assert word not in text
