"""What the compiler for H100 makes of a few layers of each kind of step: nothing twice, nothing for nothing.

`make contracts` brings the compiler, which needs no device, and runs these; each compiles in a process of its own.
"""

import functools
import importlib.util

import pytest

from xlam_jax.models.lora import LoraConfig
from xlam_jax.models.named import named_config
from xlam_jax.parallel.mesh import AXES
from xlam_jax.plan.device_compile import compile_for, order
from xlam_jax.plan.memory import estimate
from xlam_jax.plan.remat import recomputed
from xlam_jax.plan.targets import target
from xlam_jax.plan.work import Work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax_cuda12_plugin") is None,
        reason="NOT CHECKED: no compiler for H100 here; make contracts, or pip install 'xlam-jax[compile-h100]'",
    ),
]
ONE = dict.fromkeys(AXES, 1)
DENSE = Work(
    named_config("deepseek-coder-1.3b").replace(num_layers=8),
    4096, 6, remat="dots", attention="cudnn", compute_dtype="bfloat16",
)  # fmt: skip
MIXTURE = DENSE.replace(
    cfg=named_config("mixtral-8x7b").replace(num_layers=4), remat="none", param_dtype="bfloat16"
)
LORA = DENSE.replace(lora=LoraConfig(rank=16), param_dtype="bfloat16")
SPLIT = DENSE.replace(
    cfg=named_config("mistral-7b-v0.1").replace(num_layers=8),
    seq_len=8192,
    rows=48,
    accumulation=3,
    remat="full",
)
CHUNKS = 4096 // 256  # turns of the loss


@functools.cache
def compiled(work, fsdp=1):
    return compile_for(order(work, {**ONE, "fsdp": fsdp}, target("h100")))


def gemms(said):
    return sum(v["run"] for name, v in said["kernels"].items() if "cublas" in name)


def assert_nothing_twice(said, runs):
    assert said["products"]["doubled"] == 0
    assert said["attention_runs"] == {"forward": runs, "recompute": 0, "backward": runs}


def assert_memory(said, work, fsdp=1):
    assert estimate(work, {**ONE, "fsdp": fsdp}).total == pytest.approx(said["memory"]["total"], rel=0.08)


def test_dense():
    said = compiled(DENSE)
    assert_nothing_twice(said, 8)
    # Seven matrices a layer, the head a chunk; forwards once and backwards twice. (XLA joins smaller ones.)
    assert gemms(said) == 3 * 7 * 8 + 3 * CHUNKS
    products = said["products"]
    assert products["recompute"] == 0 and abs(products["padding"]) < 1e-6 * products["needed"]
    assert_memory(said, DENSE)


def test_the_program_is_as_long_for_many_layers_as_for_few():
    many = DENSE.replace(cfg=DENSE.cfg.replace(num_layers=16))
    assert compiled(many)["hlo_bytes"] == pytest.approx(compiled(DENSE)["hlo_bytes"], rel=0.03)


def test_mixture():
    said = compiled(MIXTURE)
    assert_nothing_twice(said, 4)
    products = said["products"]
    # A window holds a quarter more rows than even routing fills, in the experts' products alone.
    experts = 3 * 2 * 3 * 2 * 4096 * 14336 * 4 * MIXTURE.tokens
    assert products["padding"] == pytest.approx(0.25 * experts, rel=0.03)
    assert_memory(said, MIXTURE)


def test_adapters():
    said = compiled(LORA)
    assert_nothing_twice(said, 8)
    assert abs(said["products"]["padding"]) < 0.01 * said["products"]["needed"]
    assert_memory(said, LORA)


def test_split_over_eight_devices():
    said = compiled(SPLIT, 8)
    assert said["products"]["doubled"] == 0
    # "full" computes everything again.
    assert said["attention_runs"] == dict.fromkeys(("forward", "recompute", "backward"), 8 * 3)
    again = (recomputed(SPLIT) - SPLIT.flops()["forward_attention"]) * SPLIT.tokens / 8
    assert said["products"]["recompute"] == pytest.approx(again, rel=1e-6)
    moved = {row["collective"]: row for row in said["collectives"] if row["received"] > 1e6}
    assert {"all-gather", "reduce-scatter"} <= set(moved)
    assert all(row["asynchronous"] == "yes" and row["devices"] == 8 for row in moved.values())
    # Micro-batches are one program in a loop: not twice as long as a step without.
    assert said["hlo_bytes"] < 1.3 * compiled(SPLIT.replace(rows=16, accumulation=1), 8)["hlo_bytes"]
    assert_memory(said, SPLIT, 8)
