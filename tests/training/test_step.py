"""One step: packing, accumulation, mesh and freezing change nothing that they should not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.cases import long_but
from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.decoder import forward, head_matrix
from xlam_jax.models.named import named_config
from xlam_jax.models.params import Params
from xlam_jax.models.spec import decay_mask, shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.shards.batch import Batch
from xlam_jax.shards.pack import Document, fill
from xlam_jax.training import partition
from xlam_jax.training.config import MoeOptions
from xlam_jax.training.objectives import pick_targets, sft_objective
from xlam_jax.training.optimizer import OptimConfig, learning_rate, make_optimizer
from xlam_jax.training.step import TrainState, accumulate, init_state, make_step, micro_sharding

CFG = ModelConfig("llama", 64, 32, 48, 3, 4, 2, 8, tie_embeddings=False)
TIED = ModelConfig("llama", 64, 32, 48, 3, 4, 2, 8, tie_embeddings=True)


def documents(count: int, seed: int = 0) -> list[Document]:
    rng = np.random.default_rng(seed)

    def one() -> Document:
        n = int(rng.integers(3, 11))
        ids = rng.integers(0, 64, n + 1).astype(np.int32)
        weights = (np.arange(n) >= n // 2).astype(np.float32)
        return Document(ids[:-1], ids[1:], weights)

    return [one() for _ in range(count)]


def batch_of(rows: list[list[Document]], length: int, accumulation: int = 1) -> Batch:
    """`[A, B, S]` with the rows in order."""
    filled = [fill(row, length) for row in rows]
    fields = (np.stack(field) for field in zip(*filled, strict=True))
    return Batch(*(f.reshape(accumulation, -1, length) for f in fields))


@functools.cache
def initial(cfg: ModelConfig) -> Params:
    """Host copies: compiling the initialiser for every test would take most of the time."""
    return jax.device_get(tiny.params(cfg))


def loss_and_grads(batch: Batch, cfg=CFG, mesh=None, freeze=(), freeze_layers=0, max_targets=None):
    """Loss and gradients of whole parameters (zeros where frozen) as the train step computes them."""
    mesh = make_mesh(mesh or MeshConfig())
    with jax.set_mesh(mesh):
        params = jax.tree.map(jax.device_put, initial(cfg), shardings(cfg, mesh))
        trained, frozen = partition.split(params, cfg, freeze, freeze_layers)
        state = TrainState(0, trained, None, frozen)
        batch = Batch(*(jax.device_put(f, micro_sharding(mesh)) for f in batch))
        objective = sft_objective(cfg, max_targets=max_targets)
        grads, sums, _ = jax.jit(lambda s, b: accumulate(objective, s, b))(state, batch)
        grads, frozen = jax.device_get((grads, frozen))
    grads = partition.merge(grads, jax.tree.map(np.zeros_like, frozen))
    weight = float(sums["weight_sum"])
    return float(sums["loss_sum"]) / weight, jax.tree.map(lambda g: g / weight, grads)


def assert_equal(a, b, rtol=1e-5, atol=1e-6):
    assert a[0] == pytest.approx(b[0], rel=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a[1], b[1])


def test_packed_equals_unpacked():
    docs = documents(12)
    alone = loss_and_grads(batch_of([[d] for d in docs], 32))
    packed = loss_and_grads(batch_of([docs[0:3], docs[3:6], docs[6:9], docs[9:12]], 32))
    assert_equal(packed, alone)


def test_packed_equals_unpacked_with_a_sliding_window():
    cfg = ModelConfig("mistral", 64, 32, 48, 3, 4, 2, 8, sliding_window=4)
    docs = documents(6)
    alone = loss_and_grads(batch_of([[d] for d in docs], 32), cfg)
    assert_equal(loss_and_grads(batch_of([docs[0:3], docs[3:6]], 32), cfg), alone)


def test_the_loss_is_the_mean_over_trained_tokens():
    """By hand: softmax over the whole vocabulary of every trained position, one document at a time."""
    docs = documents(5)
    params = initial(CFG)
    total, count = 0.0, 0
    for doc in docs:
        n = len(doc.tokens)
        hidden, _ = forward(params, doc.tokens[None], np.arange(n)[None], np.ones((1, n), np.int32), CFG)
        log_probs = jax.nn.log_softmax(np.asarray(hidden[0]) @ np.asarray(head_matrix(params)))
        picked = np.asarray(log_probs)[np.arange(n), doc.targets]
        total, count = total - picked[doc.loss_weights > 0].sum(), count + int(doc.loss_weights.sum())
    loss, _ = loss_and_grads(batch_of([docs[:3], docs[3:]], 32))
    assert loss == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("accumulation", [2, 8])
def test_accumulation_changes_nothing(accumulation):
    """Rows with unequal numbers of trained tokens, where a mean of means would be another number."""
    docs = documents(12)
    rows = [docs[0:3], docs[3:4], docs[4:5], docs[5:8], docs[8:9], docs[9:10], docs[10:11], docs[11:12]]
    assert_equal(loss_and_grads(batch_of(rows, 32, accumulation)), loss_and_grads(batch_of(rows, 32)))


@pytest.mark.parametrize("cfg", [CFG, pytest.param(TIED, marks=pytest.mark.slow)], ids=["untied", "tied"])
@pytest.mark.parametrize("accumulation", long_but([2], [1, 2]))
def test_mesh_of_eight_equals_one_device(cfg, accumulation):
    rows = [[d] for d in documents(8)]
    batch = batch_of(rows, 16, accumulation)
    assert_equal(loss_and_grads(batch, cfg, MeshConfig(data=2, fsdp=2, tensor=2)), loss_and_grads(batch, cfg))


def test_whole_steps_are_equal_on_mesh_and_under_accumulation():
    rows = [[d] for d in documents(8)]

    def after_three(accumulation: int, mesh_config: MeshConfig):
        mesh = make_mesh(mesh_config)
        tx = make_optimizer(OptimConfig(weight_decay=0.1, clip=0.5), decay_mask(CFG))
        with jax.set_mesh(mesh):
            state, state_shardings = init_state(initial(CFG), CFG, tx, mesh)
            step = make_step(sft_objective(CFG), tx, state_shardings)
            fields = batch_of(rows, 16, accumulation)
            batch = Batch(*(jax.device_put(f, micro_sharding(mesh)) for f in fields))
            for _ in range(3):
                state, metrics = step(state, batch, np.float32(1e-3))
        assert int(state.step) == 3 and metrics["row_finite"].shape == (accumulation, 8 // accumulation)
        numbers = {k: float(metrics[k]) for k in ("loss", "accuracy", "grad_norm", "tokens", "targets")}
        return numbers, jax.device_get(state.params)

    one = after_three(1, MeshConfig())
    assert one[0]["tokens"] == sum(len(r[0].tokens) for r in rows)
    for other in (after_three(8, MeshConfig()), after_three(2, MeshConfig(data=2, fsdp=2, tensor=2))):
        assert other[0] == pytest.approx(one[0], rel=1e-4)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), one[1], other[1])


def test_adamw_by_hand():
    """Two steps against the formulas of the AdamW paper, in float64."""
    docs = documents(4)
    batch = batch_of([docs], 48)
    optim = OptimConfig(lr=1e-2, weight_decay=0.1, clip=0.01, beta1=0.9, beta2=0.95)
    mesh, tx = make_mesh(), make_optimizer(optim, decay_mask(CFG))
    params = initial(CFG)
    flat, tree = jax.tree.flatten(jax.tree.map(np.float64, params))
    decay = jax.tree.leaves(decay_mask(CFG))
    m, v = [0 * p for p in flat], [0 * p for p in flat]
    with jax.set_mesh(mesh):
        state, state_shardings = init_state(initial(CFG), CFG, tx, mesh)
        step = make_step(sft_objective(CFG), tx, state_shardings)
        for t, lr in ((1, 1e-2), (2, 5e-3)):
            now = jax.tree.unflatten(tree, [np.float32(p) for p in flat])
            objective = sft_objective(CFG)
            frozen = partition.split(now, CFG, (), 0)[1]
            grads, sums, _ = accumulate(objective, TrainState(0, now, None, frozen), batch)
            grads = [np.float64(g) / float(sums["weight_sum"]) for g in jax.tree.leaves(grads)]
            norm = np.sqrt(sum((g**2).sum() for g in grads))
            assert norm > 0.01
            for i, g in enumerate(grads):
                g = g * 0.01 / norm
                m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.95 * v[i] + 0.05 * g**2
                adam = (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.95**t)) + 1e-8)
                flat[i] = flat[i] - lr * (adam + (0.1 * flat[i] if decay[i] else 0))
            state, metrics = step(state, Batch(*map(jnp.asarray, batch)), np.float32(lr))
            assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)
    for ours, wanted in zip(jax.tree.leaves(state.params), flat, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=3e-5)


@pytest.mark.parametrize("max_targets", [None, 24, 17])
def test_only_trained_positions_need_logits(max_targets):
    docs = documents(6)
    batch = batch_of([docs[:3], docs[3:]], 32)
    most = int((batch.loss_weights > 0).sum(-1).max())
    assert max_targets is None or max_targets >= most
    assert_equal(loss_and_grads(batch, max_targets=max_targets), loss_and_grads(batch, max_targets=32))


def test_pick_targets_by_hand():
    hidden = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    weights = np.array([[0, 1, 0, 2], [0, 0, 3, 0]], np.float32)
    picked, targets, kept = pick_targets(hidden, np.arange(8).reshape(2, 4), weights, 2)
    assert picked[..., 0].tolist() == [[1, 3], [6, 4]]
    assert targets.tolist() == [[1, 3], [6, 4]]
    assert kept.tolist() == [[1, 2], [3, 0]]


# -- freezing ----


@pytest.mark.parametrize("cfg", [pytest.param(CFG, marks=pytest.mark.slow), TIED], ids=["untied", "tied"])
def test_frozen_layers_leave_the_upper_gradients_alone(cfg):
    batch = batch_of([documents(4)], 48)
    whole, cut = loss_and_grads(batch, cfg), loss_and_grads(batch, cfg, freeze_layers=2)
    assert cut[0] == pytest.approx(whole[0], rel=1e-6)
    for ours, wanted in zip(jax.tree.leaves(cut[1].layers), jax.tree.leaves(whole[1].layers), strict=True):
        np.testing.assert_allclose(ours[2:], wanted[2:], atol=1e-6)
        assert not ours[:2].any()
    np.testing.assert_allclose(cut[1].final_norm, whole[1].final_norm, atol=1e-6)
    # The tied table is still trained as the head, the untied input table is not.
    assert cut[1].embed.any() == cfg.tie_embeddings


@pytest.mark.parametrize("remat", ["none", "full", "dots"])
def test_frozen_layers_cost_no_backward_work(remat):
    """Matrix products in the program of the gradient: a frozen layer adds those of a forward pass."""
    batch = batch_of([documents(4)], 48)

    def products(freeze_layers: int) -> int:
        trained, frozen = partition.split(initial(TIED), TIED, (), freeze_layers)
        objective = sft_objective(TIED, remat=remat)
        grads = jax.make_jaxpr(lambda t: accumulate(objective, TrainState(0, t, None, frozen), batch)[0])
        return str(grads(trained)).count("dot_general")

    # A scan's body is written once whatever its length, so the difference is the body of the frozen scan.
    forward_only = jax.make_jaxpr(lambda p: forward(p, *_inputs(batch), TIED)[0])(initial(TIED))
    assert products(2) - products(0) == str(forward_only).count("dot_general")


def _inputs(batch):
    return batch.tokens[0], batch.positions[0], batch.segment_ids[0]


def test_freeze_by_glob():
    batch = batch_of([documents(4)], 48)
    whole, cut = loss_and_grads(batch), loss_and_grads(batch, freeze=["layers.*norm", "embed", "head"])
    assert not cut[1].embed.any() and not cut[1].head.any() and not cut[1].layers.attn_norm.any()
    np.testing.assert_allclose(cut[1].layers.attn.q, whole[1].layers.attn.q, atol=1e-6)


def test_optimizer_holds_nothing_for_frozen_leaves():
    mesh = make_mesh()
    tx = make_optimizer(OptimConfig(), decay_mask(CFG))
    state, _ = init_state(initial(CFG), CFG, tx, mesh, ["embed", "head"], 2)
    shapes = {x.shape for x in jax.tree.leaves(state.opt_state)}
    assert (
        (64, 32) not in shapes
        and (32, 64) not in shapes
        and (1, 32, 48) in shapes
        and (3, 32, 48) not in shapes
    )
    merged = partition.merge(state.params, state.frozen)
    jax.tree.map(np.testing.assert_array_equal, merged, initial(CFG))


@pytest.mark.parametrize(
    ("freeze", "layers", "message"),
    [(["layer.q"], 0, "no parameter matches"), ([], 3, "the model has 3"), (["*"], 0, "every parameter")],
)
def test_bad_freeze(freeze, layers, message):
    with pytest.raises(InputError, match=message):
        partition.check(CFG, freeze, layers)


def test_layers_below_experts_cannot_be_cut_off():
    with pytest.raises(InputError, match=r"dense_layers\.\*"):
        partition.check(named_config("tiny-deepseek-v2"), (), 1)


# -- mixtures ----


@pytest.mark.parametrize("aux_loss", [None, 0.5])
def test_the_router_s_loss_joins_the_objective_by_weight(aux_loss):
    """By hand, from the statistics of the forward pass; None takes the model's own coefficient."""
    cfg = named_config("tiny-mixtral")
    params, rng = initial(cfg), np.random.default_rng(0)
    tokens = rng.integers(1, cfg.vocab_size, (2, 24)).astype(np.int32)
    weights = (rng.random((2, 24)) < 0.4).astype(np.float32)
    segments = np.ones_like(tokens)
    segments[1, 18:] = 0  # padding goes to no expert
    weights[1, 18:] = 0
    batch = Batch(
        tokens, np.roll(tokens, -1, 1), weights, segments, np.tile(np.arange(24, dtype=np.int32), (2, 1))
    )
    options = MoeOptions(aux_loss=aux_loss)
    total, weight, metrics = sft_objective(cfg, moe=options)(params, batch)
    plain, *_ = sft_objective(cfg, moe=MoeOptions(aux_loss=0.0))(params, batch)
    _, sums = forward(params, batch.tokens, batch.positions, batch.segment_ids, cfg)
    real, count, prob = (np.asarray(sums[k]) for k in ("router_tokens", "router_count", "router_prob"))
    assert real.sum() == 42 * cfg.num_layers and count.sum() == 2 * real.sum()
    share, mean = count.sum(0) / real.sum(), prob.sum(0) / real.sum()
    balance = cfg.moe.num_experts * (share * mean).sum()
    coefficient = cfg.moe.aux_loss_coef if aux_loss is None else aux_loss
    assert coefficient > 0
    np.testing.assert_allclose(total - plain, coefficient * balance * weights.sum(), rtol=1e-3)
    np.testing.assert_allclose(metrics["router_aux_sum"] / weight, balance, rtol=1e-5)


# -- schedule ----


def test_schedules():
    rate = learning_rate(OptimConfig(lr=1.0, warmup=0.1, final=0.2), 100)
    assert [rate(s) for s in (0, 9)] == pytest.approx([0.1, 1.0])
    assert rate(54) == pytest.approx(0.6) and rate(99) == pytest.approx(0.2)  # the cosine's middle and end
    linear = learning_rate(OptimConfig(lr=1.0, schedule="linear", warmup=0, final=0), 4)
    assert [linear(s) for s in range(4)] == pytest.approx([0.75, 0.5, 0.25, 0])
    constant = learning_rate(OptimConfig(lr=2.0, schedule="constant", warmup=0.5), 4)
    assert [constant(s) for s in range(4)] == pytest.approx([1, 2, 2, 2])
