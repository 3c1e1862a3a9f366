"""Attention in plain XLA, block by block: the reference, and the arithmetic of context parallelism.

A block of queries multiplies only with the keys it may see, so about half of the causal square (and all of
it outside a sliding window) is never computed. Scores are recomputed in the backward pass from the saved
log-sum-exp (Dao et al. 2022, arXiv:2205.14135), and no more than `MIN_BLOCK` positions have scores at one
time, so memory grows with S and not with its square.

Shape legend: B rows, S query positions, T key positions, N query heads, K key/value heads, G = N / K,
H width of queries and keys, J width of values, R = S * G rows of queries that share a key head.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

MIN_BLOCK = 128  # queries; measured fastest for the backward pass on the CPU at S of 512 and 1024
MAX_BLOCKS = 16  # blocks are unrolled, so their number bounds the program's size
MASKED = -1e30  # finite: a row without any key still gives finite numbers


class Heads(NamedTuple):
    """Queries, keys and values by key head, and where they stand.

    Attributes:
      q: [B, K, R, H], the G queries of one position beside each other.
      k, v: [B, K, T, H], [B, K, T, J].
      q_seg, k_seg: int32 [B, S], [B, T].
      offset: global position of the first query minus that of the first key, a scalar; None when queries and
        keys are the same positions, and then blocks that causality hides are never computed.
      branches: int32 [B, S] where segments fork (offset is None then); see `models.attention.attend`.
    """

    q: jax.Array
    k: jax.Array
    v: jax.Array
    q_seg: jax.Array
    k_seg: jax.Array
    offset: jax.Array | None = None
    branches: jax.Array | None = None


def blocked(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKJ: jax.Array,
    segment_ids_BS: jax.Array,
    *,
    window: int | None,
    scale: float,
    branches_BS: jax.Array | None = None,
) -> jax.Array:
    """The `xla` backend; see `models.attention.attend`.

    Args:
      q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS, branches_BS: as there.
      window: counted along the row, so None where segments fork.
      scale: of the scores.
    """
    return _blocked(q_BSNH, k_BSKH, v_BSKJ, (segment_ids_BS, branches_BS), window, scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _blocked(q_BSNH, k_BSKH, v_BSKJ, ids, window, scale):
    return _blocked_fwd(q_BSNH, k_BSKH, v_BSKJ, ids, window, scale)[0]


def _blocked_fwd(q_BSNH, k_BSKH, v_BSKJ, ids, window, scale):
    heads = by_head(q_BSNH, k_BSKH, v_BSKJ, ids[0])._replace(branches=ids[1])
    out, lse_BKR1 = forward(heads, window, scale, q_BSNH.dtype)
    out_BSNJ = checkpoint_name(by_position(out, q_BSNH), "attn_out")
    return out_BSNJ, (q_BSNH, k_BSKH, v_BSKJ, ids, out_BSNJ, checkpoint_name(lse_BKR1, "attn_out"))


def _blocked_bwd(window, scale, saved, d_out_BSNJ):
    q_BSNH, k_BSKH, v_BSKJ, ids, out_BSNJ, lse = saved
    heads = by_head(q_BSNH, k_BSKH, v_BSKJ, ids[0])._replace(branches=ids[1])
    d_out, delta = output_gradient(d_out_BSNJ, out_BSNJ, k_BSKH)
    d_q, d_k, d_v = backward(heads, d_out, lse, delta, window, scale)
    return by_position(d_q, q_BSNH), by_position(d_k, k_BSKH), by_position(d_v, v_BSKJ), None


_blocked.defvjp(_blocked_fwd, _blocked_bwd)


def forward(heads: Heads, window: int | None, scale: float, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """(out [B, K, R, J] in `dtype`, log-sum-exp of the scores, float32 [B, K, R, 1]).

    A query that sees no key gets a finite output and a log-sum-exp of about `MASKED`, so that it weighs
    nothing when it is joined with another part of the keys.

    Args:
      window: a position sees itself and the `window - 1` before it; None for no limit.
      scale: of the scores.
    """

    def block(b: _Block) -> tuple[jax.Array, jax.Array]:
        q, k, v = b.queries(heads.q), heads.k[:, :, b.keys], heads.v[:, :, b.keys]
        scores = _scores(q, k, b.seen_BQT(heads, window), scale)
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        out = _dot("bkrt,bktj->bkrj", weights.astype(v.dtype), v)
        return (out / total).astype(dtype), top + jnp.log(total)

    outs, lses = [], []
    for run in _runs(heads, window):
        if run.count == 1:
            out, lse = block(run.block(0))
        else:
            out, lse = jax.lax.map(lambda i, run=run: block(run.block(i)), jnp.arange(run.count))
            out, lse = _join_blocks(out), _join_blocks(lse)
        outs.append(out)
        lses.append(lse)
    return jnp.concatenate(outs, axis=2), jnp.concatenate(lses, axis=2)


def backward(
    heads: Heads, d_out: jax.Array, lse: jax.Array, delta: jax.Array, window: int | None, scale: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v by key head, float32; `d_out` and `delta` from `output_gradient`.

    `lse` and `delta` are those of the whole row of keys, also where `heads` holds only a part of the keys.

    Args:
      d_out: [B, K, R, J].
      lse: of `forward`, float32 [B, K, R, 1].
      delta: float32 [B, K, R, 1].
      window, scale: as in `forward`.
    """

    def block(b: _Block) -> tuple[jax.Array, jax.Array, jax.Array]:
        q, k, v = b.queries(heads.q), heads.k[:, :, b.keys], heads.v[:, :, b.keys]
        d_o = b.queries(d_out)
        weights = jnp.exp(_scores(q, k, b.seen_BQT(heads, window), scale) - b.queries(lse))
        d_weights = _dot("bkrj,bktj->bkrt", d_o, v)
        d_scores = (weights * (d_weights - b.queries(delta))).astype(q.dtype)
        return (
            _dot("bkrt,bkth->bkrh", d_scores, k) * scale,
            _dot("bkrt,bkrh->bkth", d_scores, q),
            _dot("bkrt,bkrj->bktj", weights.astype(v.dtype), d_o),
        )

    d_qs = []
    d_k, d_v = jnp.zeros_like(heads.k, jnp.float32), jnp.zeros_like(heads.v, jnp.float32)
    for run in _runs(heads, window):
        if run.count == 1:
            d_q, more_k, more_v = block(run.block(0))
        else:

            def add(sums: tuple, i: jax.Array, run: _Run = run) -> tuple:
                d_q, more_k, more_v = block(run.block(i))
                return (sums[0] + more_k, sums[1] + more_v), d_q

            # Zeros made from the operands vary over the same mesh axes as the sums.
            none = (jnp.zeros_like(d_k[:, :, run.keys]), jnp.zeros_like(d_v[:, :, run.keys]))
            (more_k, more_v), d_q = jax.lax.scan(add, none, jnp.arange(run.count))
            d_q = _join_blocks(d_q)
        d_qs.append(d_q)
        d_k, d_v = _add_at(d_k, more_k, run.keys), _add_at(d_v, more_v, run.keys)
    return jnp.concatenate(d_qs, axis=2), d_k * scale, d_v


