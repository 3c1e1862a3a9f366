"""The objective: rows, layouts, accumulation and mesh change nothing; sums by hand; mixtures of experts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cases import long_but
from tests.training import pairs_of_ids as world
from xlam_jax.errors import InputError
from xlam_jax.models.attention import attend
from xlam_jax.models.decoder import forward, head_matrix
from xlam_jax.models.logprobs import token_logprobs
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.shards.batch import PairBatch
from xlam_jax.training import partition
from xlam_jax.training.config import MoeOptions
from xlam_jax.training.preference.config import ObjectiveConfig
from xlam_jax.training.preference.objective import dpo_objective, reference_logprobs
from xlam_jax.training.step import TrainState, accumulate, averages, micro_sharding

SIGMOID = ObjectiveConfig(kind="dpo", beta=0.5)
FOUND = world.pairs(6)


def with_reference(batch, model, seed=1):
    """The batch with log-probabilities of other parameters."""
    return batch._replace(reference=np.asarray(_reference(model)(world.initial(model.cfg, seed), batch)))


@functools.cache
def _reference(model):
    return jax.jit(reference_logprobs(model))


@functools.cache
def _sums_and_grads(model, config):
    objective = dpo_objective(model, config)

    def run(params, batch):
        _, frozen = partition.split(params, model.cfg, (), 0)
        grads, sums, _ = accumulate(objective, TrainState(0, params, None, frozen), batch)
        return grads, sums

    return jax.jit(run)


def value(batch, model, config=SIGMOID, accumulation=1, mesh=None):
    """(averages, gradients of the mean loss)."""
    mesh = make_mesh(mesh or MeshConfig())
    with jax.set_mesh(mesh):
        params = jax.tree.map(jax.device_put, world.initial(model.cfg), shardings(model.cfg, mesh))
        micro = PairBatch(*(f.reshape(accumulation, -1, f.shape[-1]) for f in batch))
        micro = PairBatch(*(jax.device_put(f, micro_sharding(mesh)) for f in micro))
        grads, sums = jax.device_get(_sums_and_grads(model, config)(params, micro))
    weight = float(sums["weight_sum"])
    return {k: float(v) for k, v in averages(sums).items()}, jax.tree.map(lambda g: g / weight, grads)


def assert_same(a, b, atol=1e-5):
    assert a[0] == pytest.approx(b[0], abs=atol, rel=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=1e-4), a[1], b[1])


@functools.cache
def alone():
    """One document a row, nothing shared: what every other way of packing must give."""
    model = world.model()
    return value(with_reference(world.batch(FOUND, [1] * 6), model), model)


@pytest.mark.parametrize(("layout", "rows"), [("separate", [2, 0, 1, 3]), ("shared", [3, 3])])
def test_packed_equals_unpacked(layout, rows):
    model = world.model(layout)
    batch = with_reference(world.batch(FOUND, rows, layout, length=96), model)
    assert_same(value(batch, model), alone())


def test_losses_with_lengths_are_the_same_packed():
    """IPO divided per-token values by the row's length somewhere."""
    names = ("ipo", "ipo_sum", "normalised", "simpo")

    def losses(layout, rows):
        model = world.model(layout)
        batch = with_reference(world.batch(FOUND, rows, layout, 96), model)
        base = world.initial()

        def run(scale):
            # One factor on the head stands for the parameters: its slope needs no backward pass of its own.
            params = base.replace(head=base.head * scale)
            reference = {"simpo": "none"}
            configs = [
                ObjectiveConfig(kind="dpo", loss=n, beta=0.5, reference=reference.get(n, "precomputed"))
                for n in names
            ]
            return jnp.stack([dpo_objective(model, config)(params, batch)[0] for config in configs])

        return jax.jit(lambda x: jax.jvp(run, (x,), (jnp.ones_like(x),)))(jnp.float32(1))

    for alone, packed in zip(losses("separate", [1] * 6), losses("shared", [4, 2]), strict=True):
        np.testing.assert_allclose(packed, alone, rtol=3e-5, atol=3e-5)
        assert len(set(np.round(alone, 3).tolist())) == len(names)


