"""Programs read back: hand-written ones as the compilers of accelerators write them, and one that XLA compiles here."""

import jax
import jax.numpy as jnp
import pytest

from xlam_jax.parallel.hardware import hardware
from xlam_jax.plan.account import Needed, account
from xlam_jax.plan.hlo import parse
from xlam_jax.plan.schedule import operations, place

# One layer of a scan as XLA's compiler for NVIDIA writes it: its product of [8, 4] and [4, 6] is computed by cuBLAS,
# and again inside the fusion that writes it into the stack of what is kept.
GPU = """HloModule jit_step, is_scheduled=true

%stacked (p0: bf16[8,4], p1: bf16[3,4,6], p2: s32[], p3: bf16[3,8,6]) -> bf16[3,8,6] {
  %p0 = bf16[8,4]{1,0} parameter(0)
  %p1 = bf16[3,4,6]{2,1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %p3 = bf16[3,8,6]{2,1,0} parameter(3)
  %zero.1 = s32[] constant(0)
  %slice.1 = bf16[1,4,6]{2,1,0} dynamic-slice(%p1, %p2, %zero.1, %zero.1), dynamic_slice_sizes={1,4,6}
  %bitcast.1 = bf16[4,6]{1,0} bitcast(%slice.1)
  %again = (bf16[8,6]{1,0}, s8[1024]{0}) custom-call(%p0, %bitcast.1), custom_call_target="__cublas$lt$matmul", \
metadata={op_name="jit(step)/jvp()/while/body/mlp/dot_general"}, \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],\
"rhs_contracting_dimensions":["0"]}}}
  %out.1 = bf16[8,6]{1,0} get-tuple-element(%again), index=0
  %bitcast.2 = bf16[1,8,6]{2,1,0} bitcast(%out.1)
  ROOT %update = bf16[3,8,6]{2,1,0} dynamic-update-slice(%p3, %bitcast.2, %p2, %zero.1, %zero.1)
}

%silu (q: bf16[8,6]) -> bf16[8,6] {
  %q = bf16[8,6]{1,0} parameter(0)
  ROOT %tanh.1 = bf16[8,6]{1,0} tanh(%q), metadata={op_name="jit(step)/jvp()/while/body/mlp/tanh"}
}

%body (state: (s32[], bf16[8,4], bf16[3,4,6], bf16[3,8,6])) -> (s32[], bf16[8,4], bf16[3,4,6], bf16[3,8,6]) {
  %state = (s32[], bf16[8,4]{1,0}, bf16[3,4,6]{2,1,0}, bf16[3,8,6]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = bf16[8,4]{1,0} get-tuple-element(%state), index=1
  %w = bf16[3,4,6]{2,1,0} get-tuple-element(%state), index=2
  %kept = bf16[3,8,6]{2,1,0} get-tuple-element(%state), index=3
  %zero = s32[] constant(0)
  %slice = bf16[1,4,6]{2,1,0} dynamic-slice(%w, %i, %zero, %zero), dynamic_slice_sizes={1,4,6}
  %one_w = bf16[4,6]{1,0} bitcast(%slice)
  %product = (bf16[8,6]{1,0}, s8[4096]{0}) custom-call(%x, %one_w), custom_call_target="__cublas$lt$matmul", \
metadata={op_name="jit(step)/jvp()/while/body/mlp/dot_general"}, \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],\
"rhs_contracting_dimensions":["0"]}}}
  %y = bf16[8,6]{1,0} get-tuple-element(%product), index=0
  %fusion.silu = bf16[8,6]{1,0} fusion(%y), kind=kLoop, calls=%silu
  %fmha = (bf16[8,4]{1,0}, f32[8]{0}) custom-call(%x, %x, %x), custom_call_target="__cudnn$fmhaSoftmax", \
metadata={op_name="jit(step)/jvp()/while/body/attention/fmha"}
  %stack = bf16[3,8,6]{2,1,0} fusion(%x, %w, %i, %kept), kind=kCustom, calls=%stacked, \
backend_config={"fusion_backend_config":{"kind":"__custom_fusion"}}
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %tuple = (s32[], bf16[8,4]{1,0}, bf16[3,4,6]{2,1,0}, bf16[3,8,6]{2,1,0}) tuple(%next, %x, %w, /*index=3*/%stack)
}

%condition (state.1: (s32[], bf16[8,4], bf16[3,4,6], bf16[3,8,6])) -> pred[] {
  %state.1 = (s32[], bf16[8,4]{1,0}, bf16[3,4,6]{2,1,0}, bf16[3,8,6]{2,1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %three = s32[] constant(3)
  ROOT %less = pred[] compare(%i.1, %three), direction=LT
}

ENTRY %main (a: bf16[8,4], b: bf16[3,4,6], shard: bf16[2,4]) -> bf16[3,8,6] {
  %a = bf16[8,4]{1,0} parameter(0)
  %b = bf16[3,4,6]{2,1,0} parameter(1)
  %shard = bf16[2,4]{1,0} parameter(2)
  %nought = s32[] constant(0)
  %empty = bf16[] constant(0)
  %broadcast = bf16[3,8,6]{2,1,0} broadcast(%empty), dimensions={}
  %ag = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%shard), replica_groups=[1,4]<=[4], dimensions={0}, \
backend_config={"collective_backend_config":{"is_sync":false}}
  %begin = (s32[], bf16[8,4]{1,0}, bf16[3,4,6]{2,1,0}, bf16[3,8,6]{2,1,0}) tuple(%nought, %a, %b, %broadcast)
  %loop = (s32[], bf16[8,4]{1,0}, bf16[3,4,6]{2,1,0}, bf16[3,8,6]{2,1,0}) while(%begin), condition=%condition, \
body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %agd = bf16[8,4]{1,0} all-gather-done(%ag)
  %ar = bf16[8,4]{1,0} all-reduce(%agd), replica_groups={{0,1,2,3}}, to_apply=%condition
  %gradient = f32[4,4]{1,0} dot(%agd, %a), lhs_contracting_dims={0}, rhs_contracting_dims={0}, \
metadata={op_name="jit(step)/transpose(jvp())/mlp/dot_general"}
  ROOT %result = bf16[3,8,6]{2,1,0} get-tuple-element(%loop), index=3
}
"""
ONE = 2 * 8 * 4 * 6  # FLOPs of the layer's product


