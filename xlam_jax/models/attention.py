"""Causal attention within packed segments, by backend.

`xla` is the reference and runs everywhere. It goes over the queries in blocks: a block multiplies only with
the keys it may see, so about half of the causal square (and all of it outside a sliding window) is never
computed. Scores are recomputed in the backward pass from the saved log-sum-exp (Dao et al. 2022,
arXiv:2205.14135), so no [B, N, S, S] array exists and nothing of that size is kept.

Shape legend: B rows, S positions, N query heads, K key/value heads, G = N / K, H head width,
R = positions * G rows of queries that share a key head, T keys of a block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from xlam_jax.errors import InputError

MIN_BLOCK = 128  # queries; measured fastest for the backward pass on the CPU at S of 512 and 1024
MAX_BLOCKS = 16  # blocks are unrolled, so their number bounds the program's size
MASKED = -1e30  # finite: a row without any key still gives finite numbers


def attend(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    *,
    window: int | None = None,
    backend: str = "xla",
    branches_BS: jax.Array | None = None,
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v, causal, within equal segment id.

    Args:
      q_BSNH, k_BSKH, v_BSKH: any float dtype; N is a multiple of K. Scores and softmax are float32.
      segment_ids_BS: int32. Padding (0) is a segment like any other, so each position sees at least itself.
      window: a position sees itself and the `window - 1` before it; None for no limit. Positions of one
        segment are contiguous in a row, so distance in the row is distance in the document.
      backend: a key of `BACKENDS`.
      branches_BS: int32; a segment that forks. Positions of branch 0 are seen by the whole segment, those of
        another branch by that branch only. Backend "xla" only, without a window (row distance is not
        document distance then).

    Returns:
      [B, S, N, H] in the dtype of q. `jax.checkpoint` policies know it as "attn_out".

    Raises:
      InputError: unknown backend, or one that cannot compute branches.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown attention backend {backend!r}", hint="known: " + ", ".join(BACKENDS))
    if branches_BS is not None:
        if backend != "xla":
            raise InputError(
                f"attention backend {backend!r} cannot let two answers share a prompt",
                where="attention",
                hint="attention: xla, or build the data with pair_layout: separate",
            )
        if window is not None and window < k_BSKH.shape[1]:
            raise InputError(
                "a sliding window cannot be measured where two answers share a prompt",
                where="pair_layout",
                hint="build the data with pair_layout: separate",
            )
        return _xla_branched(q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, branches_BS)
    return BACKENDS[backend](q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, window)


def _xla(q_BSNH, k_BSKH, v_BSKH, seg_BS, window):
    return _blockwise(q_BSNH, k_BSKH, v_BSKH, (seg_BS,), window)


def _xla_branched(q_BSNH, k_BSKH, v_BSKH, seg_BS, branches_BS):
    return _blockwise(q_BSNH, k_BSKH, v_BSKH, (seg_BS, branches_BS), None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _blockwise(q_BSNH, k_BSKH, v_BSKH, ids, window):
    """`ids`: segment ids, and branches where segments fork."""
    return _blockwise_fwd(q_BSNH, k_BSKH, v_BSKH, ids, window)[0]


def _blockwise_fwd(q_BSNH, k_BSKH, v_BSKH, ids, window):
    q, k, v = _by_key_head(q_BSNH, k_BSKH), _by_key_head(k_BSKH, k_BSKH), _by_key_head(v_BSKH, k_BSKH)
    outs, lses = [], []
    for block in _blocks(ids, k_BSKH.shape[1], q.shape[2] // k.shape[2], window):
        scores = _scores(q[:, :, block.rows], k[:, :, block.keys], block)
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        out = _dot("bkrt,bkth->bkrh", weights.astype(v.dtype), v[:, :, block.keys])
        outs.append((out / total).astype(q.dtype))
        lses.append(top + jnp.log(total))
    lse_BKR1 = checkpoint_name(jnp.concatenate(lses, axis=2), "attn_out")
    out_BSNH = checkpoint_name(_by_position(jnp.concatenate(outs, axis=2), q_BSNH.shape), "attn_out")
    return out_BSNH, (q_BSNH, k_BSKH, v_BSKH, ids, out_BSNH, lse_BKR1)


def _blockwise_bwd(window, saved, d_out_BSNH):
    q_BSNH, k_BSKH, v_BSKH, ids, out_BSNH, lse = saved
    q, k, v = _by_key_head(q_BSNH, k_BSKH), _by_key_head(k_BSKH, k_BSKH), _by_key_head(v_BSKH, k_BSKH)
    d_out = _by_key_head(d_out_BSNH, k_BSKH)
    product = d_out_BSNH.astype(jnp.float32) * out_BSNH.astype(jnp.float32)
    delta = _by_key_head(product.sum(axis=-1, keepdims=True), k_BSKH)
    d_q = []
    d_k, d_v = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for block in _blocks(ids, k_BSKH.shape[1], q.shape[2] // k.shape[2], window):
        rows, keys = block.rows, block.keys
        weights = jnp.exp(_scores(q[:, :, rows], k[:, :, keys], block) - lse[:, :, rows])
        d_weights = _dot("bkrh,bkth->bkrt", d_out[:, :, rows], v[:, :, keys])
        d_scores = (weights * (d_weights - delta[:, :, rows])).astype(q.dtype)
        d_q.append(_dot("bkrt,bkth->bkrh", d_scores, k[:, :, keys]))
        d_k = d_k.at[:, :, keys].add(_dot("bkrt,bkrh->bkth", d_scores, q[:, :, rows]))
        d_v = d_v.at[:, :, keys].add(_dot("bkrt,bkrh->bkth", weights.astype(v.dtype), d_out[:, :, rows]))
    scale = q_BSNH.shape[-1] ** -0.5
    return (
        _by_position((jnp.concatenate(d_q, axis=2) * scale).astype(q.dtype), q_BSNH.shape),
        _by_position((d_k * scale).astype(k.dtype), k_BSKH.shape),
        _by_position(d_v.astype(v.dtype), v_BSKH.shape),
        None,
    )


_blockwise.defvjp(_blockwise_fwd, _blockwise_bwd)


class _Block(NamedTuple):
    rows: slice  # of R
    keys: slice  # of S
    seen_BQT: jax.Array  # which query of the block may see which key


def _blocks(
    ids: tuple[jax.Array, ...], length: int, group: int, window: int | None
) -> Iterator[_Block]:
    seg_BS, *branches = ids
    size = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    for start in range(0, length, size):
        stop = min(start + size, length)
        first = 0 if window is None else max(0, start - window + 1)
        distance = jnp.arange(start, stop)[:, None] - jnp.arange(first, stop)[None, :]
        seen = distance >= 0
        if window is not None:
            seen &= distance < window
        same = seg_BS[:, start:stop, None] == seg_BS[:, None, first:stop]
        for branch_BS in branches:
            of_key = branch_BS[:, None, first:stop]
            same &= (of_key == 0) | (of_key == branch_BS[:, start:stop, None])
        yield _Block(slice(start * group, stop * group), slice(first, stop), seen & same)


def _scores(q_BKRH: jax.Array, k_BKTH: jax.Array, block: _Block) -> jax.Array:
    scores = _dot("bkrh,bkth->bkrt", q_BKRH, k_BKTH) * q_BKRH.shape[-1] ** -0.5
    B, K, R, T = scores.shape
    Q = block.seen_BQT.shape[1]
    # Rows of one position lie together, so the mask is repeated over the group without being stored.
    masked = jnp.where(block.seen_BQT[:, None, :, None], scores.reshape(B, K, Q, R // Q, T), MASKED)
    return masked.reshape(B, K, R, T)


def _dot(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _by_key_head(x_BSNH: jax.Array, k_BSKH: jax.Array) -> jax.Array:
    """[B, S, N, H] -> [B, K, S * G, H]."""
    (B, S, _, H), K = x_BSNH.shape, k_BSKH.shape[2]
    return x_BSNH.reshape(B, S, K, -1, H).swapaxes(1, 2).reshape(B, K, -1, H)


def _by_position(x_BKRH: jax.Array, shape_BSNH: tuple[int, ...]) -> jax.Array:
    """Inverse of `_by_key_head`."""
    B, S, _, H = shape_BSNH
    return x_BKRH.reshape(B, x_BKRH.shape[1], S, -1, H).swapaxes(1, 2).reshape(shape_BSNH)


# A backend for one kind of accelerator is one function (q, k, v, segment_ids, window) -> out in this table.
BACKENDS: dict[str, Callable[..., jax.Array]] = {"xla": _xla}  # pyright: ignore[reportAssignmentType]
