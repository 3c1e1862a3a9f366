"""What the compiled expert layer sends, that it cannot hang, and the exchange that only accelerators run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from jax.sharding import PartitionSpec as P
from moe_cases import CFG, KINDS, SLACK, case, check, on_mesh, put, step

from tests.cases import long_but
from xlam_jax.errors import InputError
from xlam_jax.models.experts import moe_ffn
from xlam_jax.models.routing import route
from xlam_jax.parallel.collectives import collectives_under_cond, count_collectives
from xlam_jax.parallel.exchange.shards import vary

MESH = {"data": 2, "fsdp": 2, "expert": 2}


def branchy(cure):
    """Two matrices, equal on all devices of `data`, first used under a condition that differs between them."""
    mesh = on_mesh({"data": 8})

    def body(x, w, v):
        if cure:
            w, v = vary((w, v), ("data",))
        return jax.lax.cond(x.sum() > 0, lambda x: jnp.tanh(x @ w) @ v, lambda x: x, x)

    def loss(x, w, v):
        return jax.shard_map(body, in_specs=(P("data"), P(), P()), out_specs=P("data"))(x, w, v).sum()

    with jax.set_mesh(mesh):
        args = jnp.ones((8, 4)), jnp.ones((4, 4)), jnp.ones((4, 4))
        return jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(*args)


def test_the_linter_finds_sums_that_could_hang_and_the_cure_moves_them():
    found = collectives_under_cond(branchy(cure=False))
    assert len(found) == 2 and all("cond" in line and "psum" in line for line in found)
    assert collectives_under_cond(branchy(cure=True)) == []
    assert "psum" in str(branchy(cure=True))  # not gone, but outside


def gradient_jaxpr(exchange):
    mesh = on_mesh({"data": 2, "expert": 2, "tensor": 2})
    with jax.set_mesh(mesh):
        return jax.make_jaxpr(step("batched", exchange))(*put(mesh, *case("balanced", 0)))


@pytest.mark.parametrize("exchange", ["none", "gather"])
def test_no_collective_depends_on_a_value(exchange):
    jaxpr = gradient_jaxpr(exchange)
    assert "while" in str(jaxpr)  # windows are there to be looked into
    assert collectives_under_cond(jaxpr) == []


def test_rounds_of_all_to_all_are_agreed_on_by_every_device():
    jaxpr = gradient_jaxpr("all_to_all")
    found = collectives_under_cond(jaxpr)
    assert found and all("all_to_all" in line and "cond" not in line for line in found)
    # One loop over rounds in each direction; the loops over windows inside hold nothing.
    assert all(line.count("while") == 1 for line in found)
    assert "pmax[axes=('data', 'expert', 'tensor')" in str(jaxpr)


def test_collectives_are_read_from_the_text_of_a_program():
    text = """
      %ag = f32[8]{0} all-gather(%p), channel_id=1
      %both = (f32[8]{0}, s32[]) all-reduce(%a, %b), channel_id=2
      %start = (f32[8]{0}, f32[64]{0}) all-gather-start(%p), channel_id=3
      %done = f32[64]{0} all-gather-done(%start)
      ROOT %x = f32[8]{0} add(%ag, %ag), metadata={op_name="all-reduce(of)"}
    """
    assert count_collectives(text) == {"all-gather": 2, "all-reduce": 1}


# The table of `xlam_jax.parallel.exchange`, one layer, forwards and with the backward pass.
G, R, A = "all-gather", "reduce-scatter", "all-to-all"
CONTRACT = {
    # Axes that split nothing but rows: each device computes its own tokens.
    ("data", "none"): ({}, {"all-reduce": 1}),
    ("fsdp", "none"): ({G: 3}, {G: 3, R: 3}),
    ("expert", "none"): ({G: 3}, {G: 3, R: 3}),
    ("tensor", "none"): ({"all-reduce": 1}, {"all-reduce": 2}),
    ("expert", "gather"): ({G: 3, R: 1}, {G: 4, R: 3}),
    ("expert", "all_to_all"): ({A: 4}, {A: 7}),
}


@pytest.mark.optimised
@pytest.mark.parametrize(
    ("axis", "exchange"),
    long_but((("fsdp", "none"), ("expert", "gather"), ("expert", "all_to_all")), CONTRACT),
    ids=str,
)
def test_communication_is_what_the_table_says(axis, exchange):
    mesh = on_mesh({axis: 8})

    def layer(x, weights, experts, routing):
        routing = routing._replace(weights_BSK=weights)
        # Capacity for all: one window, one round.
        return moe_ffn(x, routing, experts, CFG, exchange=exchange, slack=100.0)[0]

    def loss(*args):
        return jnp.sin(layer(*args)).sum()

    def count(fn, args):
        return count_collectives(jax.jit(fn).lower(*args).compile().as_text())

    with jax.set_mesh(mesh):
        x, router, experts, mask = put(mesh, *case("balanced", 0))
        routing = jax.jit(route, static_argnums=2)(x, router, CFG, mask)
        args = (x, routing.weights_BSK, experts, routing)
        found = count(layer, args), count(jax.grad(loss, (0, 1, 2)), args)
    assert found == CONTRACT[axis, exchange]


def summed_over(axis, jaxpr):
    """Sizes of the matrices of experts that the program sums over a mesh axis."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith("psum") and axis in eqn.params["axes"]:
            yield from (v.aval.size for v in eqn.invars if v.aval.ndim == 3)
        for inner in core.jaxprs_in_params(eqn.params):
            yield from summed_over(axis, inner)


