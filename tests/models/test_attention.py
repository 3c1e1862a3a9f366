"""The blocked attention against the whole square written out: values, gradients, packing, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.attention_cases import assert_near, inputs, run, square
from xlam_jax.errors import InputError
from xlam_jax.models.attention import attend, blocked


@pytest.mark.parametrize(("S", "window"), [(1, None), (32, None), (45, None), (45, 1), (45, 5), (45, 40)])
def test_equals_the_whole_square(S, window, monkeypatch):
    monkeypatch.setattr(blocked, "MIN_BLOCK", 16)
    case = inputs(S)
    assert_near(run(attend, *case, window=window), run(square, *case, window=window), 2e-6)


@pytest.mark.parametrize("window", [None, 1, 7, 30])
def test_loops_over_blocks_equal_the_whole_square(window, monkeypatch):
    # 45 = 2 long blocks of 5 loops and 5 loops of 4 queries less 3, with a rest of 1.
    monkeypatch.setattr(blocked, "MIN_BLOCK", 4)
    monkeypatch.setattr(blocked, "MAX_BLOCKS", 2)
    case = inputs(45)
    assert [r.count for r in blocked._runs(blocked.by_head(*case[:4]), window)] == [6, 5, 1]
    assert_near(run(attend, *case, window=window), run(square, *case, window=window), 2e-6)


@pytest.mark.parametrize(
    "sizes", [{"N": 4, "K": 4, "H": 24, "J": 16}, {"N": 4, "K": 1}, {"N": 4, "K": 2, "J": 12}], ids=str
)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_widths_of_values_and_scale(sizes, scale):
    case = inputs(20, **sizes)
    ours = run(attend, *case, scale=scale, window=9)
    assert ours[0].shape == (2, 20, 4, sizes.get("J", 8))
    assert_near(ours, run(square, *case, scale=scale, window=9))


def test_packed_equals_unpacked():
    q, k, v, seg, ct = inputs(40)
    packed = run(attend, q, k, v, seg, ct, window=11)
    for start, stop in ((0, 13), (13, 38)):
        alone = (x[:1, start:stop] for x in (q, k, v, seg, ct))
        assert_near([x[:1, start:stop] for x in packed], run(attend, *alone, window=11))


def test_a_document_does_not_feel_another():
    q, k, v, seg, ct = inputs(40)
    before = run(attend, q, k, v, seg, ct)
    other = [x.at[:, 13:].multiply(-3.0) for x in (q, k, v)]
    after = run(attend, *other, seg, ct.at[:, 13:].add(7.0))
    for name, a, b in zip(("out", "dq", "dk", "dv"), before, after, strict=True):
        assert (a[0, :13] == b[0, :13]).all(), name
        assert (a[0, 13:] != b[0, 13:]).any(), name


def test_blocks_are_bounded_in_number():
    q, k, v, seg, _ = (jax.eval_shape(lambda x=x: x) for x in inputs(4096, B=1, N=1, K=1, H=2))
    runs = list(blocked._runs(blocked.Heads(q.update(shape=(1, 1, 4096, 2)), k, v, seg, seg), None))
    assert len(runs) == blocked.MAX_BLOCKS
    assert (runs[-1].count, runs[-1].keys) == (2, slice(0, 4096))


@pytest.mark.optimised
def test_memory_grows_with_the_length_and_not_its_square(monkeypatch):
    monkeypatch.setattr(blocked, "MAX_BLOCKS", 4)  # a program that compiles sooner, of the same kind

    def temporaries(S):
        shapes = [jax.ShapeDtypeStruct((1, S, heads, 16), jnp.float32) for heads in (2, 1, 1, 2)]
        seg = jax.ShapeDtypeStruct((1, S), jnp.int32)
        step = jax.checkpoint(lambda q, k, v, seg: attend(q, k, v, seg))

        def both(q, k, v, ct, seg):
            return jax.vjp(lambda *qkv: step(*qkv, seg), q, k, v)[1](ct)

        return jax.jit(both).lower(*shapes, seg).compile().memory_analysis().temp_size_in_bytes

    sizes = {S: temporaries(S) for S in (2048, 8192)}
    # Four times the length: 4 when linear, 16 when quadratic.
    assert sizes[8192] / sizes[2048] < 5, sizes
    assert sizes[8192] < 2 * 8192 * 8192 * 4 / 4, sizes  # a quarter of one square of float32 scores


def test_agrees_with_jax_nn_on_a_window():
    q, k, v, _, _ = inputs(40)
    seg = jnp.ones((2, 40), jnp.int32)
    theirs = jax.jit(
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=(8, 0))
    )
    ours = jax.jit(functools.partial(attend, window=9))(q, k, v, seg)
    np.testing.assert_allclose(ours, theirs(q, k, v), rtol=1e-5, atol=1e-6)


def test_bf16_keeps_its_dtype_and_stays_near():
    q, k, v, seg, ct = inputs(33, dtype=jnp.bfloat16)
    ours = run(attend, q, k, v, seg, ct)
    assert {x.dtype for x in ours} == {jnp.dtype(jnp.bfloat16)}
    q, k, v, ct = (x.astype(jnp.float32) for x in (q, k, v, ct))
    assert_near(ours, run(square, q, k, v, seg, ct), 0.02)


def test_unknown_backend():
    q, k, v, seg, _ = inputs(4)
    with pytest.raises(InputError, match="unknown attention backend 'flash9'"):
        attend(q, k, v, seg, backend="flash9")
