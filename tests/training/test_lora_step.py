"""A step on adapters: against torch's PEFT, on a mesh, and what it neither computes nor copies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import LoraConfig, init_adapters, quantize_base
from xlam_jax.models.spec import shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.shards.batch import Batch
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.optimizer import OptimConfig, make_optimizer
from xlam_jax.training.partition import Frozen
from xlam_jax.training.step import TrainState, accumulate, make_step, micro_sharding

CFG = ModelConfig("llama", 64, 32, 48, 2, 4, 2, 8, tie_embeddings=False)
LORA = LoraConfig(rank=4, alpha=8.0)
OPTIM = OptimConfig(lr=1e-2, clip=None, weight_decay=0.0)


@functools.cache
def base(cfg=CFG):
    return jax.device_get(tiny.params(cfg))


def batch_of(rows=8, length=16, accumulation=1):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 64, (accumulation, rows // accumulation, length + 1)).astype(np.int32)
    shape = tokens[..., 1:].shape
    weights = (rng.random(shape) < 0.5).astype(np.float32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), shape)
    return Batch(tokens[..., :-1], tokens[..., 1:], weights, np.ones(shape, np.int32), positions)


def state_on(mesh, lora=LORA, cfg=CFG, b_scale=0.0):
    tx = make_optimizer(OPTIM, None)
    adapters = init_adapters(cfg, lora, jax.random.key(1), mesh=mesh)
    adapters = jax.tree_util.tree_map_with_path(
        lambda p, x: x + np.float32(b_scale) if p[-1].name == "b" else x, adapters
    )
    params = jax.tree.map(jax.device_put, base(cfg), shardings(cfg, mesh))
    frozen = Frozen(quantize_base(params, cfg, lora, mesh))
    return tx, TrainState(jnp.int32(0), adapters, tx.init(adapters), frozen)


def places_of(state, mesh):
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(
        lambda x: x.sharding if isinstance(x.sharding, jax.sharding.NamedSharding) else everywhere, state
    )


def test_the_base_is_neither_copied_nor_differentiated():
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        tx, state = state_on(mesh)
        state = jax.device_put(state, places_of(state, mesh))
        step = make_step(sft_objective(CFG), tx, places_of(state, mesh))
        batch = Batch(*(jax.device_put(f, micro_sharding(mesh)) for f in batch_of()))

        def pointers(state):
            return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state.frozen)]

        jaxpr = jax.make_jaxpr(lambda s, b: step(s, b, np.float32(1e-2)))(state, batch)
        state, _ = step(state, batch, np.float32(1e-2))
        before = pointers(state)  # now in buffers of XLA's own
        state, _ = step(state, batch, np.float32(1e-2))
        assert pointers(state) == before
        assert len(jax.tree.leaves(state.opt_state)) == 1 + 2 * len(jax.tree.leaves(state.params))
    weights = {w.shape[-2:] for w in jax.tree.leaves(base().layers) if w.ndim == 3} | {base().head.shape}
    made = products(jaxpr.jaxpr)
    assert (32, 4) in made or (4, 32) in made  # gradients of adapters are products of such shapes
    assert not made & (weights | {w[::-1] for w in weights})


def products(jaxpr):
    """Shapes of the results of all matrix products in a jaxpr and those inside it."""
    found = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            found.add(tuple(eqn.outvars[0].aval.shape))
        for inner in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                inner = inner.jaxpr
            if hasattr(inner, "eqns"):
                found |= products(inner)
    return found


def gradients(mesh_config, lora, accumulation=1, cfg=CFG):
    mesh = make_mesh(mesh_config)
    with jax.set_mesh(mesh):
        _, state = state_on(mesh, lora, cfg, b_scale=0.05)
        batch = Batch(*(jax.device_put(f, micro_sharding(mesh)) for f in batch_of(accumulation=accumulation)))
        run = jax.jit(lambda s, b: accumulate(sft_objective(cfg), s, b)[:2])
        return jax.device_get(run(state, batch))


@pytest.mark.slow
def test_accumulation_and_mesh_change_nothing_with_dropout():
    lora = LoraConfig(rank=4, dropout=0.2)
    one = gradients(MeshConfig(), lora)
    for found in (
        gradients(MeshConfig(), lora, accumulation=4),
        gradients(MeshConfig(data=2, fsdp=2, tensor=2), lora),
    ):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=5e-5), found, one)
    without = gradients(MeshConfig(), LORA)
    assert abs(without[1]["loss_sum"] - one[1]["loss_sum"]) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_training_on_a_quantised_base_reduces_the_loss(kind):
    pytest.importorskip("qwix", reason="pip install 'xlam-jax[quant]'")
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    lora = LORA.model_copy(update={"quantize": kind})
    cfg = CFG.replace(initializer_range=0.3)  # else the frozen head bounds what can be learnt
    with jax.set_mesh(mesh):
        tx, state = state_on(mesh, lora, cfg)
        state = jax.device_put(state, places_of(state, mesh))
        bits = jax.tree.leaves(state.frozen.params.layers.attn.q)[0].dtype
        assert bits == {"int8": jnp.int8, "nf4": jnp.uint4}[kind]
        step = make_step(sft_objective(cfg), tx, places_of(state, mesh))
        batch = Batch(*(jax.device_put(f, micro_sharding(mesh)) for f in batch_of()))
        losses = []
        for _ in range(12):
            state, metrics = step(state, batch, np.float32(5e-2))
            losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.3, losses


torch = pytest.importorskip("torch")


def torch_peft(cfg):
    """The same model and adapters in torch: (peft model, its LoRA parameters by name)."""
    peft = pytest.importorskip("peft", reason="pip install --no-deps peft accelerate psutil")
    from tests.weights.peft_models import set_adapters, torch_model

    model = torch_model(base(cfg), cfg)
    modules = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=modules)
    model = peft.get_peft_model(model, config)
    return set_adapters(model, init_adapters(cfg, LORA, jax.random.key(1)), cfg)


def test_five_steps_equal_pefts():
    from tests.weights.peft_models import adapter_arrays

    model = torch_peft(CFG)
    batch = batch_of()
    tokens, targets, weights = (torch.from_numpy(np.array(x[0])).long() for x in batch[:3])
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    losses = []
    for number in range(5):
        logits = model(tokens).logits.float()
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss = (each * weights.flatten()).sum() / weights.sum()
        adam.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if number == 1:  # at step 0 the gradient of a is zero
            grads = adapter_arrays(
                {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, CFG
            )
        adam.step()

    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        tx, state = state_on(mesh)
        state = jax.device_put(state, places_of(state, mesh))
        objective = sft_objective(CFG)
        step = make_step(objective, tx, places_of(state, mesh))
        here = Batch(*(jax.device_put(f, micro_sharding(mesh)) for f in batch))
        ours = []
        for number in range(5):
            if number == 1:
                found, sums, _ = jax.jit(lambda s, b: accumulate(objective, s, b))(state, here)
                weight = float(sums["weight_sum"])
                found = jax.tree.map(lambda g, weight=weight: np.asarray(g) / weight, found)
            state, metrics = step(state, here, np.float32(1e-2))
            ours.append(float(metrics["loss"]))
    np.testing.assert_allclose(ours, losses, rtol=1e-5)
    compare(found, grads, atol=1e-6)
    compare(state.params, adapter_arrays(dict(model.named_parameters()), CFG), atol=2e-5)


def compare(tree, arrays, atol):
    from xlam_jax.models.spec import path_name

    flat = {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}
    assert flat.keys() == arrays.keys() and len(flat) == 14
    for name, x in flat.items():
        np.testing.assert_allclose(x, arrays[name], rtol=1e-3, atol=atol, err_msg=name)
