"""The blocked attention against the whole square written out, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.models import attention
from xlam_jax.models.attention import attend


def square(q, k, v, segment_ids, window):
    """softmax(q k^T) v with the full mask, head by head of the query."""
    S, group = q.shape[1], q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, group, axis=2), jnp.repeat(v, group, axis=2)
    scores = jnp.einsum("bsnh,btnh->bnst", q, k) / jnp.sqrt(q.shape[-1])
    i, j = jnp.arange(S)[:, None], jnp.arange(S)[None, :]
    seen = (j <= i) & (segment_ids[:, :, None] == segment_ids[:, None, :])
    if window is not None:
        seen &= i - j < window
    return jnp.einsum("bnst,btnh->bsnh", jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), -1), v)


def inputs(S, B=2, N=6, K=2, H=8, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(S), 4)
    q, ct = (jax.random.normal(k, (B, S, N, H), dtype) for k in keys[:2])
    k, v = (jax.random.normal(k, (B, S, K, H), dtype) for k in keys[2:])
    marks = np.zeros((B, S), np.int32)
    marks[0, : S // 3], marks[0, S // 3 : S - 2] = 1, 2  # the rest is padding
    marks[1] = 1
    return q, k, v, jnp.asarray(marks), ct


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(f, window, q, k, v, seg, ct):
    """Output and the three gradients."""
    out, pull = jax.vjp(lambda q, k, v: f(q, k, v, seg, window=window), q, k, v)
    return out, *pull(ct)


@pytest.mark.parametrize(("S", "window"), [(1, None), (32, None), (45, None), (45, 1), (45, 5), (45, 40)])
def test_equals_the_whole_square(S, window, monkeypatch):
    monkeypatch.setattr(attention, "MIN_BLOCK", 16)
    q, k, v, seg, ct = inputs(S)

    ours, right = run(attend, window, q, k, v, seg, ct), run(square, window, q, k, v, seg, ct)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), ours, right)


def test_blocks_are_bounded_in_number():
    blocks = list(attention._blocks(jnp.ones((1, 4096), jnp.int32), 4096, 1, None))
    assert len(blocks) == attention.MAX_BLOCKS
    assert blocks[-1].rows.stop == 4096


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
    ours = run(attend, None, q, k, v, seg, ct)
    assert {x.dtype for x in ours} == {jnp.dtype(jnp.bfloat16)}
    q, k, v, ct = (x.astype(jnp.float32) for x in (q, k, v, ct))
    for a, b in zip(ours, run(square, None, q, k, v, seg, ct), strict=True):
        assert float(jnp.abs(a.astype(jnp.float32) - b).max()) < 0.02 * float(jnp.abs(b).max())


def test_unknown_backend():
    q, k, v, seg, _ = inputs(4)
    with pytest.raises(InputError, match="known: xla"):
        attend(q, k, v, seg, backend="flash9")
