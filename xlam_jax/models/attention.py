"""Causal attention within packed segments, by backend.

`xla` is the reference and runs everywhere. It goes over the queries in blocks: a block multiplies only with the
keys it may see, so about half of the causal square is never computed, and no [B, N, S, S] array exists.

Shape legend: B rows, S positions, N query heads, K key/value heads, G = N / K, H head width, Q block of queries, T keys.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xlam_jax.errors import InputError

Q_BLOCK = 256
# Finite, so that the softmax of a row never divides zero by zero.
MASKED = -1e30


def attend(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segment_ids_BS: jax.Array,
    *,
    window: int | None = None,
    backend: str = "xla",
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v, causal, within equal segment id.

    Args:
      q_BSNH, k_BSKH, v_BSKH: any float dtype; N is a multiple of K.
      segment_ids_BS: int32. Padding (0) is a segment like any other, so every row of scores has an entry to attend to.
      window: a position sees itself and the `window - 1` before it; None for no limit. Positions of one segment
        are contiguous in a row, so distance in the row is distance in the document.
      backend: a key of `BACKENDS`.

    Returns:
      [B, S, N, H] in the dtype of q.

    Raises:
      InputError: unknown backend.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown attention backend {backend!r}", hint="known: " + ", ".join(BACKENDS))
    return BACKENDS[backend](q_BSNH, k_BSKH, v_BSKH, segment_ids_BS, window)


def _xla(
    q_BSNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, seg_BS: jax.Array, window: int | None
) -> jax.Array:
    B, S, N, H = q_BSNH.shape
    K = k_BSKH.shape[2]
    q_BKGSH = q_BSNH.reshape(B, S, K, N // K, H).transpose(0, 2, 3, 1, 4) * H**-0.5
    k_BKSH, v_BKSH = k_BSKH.swapaxes(1, 2), v_BSKH.swapaxes(1, 2)
    blocks = []
    for start in range(0, S, Q_BLOCK):
        stop = min(start + Q_BLOCK, S)
        first = 0 if window is None else max(0, start - window + 1)
        blocks.append(
            _block(
                q_BKGSH[:, :, :, start:stop],
                k_BKSH[:, :, first:stop],
                v_BKSH[:, :, first:stop],
                seg_BS[:, start:stop],
                seg_BS[:, first:stop],
                start - first,
                window,
            )
        )
    o_BKGSH = blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks, axis=3)
    return o_BKGSH.transpose(0, 3, 1, 2, 4).reshape(B, S, N, H)


@functools.partial(jax.checkpoint, static_argnums=(5, 6), prevent_cse=False)
def _block(q_BKGQH, k_BKTH, v_BKTH, q_seg_BQ, k_seg_BT, offset: int, window: int | None):
    """One block of queries; query i stands at key index i + offset. Scores are recomputed in the backward pass."""
    Q, T = q_BKGQH.shape[3], k_BKTH.shape[2]
    scores = jnp.einsum("bkgqh,bkth->bkgqt", q_BKGQH, k_BKTH, preferred_element_type=jnp.float32)
    distance = jnp.arange(Q)[:, None] + offset - jnp.arange(T)[None, :]
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    seen_BQT = seen & (q_seg_BQ[:, :, None] == k_seg_BT[:, None, :])
    scores = jnp.where(seen_BQT[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BKTH.dtype)
    return jnp.einsum("bkgqt,bkth->bkgqh", weights, v_BKTH)


# A backend for one kind of accelerator is one function of this signature: (q, k, v, segment_ids, window) -> out.
BACKENDS: dict[str, Callable[..., jax.Array]] = {"xla": _xla}
