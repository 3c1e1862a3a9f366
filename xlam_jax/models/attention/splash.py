"""Splash attention on TPU: Pallas kernels that skip the blocks a causal or local mask hides.

Shape legend: B rows, S positions, N query heads, K key/value heads, H width of queries and keys, J width of
values.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.models.attention.facts import Facts
from xlam_jax.parallel import target

LANES = 128  # rows are cut into blocks that are a multiple of this
LARGEST_BLOCK = 512


def splash(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKJ: jax.Array,
    segment_ids_BS: jax.Array,
    *,
    window: int | None,
    scale: float,
    interpret: bool = False,
) -> jax.Array:
    """The `splash` backend; see `models.attention.attend`.

    Args:
      q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS: as there; S is a multiple of `LANES`.
      window: a position sees itself and the `window - 1` before it; None for no limit.
      scale: of the scores.
      interpret: run the kernels on a CPU, slowly.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    S, N = q_BSNH.shape[1:3]
    one = masks.CausalMask((S, S)) if window is None else masks.LocalMask((S, S), (window - 1, 0), offset=0)
    size = next(size for size in (LARGEST_BLOCK, 256, LANES) if S % size == 0)
    blocks = kernels.BlockSizes(
        block_q=size, block_kv=size, block_q_dkv=size, block_kv_dkv=size, block_q_dq=size, block_kv_dq=size
    )
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([one] * N),
        block_sizes=blocks,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name="attn_out",
        interpret=interpret,
    )

    def row(q_NSH, k_KSH, v_KSJ, seg_S):
        return kernel(q_NSH, k_KSH, v_KSJ, kernels.SegmentIds(seg_S, seg_S))

    # The kernels take no scale.
    q_BSNH = (q_BSNH.astype(jnp.float32) * scale).astype(q_BSNH.dtype)
    q, k, v = (x.swapaxes(1, 2) for x in (q_BSNH, k_BSKH, v_BSKJ))
    out_BNSJ = jax.vmap(row)(q, k, v, segment_ids_BS)
    return jnp.swapaxes(out_BNSJ, 1, 2).astype(q_BSNH.dtype)  # pyright: ignore[reportArgumentType]


def splash_reason(facts: Facts, device: Any = None) -> str:
    """Why splash cannot be used for attention of this kind; empty when it can."""
    device = target.device() if device is None else device
    if device.platform != "tpu":
        return f"splash needs a TPU, this is {device.platform}"
    if facts.seq_len % LANES:
        return f"splash needs a row length that is a multiple of {LANES}, found {facts.seq_len}"
    if jnp.dtype(facts.dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)):
        return f"splash attends in bfloat16 or float32, not {jnp.dtype(facts.dtype).name}"
    return ""
