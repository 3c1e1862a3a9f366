"""What is computed again, against the compiled program; and the policy that is taken for a memory."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tests.plan.test_plan_memory import DENSE, MIXTURE, mesh
from xlam_jax.models.named import named_config
from xlam_jax.parallel.hardware import hardware
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.plan.account import Needed, account
from xlam_jax.plan.lowering import lower_step
from xlam_jax.plan.memory import estimate
from xlam_jax.plan.remat import LADDER, choose, lightest, recomputed
from xlam_jax.plan.search import candidate
from xlam_jax.plan.work import Work
from xlam_jax.training.config import TrainConfig


@pytest.mark.optimised
@pytest.mark.parametrize(
    ("cfg", "remat"),
    [
        (DENSE, "full"),
        (DENSE, "dots"),
        pytest.param(DENSE, "names:qkv,attn_out", marks=pytest.mark.slow),
        pytest.param(DENSE, "names:attn_out,mlp_hidden,attn_residual", marks=pytest.mark.slow),
        pytest.param(MIXTURE, "full", marks=pytest.mark.slow),
        pytest.param(MIXTURE, "names:qkv,attn_out,attn_residual,mlp_hidden", marks=pytest.mark.slow),
    ],
    ids=lambda x: x if isinstance(x, str) else x.family,
)
def test_what_is_computed_again_is_what_the_compiled_step_does(cfg, remat):
    work = Work(cfg.replace(num_layers=2), 128, 2, remat=remat)
    text = lower_step(work, make_mesh()).compile().as_text()
    said = account(text, Needed(1.0, 0.0), hardware(), {"loss": 1, "experts": 0})
    again = {
        kind: sum(
            r["flops"]
            for r in said["parts"]
            if r["pass"] == "recompute" and (r["part"] == "attention") == kind
        )
        for kind in (True, False)
    }
    attention = work.flops()["forward_attention"] if remat == "full" else 0.0
    padding = 1.25 if cfg.moe else 1.0  # rows of the experts' window, the router is small
    assert again[False] == pytest.approx(
        (recomputed(work) - attention) * work.tokens * padding, rel=0.05 if cfg.moe else 1e-6
    )
    assert bool(again[True]) == (remat == "full")


def test_by_hand():
    cfg = named_config("mistral-7b-v0.1")
    work = Work(cfg, 8192, 48, remat="full", compute_dtype="bfloat16")
    layer = 4096 * (2 * 4096 + 2 * 1024) + 2 * 4096 * 14336  # q, o, k, v; gate and up
    attention = work.flops()["forward_attention"]
    assert recomputed(work) == 2 * 32 * layer + attention
    assert recomputed(work.replace(remat="dots")) == recomputed(work.replace(remat="none")) == 0
    kept = recomputed(work.replace(remat="names:qkv,attn_out"))
    assert kept == 2 * 32 * (4096 * 4096 + 2 * 4096 * 14336)


@pytest.mark.parametrize("cfg", [DENSE, MIXTURE], ids=["dense", "mixture"])
def test_less_memory_takes_a_policy_that_computes_more(cfg):
    work, sizes = Work(cfg, 128, 8), mesh()
    needs = {name: estimate(work.replace(remat=name), sizes).total for name in LADDER}
    found = [lightest(work, sizes, 1.06 * budget)[0] for budget in sorted(needs.values(), reverse=True)]
    cost = [recomputed(work.replace(remat=name)) for name in found]
    assert found[0] == "none" and found[-1] == "full" and cost == sorted(cost)
    assert all(
        needs[name] <= 1.06 * b for name, b in zip(found, sorted(needs.values(), reverse=True), strict=True)
    )
    assert lightest(work, sizes, 1.0)[0] == "full"


def test_a_plan_takes_the_lightest_for_its_hardware():
    work = Work(DENSE, 128, 8, remat="auto")
    roomy = hardware("h100-sxm")
    needs = estimate(work.replace(remat="none"), mesh()).total
    tight = dataclasses.replace(roomy, memory=0.9 * needs / roomy.usable)
    assert candidate(work, mesh(), roomy).remat == "none"
    assert candidate(work, mesh(), tight).remat not in ("none", "auto")


def test_a_run_is_told_why():
    config = TrainConfig.model_validate(
        {"model": "m", "out": "o", "data": {"train": "d"}, "batch": {"rows": 8}, "remat": "auto"}
    )
    assert choose(config, DENSE, make_mesh(MeshConfig()), 128, None) == (
        "dots",
        "nobody says how much memory a cpu has",
    )
    needs = estimate(Work(DENSE, 128, 8, remat="full"), mesh()).total
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 1.1 * needs})
    there = SimpleNamespace(devices=np.array([device]), shape=mesh())
    policy, why = choose(config, DENSE, there, 128, 4)  # pyright: ignore[reportArgumentType]
    assert policy == "full" and "as the device says" in why
    sheet = SimpleNamespace(platform="gpu", memory_stats=lambda: None, device_kind="NVIDIA H100 80GB HBM3")
    there = SimpleNamespace(devices=np.array([sheet]), shape=mesh())
    assert choose(config, DENSE, there, 128, 4)[0] == "none"  # pyright: ignore[reportArgumentType]