@pytest.mark.parametrize(("layout", "accumulation"), [("separate", 2), ("shared", 8)])
def test_accumulation_and_empty_rows_change_nothing(layout, accumulation):
    model = world.model(layout)
    batch = with_reference(world.batch(FOUND, [2, 0, 1, 1, 0, 1, 1, 0], layout), model)
    assert_same(value(batch, model, accumulation=accumulation), alone())


def test_mesh_of_eight_equals_one_device():
    model = world.model("shared")
    batch = with_reference(world.batch(FOUND, [2, 0, 1, 1, 0, 1, 1, 0], "shared"), model)
    assert_same(value(batch, model, mesh=MeshConfig(data=2, fsdp=2, tensor=2)), alone())


@jax.jit
def _hidden_of_one(params, ids):
    length = ids.shape[0]
    return forward(params, ids[None], jnp.arange(length)[None], jnp.ones((1, length), jnp.int32), world.CFG)[
        0
    ][0]


def sums_by_hand(seed, found):
    """Log-probabilities of each pair's answers: the documents alone, the whole softmax, numpy in double
    precision. What stands behind a document (zeros, so that one program serves all) cannot change it."""
    params, out = world.initial(seed=seed), []
    for prompt, *answers in found:
        for answer in answers:
            ids = np.array([*prompt, *answer], np.int32)
            n = len(ids) - 1
            hidden = _hidden_of_one(params, np.pad(ids[:-1], (0, 32 - n)))[:n]
            logits = np.asarray(hidden, np.float64) @ np.asarray(head_matrix(params), np.float64)
            logits -= logits.max(-1, keepdims=True)
            logps = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(n), ids[1:]]
            out.append(logps[len(prompt) - 1 :])
    return out[::2], out[1::2]


def test_loss_and_metrics_by_hand():
    found = FOUND[:3]
    policy, reference = sums_by_hand(0, found), sums_by_hand(1, found)
    s_w, s_l = (np.array([x.sum() for x in side]) for side in policy)
    r_w, r_l = (np.array([x.sum() for x in side]) for side in reference)
    c, j = s_w - r_w, s_l - r_l
    common = [next(i for i, (a, b) in enumerate(zip(p.chosen, p.rejected)) if a != b) for p in found]  # noqa: B905
    nll = -s_w / [len(p.chosen) for p in found]
    wanted = {
        "loss": np.log1p(np.exp(-0.5 * (c - j))) + 0.3 * nll,
        "accuracy": c > j, "margin": 0.5 * (c - j), "reward_chosen": 0.5 * c, "reward_rejected": 0.5 * j,
        "chosen_change": c, "rejected_change": j, "logp_chosen": s_w, "logp_rejected": s_l,
        "nll": nll, "divergence": common,
    }  # fmt: skip
    config = ObjectiveConfig(kind="dpo", beta=0.5, nll_weight=0.3)
    for layout in ("separate", "shared"):
        model = world.model(layout)
        got, _ = value(with_reference(world.batch(found, [2, 1], layout), model), model, config)
        assert got == pytest.approx({k: float(np.mean(v)) for k, v in wanted.items()}, rel=2e-5, abs=2e-5)


def test_nll_sum_by_hand():
    s_w = [x.sum() for x in sums_by_hand(0, FOUND[:3])[0]]
    model = world.model()
    batch = with_reference(world.batch(FOUND[:3], [2, 1]), model)
    plain, _ = value(batch, model)
    more, _ = value(batch, model, ObjectiveConfig(kind="dpo", beta=0.5, nll_weight=0.2, nll="sum"))
    assert more["loss"] - plain["loss"] == pytest.approx(-0.2 * np.mean(s_w), rel=1e-4)


def test_length_desensitised_by_hand():
    layout, alpha, found = "shared", 0.3, FOUND[:4]

    def shortened(sides):
        out = []
        for a, b in zip(*sides, strict=True):
            n = min(len(a), len(b))
            out.append([x[:n].sum() + alpha * x[n:].sum() for x in (a, b)])
        return np.array(out).T

    c, j = shortened(sums_by_hand(0, found)) - shortened(sums_by_hand(1, found))
    model = world.model(layout)
    batch = with_reference(world.batch(found, [3, 1], layout, 96), model)
    got, _ = value(batch, model, ObjectiveConfig(kind="dpo", beta=0.5, ld_alpha=alpha))
    assert got["loss"] == pytest.approx(np.mean(np.log1p(np.exp(-0.5 * (c - j)))), rel=2e-5)