def test_a_product_that_is_computed_twice_is_found():
    said = account(GPU, Needed(products=3 * ONE + 2 * 8 * 4 * 4, forward_attention=300.0), hardware())
    assert said["products"] == {
        "needed": 3 * ONE + 256,
        "forward": 6 * ONE,
        "recompute": 0,
        "backward": 2 * 8 * 4 * 4,
        "other": 0,
        "doubled": 3 * ONE,
        "padding": 0,
        "total": 6 * ONE + 256,
    }
    once = GPU.replace("custom-call(%p0, %bitcast.1)", "custom-call(%bitcast.2, %bitcast.1)")
    assert account(once, Needed(0, 0), hardware())["products"]["doubled"] == 0


def test_kernels_are_counted_as_written_and_as_run():
    said = account(GPU, Needed(1.0, 300.0), hardware())
    assert said["kernels"]["__cublas$lt$matmul"] == {"written": 1, "run": 3}
    assert said["kernels"]["__custom_fusion"] == {"written": 1, "run": 3}
    assert said["kernels"]["__cudnn$fmhaSoftmax"] == {"written": 1, "run": 3}
    assert said["attention_runs"] == {"forward": 3, "recompute": 0, "backward": 0}
    rows = {(r["part"], r["kind"]): r for r in said["parts"]}
    assert rows["attention", "attention kernel"]["flops"] == 300  # the model's, over the runs


def test_a_loop_that_xla_says_nothing_of_is_counted_by_its_counter():
    silent = GPU.replace(', backend_config={"known_trip_count":{"n":"3"}}', "")
    assert {o.times for o in operations(parse(silent)) if o.name == "stack"} == {3}
    unknown = silent.replace("constant(3)", "parameter(1)")
    assert {o.times for o in operations(parse(unknown), {"rest": 5}) if o.name == "stack"} == {5}


def test_bytes_of_slices_are_those_of_the_slice():
    found = {o.name: o for o in operations(parse(GPU))}
    assert found["fusion.silu"].bytes == 2 * 8 * 6 * 2
    assert found["slice"].bytes == 2 * 4 * 6 * 2
    # Reads x, one layer's weights and the loop's counter; writes one layer into the stack, in place.
    assert found["stack"].bytes == 8 * 4 * 2 + 4 * 6 * 2 + 4 + 8 * 6 * 2
    assert found["stack"].times == 3


def test_collectives_and_what_hides_them():
    hw = hardware("h100-sxm")
    first, second = account(GPU, Needed(1.0, 0.0), hw)["collectives"]
    if first["collective"] == "all-reduce":
        first, second = second, first
    assert (first["collective"], first["asynchronous"], first["devices"]) == ("all-gather", "yes", 4)
    assert first["received"] == 8 * 4 * 2 * 3 / 4 and first["waited"] == 0  # three layers run meanwhile
    assert (second["collective"], second["asynchronous"]) == ("all-reduce", "no")
    assert second["received"] == 2 * 8 * 4 * 2 * 3 / 4
    assert second["waited"] == second["seconds"] == pytest.approx(second["received"] / hw.link)