@pytest.mark.parametrize("exchange", ["none", "gather", "all_to_all"])
def test_only_a_devices_own_part_of_a_gradient_goes_to_other_nodes(exchange):
    mesh = on_mesh(MESH)
    with jax.set_mesh(mesh):
        args = put(mesh, *case("balanced", 0))
        jaxpr = jax.make_jaxpr(step("batched", exchange))(*args).jaxpr
    found = list(summed_over("data", jaxpr))
    assert found == [max(w.size for w in args[2]) // (MESH["fsdp"] * MESH["expert"])] * 3


@pytest.mark.optimised
def test_routing_is_local_but_for_its_sums():
    """No device gathers the router's scores: only the statistics are reduced."""
    mesh = on_mesh({"data": 8})
    with jax.set_mesh(mesh):
        x, router, _, mask = put(mesh, *case("balanced", 0))
        text = jax.jit(route, static_argnums=2).lower(x, router, CFG, mask).compile().as_text()
    assert set(count_collectives(text)) == {"all-reduce"}


def emulated(rows, empty, sent_from, send_sizes, arrive_at, receive_sizes, *, axis_name):
    """`jax.lax.ragged_all_to_all` by its documentation, over a padded exchange of equal parts."""
    longest = jnp.arange(rows.shape[0])
    exchange = functools.partial(
        jax.lax.all_to_all, axis_name=axis_name, split_axis=0, concat_axis=0, tiled=True
    )
    parts = rows[jnp.minimum(sent_from[:, None] + longest, rows.shape[0] - 1)]
    place = exchange(arrive_at)[:, None] + longest
    wrong = exchange(send_sizes) != receive_sizes
    place = jnp.where((longest < receive_sizes[:, None]) & ~wrong[:, None], place, empty.shape[0])
    flat = exchange(parts).reshape(-1, *rows.shape[1:])
    return empty.at[place.reshape(-1)].set(flat, mode="drop")


@pytest.fixture
def on_accelerator(monkeypatch):
    monkeypatch.setattr("xlam_jax.parallel.exchange.ragged._need_accelerator", lambda: None)
    step.cache_clear()
    yield
    step.cache_clear()


@pytest.mark.parametrize("sizes", [{"data": 2, "expert": 4}, MESH], ids=str)
def test_ragged_plan_equals_one_device_when_the_move_is_emulated(sizes, on_accelerator, monkeypatch):
    monkeypatch.setattr("xlam_jax.parallel.exchange.ragged._ragged_all_to_all", emulated)
    for kind in KINDS:
        assert check(on_mesh(sizes), kind, 0, "batched", "ragged")["rounds"] == 1


def test_ragged_lowers_for_cuda(on_accelerator):
    with jax.set_mesh(on_mesh({"expert": 8})):
        args = put(on_mesh({"expert": 8}), *case("balanced", 0))
        lowered = step("batched", "ragged").trace(*args).lower(lowering_platforms=("cuda",))
    # Hidden states, ids and weights there, sums back; then the gradients of all but the ids.
    assert lowered.as_text().count("@ragged_all_to_all") == 7


def test_ragged_says_that_the_cpu_cannot():
    x, router, experts, mask = case("balanced", 0)
    with jax.set_mesh(on_mesh({"expert": 8})), pytest.raises(InputError, match="needs a GPU or TPU"):
        moe_ffn(x, route(x, router, CFG, mask), experts, CFG, exchange="ragged", slack=SLACK)


def test_results_are_the_same_bits_every_time():
    mesh = on_mesh({"data": 2, "expert": 4})
    with jax.set_mesh(mesh):
        args = put(mesh, *case("skewed", 0))
        one, two = (jax.tree.leaves(step("batched", "gather")(*args)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
