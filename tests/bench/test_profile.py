"""Where the time goes: a hand-written program and trace, and a real step."""

import jax
import jax.numpy as jnp
import pytest

from xlam_jax.bench.profile import KINDS, operations, profile, totals
from xlam_jax.bench.train import bench_train
from xlam_jax.models.named import named_config

PROGRAM = """HloModule jit_step

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %dot.1 = f32[4]{0} dot(%p, %p), metadata={op_name="jit(step)/transpose(jvp(mlp))/dot_general"}
}

%body (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %fusion.7 = f32[4]{0} fusion(%q), kind=kCustom, calls=%fused
  %raw.3 = f32[4]{0} dot(%fusion.7, %q)
  ROOT %soft.2 = f32[4]{0} exponential(%raw.3), metadata={op_name="jit(step)/jvp()/rematted_computation/attention/exp"}
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %while.5 = f32[4]{0} while(%a), body=%body
  %fmha.1 = f32[4]{0} custom-call(%while.5), custom_call_target="__cudnn$fmhaSoftmax", \
metadata={op_name="jit(step)/attention/fmha"}
  ROOT %adam.1 = f32[4]{0} multiply(%fmha.1, %a), metadata={op_name="jit(step)/optimizer/mul"}
}
"""


def span(name, ts, dur, tid=1):
    return {"ph": "X", "pid": 1, "tid": tid, "ts": ts, "dur": dur, "name": name, "args": {"hlo_op": name}}


def test_each_operation_is_placed():
    found = operations(PROGRAM)
    assert found["fusion.7"] == ("mlp", "backward", "product")  # the name and the kind of what it calls
    assert found["raw.3"] == ("attention", "recompute", "product")  # unnamed: where its result goes
    assert found["soft.2"] == ("attention", "recompute", "other")
    assert found["fmha.1"] == ("attention", "forward", "attention kernel")
    assert found["adam.1"] == ("optimizer", "", "other")


def test_a_loop_counts_what_is_not_inside_it():
    events = [
        span("while.5", 0, 100),
        span("fusion.7", 10, 60),
        span("soft.2", 70, 20),
        span("adam.1", 200, 20),
    ]
    rows = totals(PROGRAM, [*events, span("of another program", 300, 5)], steps=2)
    assert [(r["part"], r["milliseconds"]) for r in rows[:4]] == [
        ("mlp", 0.03), ("attention", 0.01), ("attention", 0.01), ("optimizer", 0.01)
    ]  # fmt: skip
    assert [r["part"] for r in rows[4:]] == ["unnamed"]
    assert sum(r["share"] for r in rows) == pytest.approx(1)


def test_streams_of_a_device_count_once():
    named = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
        for tid, name in ((1, "Stream #13(compute)"), (2, "XLA Ops"))
    ]
    rows = totals(PROGRAM, [*named, span("adam.1", 0, 10), span("adam.1", 0, 10, tid=2)], steps=1)
    assert [r["milliseconds"] for r in rows] == [0.01]
    kernel = {"ph": "X", "pid": 1, "tid": 1, "ts": 20, "dur": 30, "name": "nvjet_hsh_128x256", "args": {}}
    rows = totals(PROGRAM, [*named, span("adam.1", 0, 10), kernel], steps=1)
    assert [(r["part"], r["kind"], r["milliseconds"]) for r in rows] == [
        ("unnamed", "product", 0.03), ("optimizer", "other", 0.01)
    ]  # fmt: skip


@pytest.mark.optimised
def test_a_product_outweighs_a_sum():
    @jax.jit
    def run(x):
        with jax.named_scope("mlp"):
            y = x @ x
        with jax.named_scope("optimizer"):
            return y, (x * 2).sum()

    x = jnp.ones((512, 512))
    rows = profile(run.lower(x).compile().as_text(), lambda: run(x))
    assert (rows[0]["part"], rows[0]["kind"]) == ("mlp", "product"), rows


@pytest.mark.optimised
@pytest.mark.slow
def test_a_real_step_names_nearly_all_of_its_time():
    found = bench_train(named_config("tiny-llama"), seq_len=128, steps=1, warmup=1, profiled=True)
    rows = found["time_by_part"]
    assert {"attention", "mlp", "loss", "optimizer", "qkv"} <= {r["part"] for r in rows}
    assert {r["kind"] for r in rows} <= set(KINDS)
    assert sum(r["share"] for r in rows if r["part"] == "rest") < 0.5