def test_products_of_a_tpu_are_convolutions():
    text = """HloModule m, is_scheduled=true
ENTRY %main (a: bf16[4,16,8], b: bf16[4,8,32]) -> bf16[4,16,32] {
  %a = bf16[4,16,8]{2,1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[4,8,32]{2,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = bf16[4,16,32]{2,1,0:T(8,128)(2,1)} convolution(%a, %b), \
window={size=4 stride=3 pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf
}
"""
    # A batched product: of the four taps of each output one meets an element, the others the gaps between them.
    assert [o.flops for o in operations(parse(text))] == [2 * 4 * 16 * 8 * 32]


def test_passes():
    assert place("jit(step)/jvp()/mlp/transpose") == ("mlp", "forward")  # an array that is transposed
    assert place("jit(step)/transpose(jvp(mlp))/dot") == ("mlp", "backward")
    assert place("jit(step)/transpose(jvp())/checkpoint/rematted_computation/attention/dot") == (
        "attention",
        "recompute",
    )


@pytest.mark.optimised
def test_a_program_compiled_here_by_hand_count():
    """Three layers of x @ w, gradient of both, by scan: two products forward and four backward a layer."""
    T, D, F, L = 16, 32, 48, 3

    def loss(w, x):
        def layer(x, w):
            with jax.named_scope("mlp"):
                return jnp.tanh(jnp.tanh(x @ w[0]) @ w[1]), None

        return jax.lax.scan(jax.checkpoint(layer, prevent_cse=False), x, w)[0].sum()

    w = (jax.ShapeDtypeStruct((L, D, F), jnp.float32), jax.ShapeDtypeStruct((L, F, D), jnp.float32))
    x = jax.ShapeDtypeStruct((T, D), jnp.float32)
    text = jax.jit(jax.grad(loss)).lower(w, x).compile().as_text()
    one = 2 * T * D * F * L
    found = account(text, Needed(products=6 * one, forward_attention=0.0), hardware())["products"]
    # The gradient of tanh is made of its result, so both products are computed again.
    assert (found["forward"], found["recompute"], found["backward"]) == (2 * one, 2 * one, 4 * one)
    assert found["doubled"] == found["padding"] == found["other"] == 0


def test_a_collective_in_a_loop_that_is_not_entered_moves_nothing():
    inner = GPU.replace(
        "  %one = s32[] constant(1)",
        "  %within = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%x), replica_groups=[1,4]<=[4], dimensions={0}\n"
        "  %done = bf16[8,4]{1,0} all-gather-done(%within)\n  %one = s32[] constant(1)",
    )
    closed = inner.replace('known_trip_count":{"n":"3"', 'known_trip_count":{"n":"0"')
    count = [
        sum(c["run"] for c in account(t, Needed(1.0, 0.0), hardware())["collectives"])
        for t in (inner, closed)
    ]
    assert count == [2 + 3, 2]


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("replica_groups={{0,1},{2,3}}", (0, 1)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}", (0, 4)),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", tuple(range(8))),
        ("source_target_pairs={{0,1},{1,0}}", (0, 1)),
    ],
)
def test_groups_of_a_collective(groups, devices):
    text = GPU.replace("replica_groups={{0,1,2,3}}", groups)
    assert {o.group for o in operations(parse(text)) if o.name == "ar"} == {devices}


def test_a_group_with_one_device_a_node_waits_for_the_network():
    far = GPU.replace("replica_groups={{0,1,2,3}}", "replica_groups={{0,8,16,24}}")
    hw = hardware("h100-sxm")
    row = next(
        c for c in account(far, Needed(1.0, 0.0), hw)["collectives"] if c["collective"] == "all-reduce"
    )
    assert row["over"] == "network" and row["seconds"] == pytest.approx(row["received"] / hw.network)


def test_splash_kernels_are_known_by_their_names():
    call = 'custom-call(%a), custom_call_target="tpu_custom_call"'
    names = ("splash_mha_fwd_segmented_residuals.5", "splash_mha_dq_segmented_no_residuals.1")
    alone, both = (
        "HloModule m\nENTRY %main (a: bf16[4]) -> bf16[4] {\n  %a = bf16[4]{0} parameter(0)\n"
        + "".join(f"  %{name} = bf16[4]{{0}} {call}\n" for name in some)
        + "}\n"
        for some in (names[:1], names)
    )
    assert account(alone, Needed(1.0, 8.0), hardware())["attention_runs"] == {
        "forward": 1, "recompute": 0, "backward": 0
    }  # fmt: skip
    found = account(both, Needed(1.0, 8.0), hardware())
    assert found["attention_runs"] == {"forward": 0, "recompute": 1, "backward": 1}
    assert set(found["kernels"]) == {name.rpartition(".")[0] for name in names}
