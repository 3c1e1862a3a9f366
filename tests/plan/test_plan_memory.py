"""Planned bytes against what the compiler reports for the real train step on fake devices."""

import dataclasses

import pytest

from xlam_jax.models.lora import LoraConfig
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import leaves
from xlam_jax.parallel.mesh import AXES
from xlam_jax.plan.compiled import compile_here, refine
from xlam_jax.plan.memory import estimate
from xlam_jax.plan.work import Work
from xlam_jax.training.optimizer import OptimConfig

DENSE = named_config("tiny-llama").replace(
    hidden_size=128,
    intermediate_size=256,
    num_heads=4,
    head_dim=32,
    num_kv_heads=2,
    vocab_size=512,
    num_layers=6,
)
MIXTURE = named_config("tiny-mixtral").replace(
    hidden_size=64, num_heads=4, head_dim=16, vocab_size=256, num_layers=6
)
MIXTURE = MIXTURE.replace(moe=dataclasses.replace(MIXTURE.moe, num_experts=4, intermediate_size=128))


def mesh(**sizes):
    return {axis: sizes.get(axis, 1) for axis in AXES}


def whole(work, sizes):
    """Bytes of the whole step, all layers, compiled in this process."""
    found = compile_here(work, sizes)
    return found["arguments"] + found["temporaries"] + found["outputs"]


# Nothing but traces and formulas: good enough to rank meshes.
@pytest.mark.optimised
@pytest.mark.parametrize(
    ("cfg", "sizes", "remat"),
    [
        pytest.param(DENSE, mesh(), "none", marks=pytest.mark.slow),
        pytest.param(DENSE, mesh(), "full", marks=pytest.mark.slow),
        (DENSE, mesh(fsdp=8), "full"),
        pytest.param(MIXTURE, mesh(), "none", marks=pytest.mark.slow),
        pytest.param(MIXTURE, mesh(), "full", marks=pytest.mark.slow),
    ],
    ids=["dense-none", "dense-full", "dense-fsdp8", "mixture-none", "mixture-full"],
)
def test_traced_memory_is_within_a_tenth(cfg, sizes, remat):
    work = Work(cfg, 128, 8, remat=remat)
    assert estimate(work, sizes).total == pytest.approx(whole(work, sizes), rel=0.10)


def test_state_is_exact_under_a_mesh():
    sizes = mesh(data=2, fsdp=2, tensor=2)
    work = Work(DENSE, 64, 8, remat="full", optim=OptimConfig(moment_dtype="bfloat16"))
    planned = estimate(work, sizes)
    # Arguments are state, batch, and two numbers of 4 bytes: the step's and the learning rate.
    assert planned.state + planned.batch + 8 == compile_here(work, sizes)["arguments"]


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cfg", "sizes", "remat"),
    [
        (DENSE, mesh(data=2, fsdp=2, tensor=2), "none"),
        (DENSE, mesh(fsdp=8), "names:attn_out,mlp_hidden"),
        (MIXTURE, mesh(fsdp=4, expert=2), "full"),
        (DENSE, mesh(fsdp=4), "full"),
    ],
    ids=["dense-mesh", "dense-names", "mixture-expert", "dense-full"],
)
def test_plan_from_slices_is_within_a_tenth(cfg, sizes, remat):
    """Not exact: what is alive at the peak need not be linear in the layers."""
    work = Work(cfg, 128, 8, remat=remat)
    planned, compiled = refine(work, sizes)
    assert compiled.layers == (2, 4) and cfg.num_layers == 6
    assert planned.total == pytest.approx(whole(work, sizes), rel=0.10)


def test_narrower_types_need_less():
    wide = estimate(Work(DENSE, 128, 8), mesh())
    narrow = estimate(Work(DENSE, 128, 8, param_dtype="bfloat16", compute_dtype="bfloat16"), mesh())
    assert narrow.weights == wide.weights / 2 and narrow.gradients == wide.gradients / 2
    assert 0.4 * wide.activations < narrow.activations < 0.8 * wide.activations


def test_remat_policies_are_ordered():
    kept = [estimate(Work(DENSE, 128, 8, remat=r), mesh()).activations for r in ("none", "dots", "full")]
    assert kept == sorted(kept, reverse=True) and kept[0] > 5 * kept[2]


def test_lora_trains_adapters_only():
    full, lora = (estimate(Work(DENSE, 128, 8, lora=r), mesh()) for r in (None, LoraConfig(rank=4)))
    adapters = sum(4 * (s.shape[-2] + s.shape[-1]) * s.shape[0] for s in leaves(DENSE).values() if s.lora)
    assert lora.gradients == 4 * adapters and lora.weights == full.weights + 4 * adapters
    assert lora.optimizer == pytest.approx(8 * adapters, abs=16)  # and the counters


# Known gap: the plan says 21.4 MB where the compiled step takes 27.9 MB.
LOW = (
    pytest.mark.xfail(reason="the plan is 23 % too low for adapters with remat: full", strict=True),
    pytest.mark.slow,
)


@pytest.mark.optimised
@pytest.mark.parametrize(
    "remat", [pytest.param("none", marks=pytest.mark.slow), pytest.param("full", marks=LOW)]
)
def test_lora_memory_is_within_a_tenth(remat):
    work = Work(DENSE, 128, 8, remat=remat, lora=LoraConfig(rank=4))
    assert estimate(work, mesh()).total == pytest.approx(whole(work, mesh()), rel=0.10)