def test_lengths_count_the_end_token():
    """Averages by hand on answers of unequal lengths, the last token of both included."""
    found = [world.Ids([3, 4, 5], [6, 61, 2], [6, 62, 7, 8, 9, 2])]
    policy, reference = sums_by_hand(0, found), sums_by_hand(1, found)
    mean = (policy[0][0] - reference[0][0]).sum() / 3 - (policy[1][0] - reference[1][0]).sum() / 6
    model = world.model()
    config = ObjectiveConfig(kind="dpo", loss="normalised", beta=2.0)
    got, _ = value(with_reference(world.batch(found, [1]), model), model, config)
    assert got["loss"] == pytest.approx(np.log1p(np.exp(-2 * mean)), rel=1e-5)
    assert got["margin"] == pytest.approx(2 * mean, rel=1e-4)


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_policy_equal_to_reference_gives_ln_2(layout):
    model = world.model(layout)
    batch = with_reference(world.batch(FOUND, [3, 3], layout, 96), model, seed=0)
    got, _ = value(batch, model)
    assert got["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert got["margin"] == pytest.approx(0, abs=1e-5)


def test_a_tie_is_not_right():
    """A head of zeros gives every token the same probability, so equally long answers have equal rewards."""
    params, model = world.initial(), world.model()
    batch = world.batch([world.Ids([3, 4], [5, 6], [7, 8])], [1])
    objective = dpo_objective(model, ObjectiveConfig(kind="dpo", reference="none"))
    loss_sum, weight, metrics = objective(params.replace(head=0 * params.head), batch)
    assert float(loss_sum) == pytest.approx(np.log(2), abs=1e-7) and float(weight) == 1
    assert float(metrics["accuracy_sum"]) == 0 and float(metrics["margin_sum"]) == 0


def test_the_reference_gives_equal_numbers_twice():
    model = world.model()
    batch = world.batch(FOUND, [3, 3], length=96)
    once, again = (_reference(model)(world.initial(), batch) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.asarray(once)[batch.loss_weights == 0].any()


def test_small_beta_goes_to_ln_2():
    model = world.model()
    got, _ = value(with_reference(world.batch(FOUND, [3, 3], length=96), model), model,
                   ObjectiveConfig(kind="dpo", beta=1e-6))  # fmt: skip
    assert got["loss"] == pytest.approx(np.log(2), abs=1e-4)


# -- what the model computes ----


def test_log_probabilities_and_their_gradient_equal_those_of_the_whole_softmax():
    rng = np.random.default_rng(0)
    hidden, head = rng.normal(size=(2, 11, 8)).astype(np.float32), rng.normal(size=(8, 19)).astype(np.float32)
    targets, ct = rng.integers(0, 19, (2, 11)), rng.normal(size=(2, 11)).astype(np.float32)

    def whole(hidden, head):
        logps = jax.nn.log_softmax(hidden @ head, axis=-1)
        return (jnp.take_along_axis(logps, targets[..., None], -1)[..., 0] * ct).sum()

    for chunk in (4, 11, 64):
        ours = lambda h, w, chunk=chunk: (token_logprobs(h, w, targets, chunk) * ct).sum()  # noqa: E731
        assert ours(hidden, head) == pytest.approx(float(whole(hidden, head)), rel=1e-5)
        for a, b in zip(
            jax.grad(ours, (0, 1))(hidden, head), jax.grad(whole, (0, 1))(hidden, head), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_array_of_all_logits():
    """The program of a gradient holds no [B, N, V] or [B * N, V] array: at most a chunk's."""
    B, N, D, V, chunk = 2, 64, 8, 1000, 16
    f = jax.grad(lambda h, w: token_logprobs(h, w, jnp.zeros((B, N), jnp.int32), chunk).sum(), (0, 1))
    text = str(jax.make_jaxpr(f)(jnp.zeros((B, N, D)), jnp.zeros((D, V))))
    assert f"[{B * chunk},{V}]" in text
    assert (
        f"[{B * N},{V}]" not in text
        and f"[{B},{N},{V}]" not in text
        and f"{N // chunk},{B * chunk},{V}" not in text
    )


def test_forked_attention_is_dense_attention_under_the_rule():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 300, 2, 4)).astype(np.float32) for _ in range(3))
    segments = np.repeat([1, 2, 0], [200, 80, 20])[None]
    branches = np.concatenate(
        [np.repeat([0, 1, 2], [90, 60, 50]), np.repeat([0, 1, 2], [10, 40, 30]), [0] * 20]
    )[None]

    def dense(q, k, v):
        s, b, t = segments[0], branches[0], np.arange(300)
        seen = (s[:, None] == s) & (t[:, None] >= t) & ((b == 0) | (b == b[:, None]))
        scores = jnp.where(seen, jnp.einsum("bqnh,bknh->bnqk", q, k) * 0.5, -1e30)
        return jnp.einsum("bnqk,bknh->bqnh", jax.nn.softmax(scores, -1), v)

    ours = functools.partial(attend, segment_ids_BS=segments, branches_BS=branches)
    np.testing.assert_allclose(ours(q, k, v), dense(q, k, v), atol=1e-5)
    grads = [jax.grad(lambda *x, f=f: (f(*x) ** 2).sum(), (0, 1, 2))(q, k, v) for f in (ours, dense)]
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_what_cannot_fork_is_refused():
    x, ids = np.zeros((1, 16, 2, 4), np.float32), np.zeros((1, 16), np.int32)
    with pytest.raises(InputError, match="share the beginning of a prompt"):
        attend(x, x, x, ids, branches_BS=ids, backend="cudnn")
    with pytest.raises(InputError, match="window"):
        attend(x, x, x, ids, branches_BS=ids, window=8)
    assert attend(x, x, x, ids, branches_BS=ids, window=16).shape == x.shape