def _add_at(total: jax.Array, more: jax.Array, keys: slice) -> jax.Array:
    # Not `.at[].add`: its constants become inputs of an enclosing `shard_map` that XLA then finds unused, and
    # the XLA of jax 0.11 ends the process over those.
    return jax.lax.dynamic_update_slice_in_dim(total, total[:, :, keys] + more, keys.start or 0, axis=2)


def output_gradient(
    d_out_BSNJ: jax.Array, out_BSNJ: jax.Array, k_BSKH: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(d_out by key head, its product with the output summed over J: float32 [B, K, R, 1])."""
    product = d_out_BSNJ.astype(jnp.float32) * out_BSNJ.astype(jnp.float32)
    delta = product.sum(axis=-1, keepdims=True)
    return _by_key_head(d_out_BSNJ, k_BSKH), _by_key_head(delta, k_BSKH)


def by_head(q_BSNH, k_BTKH, v_BTKJ, q_seg_BS, k_seg_BT=None, offset=None) -> Heads:
    """`Heads` of arrays laid out by position.

    Args:
      q_BSNH: laid out by position, as are the keys [B, T, K, H] and values [B, T, K, J].
      q_seg_BS, k_seg_BT: int32 segment ids; without `k_seg_BT` the keys have those of the queries.
      offset: see `Heads`; None where queries and keys are the same positions.
    """
    q, k, v = (_by_key_head(x, k_BTKH) for x in (q_BSNH, k_BTKH, v_BTKJ))
    return Heads(q, k, v, q_seg_BS, q_seg_BS if k_seg_BT is None else k_seg_BT, offset)


def by_position(x_BKRH: jax.Array, like_BSNH: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """[B, K, S * G, H] -> [B, S, K * G, H], in the dtype and with the positions of `like_BSNH`."""
    B, K, _, H = x_BKRH.shape
    S = like_BSNH.shape[1]
    x = x_BKRH.astype(like_BSNH.dtype).reshape(B, K, S, -1, H)
    return x.swapaxes(1, 2).reshape(B, S, -1, H)


class _Block(NamedTuple):
    """`size` query positions from `start` on, and the keys they are compared with."""

    start: Any  # a number, or traced inside a loop
    size: int
    keys: slice
    group: int

    def queries(self, x_BKRH: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(x_BKRH, self.start * self.group, self.size * self.group, axis=2)

    def seen_BQT(self, heads: Heads, window: int | None) -> jax.Array:
        """Which query of the block may see which of its keys."""
        queries = self.start + jnp.arange(self.size)
        if heads.offset is not None:
            queries += heads.offset
        distance = queries[:, None] - jnp.arange(self.keys.start, self.keys.stop)[None, :]
        seen = distance >= 0
        if window is not None:
            seen &= distance < window
        q_seg = jax.lax.dynamic_slice_in_dim(heads.q_seg, self.start, self.size, axis=1)
        seen &= q_seg[:, :, None] == heads.k_seg[:, None, self.keys]
        if heads.branches is not None:
            q_branch = jax.lax.dynamic_slice_in_dim(heads.branches, self.start, self.size, axis=1)
            k_branch = heads.branches[:, None, self.keys]
            seen &= (k_branch == 0) | (k_branch == q_branch[:, :, None])
        return seen


class _Run(NamedTuple):
    """`count` blocks of `size` queries in a row that are compared with the same keys."""

    start: int
    size: int
    count: int
    keys: slice
    group: int

    def block(self, i: Any) -> _Block:
        return _Block(self.start + i * self.size, self.size, self.keys, self.group)


def _runs(heads: Heads, window: int | None) -> Iterator[_Run]:
    queries, keys = heads.q_seg.shape[1], heads.k_seg.shape[1]
    group = heads.q.shape[2] // queries
    # With an offset that only the device knows, every key may be needed: one run.
    long = queries if heads.offset is not None else MIN_BLOCK * -(-queries // (MIN_BLOCK * MAX_BLOCKS))
    for start in range(0, queries, long):
        stop = min(start + long, queries)
        seen = slice(0, keys)
        if heads.offset is None:
            seen = slice(0 if window is None else max(0, start - window + 1), stop)
        whole, rest = divmod(stop - start, MIN_BLOCK)
        if whole:
            yield _Run(start, MIN_BLOCK, whole, seen, group)
        if rest:
            yield _Run(stop - rest, rest, 1, seen, group)


def _scores(q_BKRH: jax.Array, k_BKTH: jax.Array, seen_BQT: jax.Array, scale: float) -> jax.Array:
    scores = _dot("bkrh,bkth->bkrt", q_BKRH, k_BKTH) * scale
    B, K, R, T = scores.shape
    Q = seen_BQT.shape[1]
    # Rows of one position lie together, so the mask is repeated over the group without being stored.
    masked = jnp.where(seen_BQT[:, None, :, None], scores.reshape(B, K, Q, R // Q, T), MASKED)
    return masked.reshape(B, K, R, T)


def _dot(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _join_blocks(x_CBKRH: jax.Array) -> jax.Array:
    """[C, B, K, R, H] of C blocks -> [B, K, C * R, H]."""
    C, B, K, R, H = x_CBKRH.shape
    return jnp.moveaxis(x_CBKRH, 0, 2).reshape(B, K, C * R, H)


def _by_key_head(x_BSNH: jax.Array, k_BSKH: jax.Array) -> jax.Array:
    """[B, S, N, H] -> [B, K, S * G, H]."""
    (B, _, _, H), K = x_BSNH.shape, k_BSKH.shape[2]
    return x_BSNH.reshape(B, -1, K, x_BSNH.shape[2] // K, H).swapaxes(1, 2).reshape(B, K, -1, H)
