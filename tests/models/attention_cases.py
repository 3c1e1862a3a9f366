"""Inputs of attention tests and the whole masked square to compare with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def square(q, k, v, segment_ids, window=None, scale=None):
    """softmax(scale * q k^T) v with the full mask, head by head of the query."""
    S, group = q.shape[1], q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, group, axis=2), jnp.repeat(v, group, axis=2)
    scores = jnp.einsum("bsnh,btnh->bnst", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    i, j = jnp.arange(S)[:, None], jnp.arange(S)[None, :]
    seen = (j <= i) & (segment_ids[:, :, None] == segment_ids[:, None, :])
    if window is not None:
        seen &= i - j < window
    return jnp.einsum("bnst,btnh->bsnh", jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), -1), v)


def inputs(S, B=2, N=6, K=2, H=8, J=None, dtype=jnp.float32):
    """(q, k, v, segment_ids, cotangent); the first row holds two documents and padding, others one."""
    J = J or H
    keys = jax.random.split(jax.random.key(S), 4)
    shapes = ((N, H), (K, H), (K, J), (N, J))
    q, k, v, ct = (jax.random.normal(key, (B, S, *s), dtype) for key, s in zip(keys, shapes, strict=True))
    marks = np.ones((B, S), np.int32)
    marks[0, S // 3 :], marks[0, S - 2 :] = 2, 0
    return q, k, v, jnp.asarray(marks), ct


@functools.partial(jax.jit, static_argnums=0, static_argnames=("options",))
def _run(f, q, k, v, seg, ct, *, options):
    out, pull = jax.vjp(lambda q, k, v: f(q, k, v, seg, **dict(options)), q, k, v)
    return out, *pull(ct)


def run(f, q, k, v, seg, ct, **options):
    """Output and the three gradients of `f(q, k, v, seg, **options)`."""
    return [np.asarray(x) for x in _run(f, q, k, v, seg, ct, options=tuple(options.items()))]


def assert_near(ours, right, tolerance=1e-5):
    """Each array within `tolerance` of the largest value of its reference (or of 1, where that is less)."""
    for name, a, b in zip(("out", "dq", "dk", "dv"), ours, right, strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.isfinite(a).all(), name
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1.0), name