# -- mixtures of experts ----


def mixture(layout="separate", aux_loss=0.0):
    cfg = named_config("tiny-mixtral").replace(vocab_size=64)
    return world.model(layout, cfg, moe=MoeOptions(aux_loss=aux_loss))


@pytest.mark.parametrize("layout", long_but(["shared"], ["separate", "shared"]))
def test_a_mixture_starts_at_ln_2_however_it_is_packed(layout):
    """Nothing is dropped, so policy and reference route alike, and pairs share no capacity."""
    model = mixture(layout)
    batch = with_reference(world.batch(FOUND, [3, 3], layout, 96), model, seed=0)
    assert value(batch, model)[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)


def test_packed_equals_unpacked_for_a_mixture():
    plain, shared = mixture(), mixture("shared")
    names = (
        "loss",
        "accuracy",
        "margin",
        "chosen_change",
        "nll",
    )  # the load of the router counts tokens once
    one = value(with_reference(world.batch(FOUND, [1] * 6), plain), plain)
    two = value(with_reference(world.batch(FOUND, [4, 2], "shared", 96), shared), shared)
    one, two = (({k: x[0][k] for k in names}, x[1]) for x in (one, two))
    assert_same(two, one)


@pytest.mark.slow
def test_the_router_loss_comes_once_from_the_policy_and_not_from_padding():
    model, plain = mixture(aux_loss=0.02), mixture()

    def both(length, seed=1):
        batch = with_reference(world.batch(FOUND, [1] * 6, length=length), plain, seed)
        return value(batch, model)[0]["loss"], value(batch, plain)[0]["loss"]

    (loss, without), padded = both(64), both(128)
    assert (loss, without) == pytest.approx(padded, abs=1e-5)
    # By hand, of the policy's sums alone.
    batch = world.batch(FOUND, [1] * 6, length=64)
    sides = (batch.branches > 0) & (batch.branches % 2 == 0)
    segments = np.where(batch.segment_ids > 0, 2 * batch.segment_ids - 1 + sides, 0)
    _, sums = forward(world.initial(model.cfg), batch.tokens, batch.positions, segments, model.cfg)
    count, prob = (np.asarray(sums[k], np.float64).sum(0) for k in ("router_count", "router_prob"))
    tokens = np.asarray(sums["router_tokens"], np.float64).sum()
    balance = model.cfg.moe.num_experts * (count / tokens * prob / tokens).sum()
    assert loss - without == pytest.approx(0.02 * balance, rel=1e-3)
    # A reference whose router differs changes the loss by its log-probabilities only.
    other = both(64, seed=5)
    assert other[1] != pytest.approx(without, abs=1e-3)
    assert other[0] - other[1] == pytest.approx(loss - without, abs=1e-5)
