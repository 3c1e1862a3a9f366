"""On fake CPU devices no two collectives of a program can take each other's data: their channels differ."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax._src import compiler
from jax.sharding import PartitionSpec as P

from tests import tiny
from xlam_jax.models.named import named_config
from xlam_jax.parallel.fake_devices import number_channels, separate_channels
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.shards.batch import Batch
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.step import init_state, make_step, micro_sharding

W = np.arange(3.0, dtype=np.float32) + 1


def program(mesh):
    """A jitted sum over `fsdp`, before a loop, in it and in a function called twice that sums twice.

    JAX lowers calls that are alike to one function.
    """

    def summed(x):
        return jax.lax.psum(x, "fsdp")

    inner = jax.jit(jax.shard_map(summed, mesh=mesh, in_specs=P("fsdp"), out_specs=P()))

    twice = jax.jit(lambda x: inner(x) * inner(jnp.flip(x) + 1))

    def f(x, w):
        looped, _ = jax.lax.scan(lambda c, w: (inner(jnp.concatenate([c, c * w])), None), inner(x), w)
        return jnp.sin(twice(jnp.cos(looped).repeat(2))) + twice(looped.repeat(2))

    return jax.jit(f)


def channels(text: str) -> list[str]:
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    lines = [line for line in text.splitlines() if re.search(rf"= .*? ({kinds})(-start)?\(", line)]
    return [re.findall(r"channel_id=(\d+)", line)[0] for line in lines]


@pytest.mark.optimised
def test_functions_called_twice_get_channels_for_each_call_and_stay_right():
    mesh = make_mesh(MeshConfig(fsdp=2))
    x = np.arange(8.0, dtype=np.float32)
    run = program(mesh)
    found = channels(run.lower(x, W).compile().as_text())
    assert len(found) >= 4  # XLA may join two that are ready
    assert len(set(found)) == len(found)

    def by_hand(x):
        return x[: len(x) // 2] + x[len(x) // 2 :]

    c = by_hand(x)
    for w in W:
        c = by_hand(np.concatenate([c, c * w]))

    def twice(x):
        return by_hand(x) * by_hand(x[::-1] + 1)

    want = np.sin(twice(np.cos(c).repeat(2))) + twice(c.repeat(2))
    np.testing.assert_allclose(run(x, W), want, rtol=1e-5)


def test_numbers_are_the_same_every_time():
    """Processes that compile the same program must agree, and so must the compilation cache of two runs."""
    mesh = make_mesh(MeshConfig(fsdp=2))
    x = np.arange(8.0, dtype=np.float32)
    texts = []
    for _ in range(2):
        lowered = program(mesh).lower(x, W).compiler_ir()
        assert str(lowered).count("channel_handle<") < 6  # functions of them are called more than once
        assert number_channels(lowered) == 6
        assert number_channels(lowered) == 6
        handles = re.findall(r"channel_handle<handle = (\d+), type = 1>", str(lowered))
        assert sorted(handles) == list("123456")
        assert lowered.operation.verify()
        texts.append(str(lowered))
    assert texts[0] == texts[1]


def test_what_has_no_collectives_is_left_alone():
    lowered = jax.jit(lambda x: jnp.tanh(x) @ x.T).lower(np.ones((4, 4), np.float32)).compiler_ir()
    before = str(lowered)
    assert number_channels(lowered) == 0
    assert str(lowered) == before


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-mixtral", "tiny-deepseek-v2"])
def test_collectives_of_the_training_step_cannot_meet_each_other(name):
    """The head is gathered and its gradient scattered over the devices that the experts use inside the loops."""
    cfg = named_config(name)
    mesh = make_mesh(MeshConfig(fsdp=2, expert=4))
    rows = np.random.default_rng(0).integers(1, cfg.vocab_size, (8, 16)).astype(np.int32)
    ones = np.ones_like(rows)
    positions = np.arange(16, dtype=np.int32) * ones
    batch = Batch(rows, np.roll(rows, -1, axis=1), ones.astype(np.float32), ones, positions)
    with jax.set_mesh(mesh):
        state, state_shardings = init_state(tiny.params(cfg), cfg, optax.identity(), mesh)
        placed = jax.device_put(jax.tree.map(lambda a: a[None], batch), micro_sharding(mesh))
        step = make_step(sft_objective(cfg), optax.identity(), state_shardings)
        found = channels(step.lower(state, placed, jnp.float32(0)).compile().as_text())
    assert len(found) > 20
    assert len(set(found)) == len(found)


def test_a_jax_that_compiles_by_another_way_is_told_of(monkeypatch, caplog):
    separate_channels()
    wrapped = compiler.compile_or_get_cached
    separate_channels()
    assert compiler.compile_or_get_cached is wrapped  # not wrapped again
    monkeypatch.delattr(compiler, "compile_or_get_cached")
    separate_channels()
    assert "do not trust a loss" in caplog.text
