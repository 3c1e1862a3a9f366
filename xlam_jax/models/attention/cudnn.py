"""cuDNN's fused attention on packed documents: lengths and offsets of the documents, never a dense mask.

The packed layout is not in JAX's public API: `compat.cudnn_attention` looks the function up and checks its signature,
and `cudnn_reason` says in words why it cannot be used.

Three things about the packed layout that its interface does not tell:
- Offsets are where documents begin, and nothing else. JAX moves the offsets of all rows together, so that the
  end of a row would be taken for the next document and every later one for its neighbour.
- Positions outside every document are not written, forward or backward. So padding counts as a document.
- Offsets are multiplied by heads x width of the queries, for keys and values too (fixed for the number of
  heads after jax 0.10, not for the width). So narrower values are padded to the width of the keys, and keys
  are repeated for grouped queries where the installed JAX is found to use the wrong number of heads.

Shape legend: B rows, S positions, N query heads, K key/value heads, H width of queries and keys, J width of
values, M documents of a row at most.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.compat import cudnn_attention
from xlam_jax.errors import WorkError
from xlam_jax.models.attention.facts import Facts
from xlam_jax.parallel import target

DEFAULT_SEGMENTS = 32  # statistics of the softmax take B * M * N * S * 4 bytes, so M is not large for nothing
_PARAMETERS = (
    *("query", "key", "value", "bias", "mask", "q_seqlen", "kv_seqlen", "q_offsets", "kv_offsets"),
    *("scale", "mask_type", "qkv_layout", "sliding_window_length"),
)
# JAX's name of the forward pass, whose results (the output, and statistics of the softmax) its backward pass wants.
# They carry no name that a policy of `jax.checkpoint` could ask for.
FORWARD = "dot_product_attention_fwd_wrapper"
_LEAST_CUDNN = 90600  # the first release whose packed layout JAX tests


def cudnn(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKJ: jax.Array,
    segment_ids_BS: jax.Array,
    *,
    window: int | None,
    scale: float,
    max_segments: int | None = None,
) -> jax.Array:
    """The `cudnn` backend; see `models.attention.attend`.

    Args:
      max_segments: static bound on the runs of equal segment id in a row, padding included; None for
        `DEFAULT_SEGMENTS`. What a row holds beyond is not attended to and not written: see `refuse_overfull`.
    """
    module, reason = _private()
    if module is None:
        raise WorkError(reason, hint="attention=xla")
    S, N, K = q_BSNH.shape[1], q_BSNH.shape[2], k_BSKH.shape[2]
    H, J = q_BSNH.shape[3], v_BSKJ.shape[3]
    slots = min(max_segments or DEFAULT_SEGMENTS, S)
    if J < H:
        v_BSKJ = jnp.pad(v_BSKJ, ((0, 0), (0, 0), (0, 0), (0, H - J)))
    if slots > 1 and K != N and not _knows_key_heads():
        k_BSKH, v_BSKJ = (jnp.repeat(x, N // K, axis=2) for x in (k_BSKH, v_BSKJ))
    lengths_BM, offsets_BM1 = documents(segment_ids_BS, slots)
    # One document a row is cuDNN's ordinary layout.
    lengths, offsets = (lengths_BM, offsets_BM1) if slots > 1 else (lengths_BM[:, 0], None)
    out_BSNH = module.dot_product_attention(
        q_BSNH, k_BSKH, v_BSKJ, None, None, lengths, lengths, offsets, offsets,
        scale=scale,
        mask_type=module.MaskType.PADDING_CAUSAL,
        qkv_layout="BTNH",
        # Counts the position itself, as ours does.
        sliding_window_length=window if window is not None and window < S else None,
    )  # fmt: skip
    return out_BSNH[..., :J]


def refuse_overfull(
    x_BSD: jax.Array, segment_ids_BS: jax.Array, max_segments: int | None = None
) -> jax.Array:
    """`x`, but NaN in rows that hold more segments than `cudnn` has slots for: a wrong number must not look right.

    Once, on the states that enter the first layer: in each layer it would be a pass over all of them.
    """
    S = segment_ids_BS.shape[1]
    ends_BS = segment_ids_BS[:, 1:] != segment_ids_BS[:, :-1]
    fits_B = ends_BS.sum(axis=1, dtype=jnp.int32) < min(max_segments or DEFAULT_SEGMENTS, S)
    return jnp.where(fits_B[:, None, None], x_BSD, jnp.nan)


def documents(segment_ids_BS: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """Runs of equal segment id: (lengths int32 [B, M], offsets int32 [B, M + 1]).

    Slots that no run needs hold -1, and so does the last offset. Of a row of more than `slots` runs the last ones are
    left out.

    Example:
      >>> documents(jnp.asarray([[1, 1, 2, 0]]), 4)[0].tolist()
      [[2, 1, 1, -1]]
    """
    B, S = segment_ids_BS.shape
    begins = jnp.concatenate(
        [jnp.ones((B, 1), bool), segment_ids_BS[:, 1:] != segment_ids_BS[:, :-1]], axis=1
    )
    count_B = begins.sum(axis=1, dtype=jnp.int32)
    starts = functools.partial(jnp.nonzero, size=slots + 1, fill_value=S)
    offsets_BM1 = jax.vmap(lambda row: starts(row)[0])(begins).astype(jnp.int32)
    lengths_BM = jnp.diff(offsets_BM1, axis=1)
    slot = jnp.arange(slots + 1)
    used_BM1 = (slot < count_B[:, None]) & (slot < slots)
    lengths_BM = jnp.where(used_BM1[:, :-1], lengths_BM, -1)
    return lengths_BM, jnp.where(used_BM1, offsets_BM1, -1)


def most_segments(segment_ids: np.ndarray) -> int:
    """The `max_segments` that packed rows [..., S] need: runs of equal id, padding counted; on the host."""
    return int((np.diff(np.asarray(segment_ids), axis=-1) != 0).sum(axis=-1).max(initial=0)) + 1


def cudnn_reason(facts: Facts, device: Any = None) -> str:
    """Why cuDNN cannot be used for attention of this kind; empty when it can.

    Args:
      device: defaults to the one that is compiled for.
    """
    device = target.device() if device is None else device
    # A device of a topology has no CUDA behind it, but its maker's name.
    nvidia = "cuda" in _platform_version(device) or "NVIDIA" in str(getattr(device, "device_kind", ""))
    if device.platform not in ("gpu", "cuda") or not nvidia:
        return f"cuDNN needs an NVIDIA GPU, this is {device.platform}"
    capability = str(getattr(device, "compute_capability", "0"))
    if float(capability) < 9.0:
        return f"cuDNN's packed layout needs compute capability 9.0 (Hopper), found {capability}"
    if jnp.dtype(facts.dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)):
        return f"cuDNN attends in bfloat16 or float16, not {jnp.dtype(facts.dtype).name}"
    if facts.head_dim % 8 or facts.head_dim > 256:
        return f"cuDNN needs a head width that is a multiple of 8 and at most 256, found {facts.head_dim}"
    if facts.v_head_dim > facts.head_dim:
        return f"values ({facts.v_head_dim}) are wider than keys ({facts.head_dim})"
    module, reason = _private()
    if module is None:
        return reason
    try:
        version = module.check_cudnn_version()
    except RuntimeError as e:
        return f"cuDNN is not installed: {e}"
    if version < _LEAST_CUDNN:
        return f"cuDNN {version} is too old for the packed layout, which needs {_LEAST_CUDNN}"
    return ""


def _platform_version(device: Any) -> str:
    return str(getattr(getattr(device, "client", None), "platform_version", ""))


@functools.cache
def _private() -> tuple[Any, str]:
    """(JAX's module, "") when it has what is called here, else (None, why not)."""
    try:
        return cudnn_attention(_PARAMETERS), ""
    except ImportError as e:
        return None, f"jax {jax.__version__}: {e}"


@functools.cache
def _knows_key_heads() -> bool:
    """Whether the installed JAX computes offsets of grouped keys from their own number of heads."""
    module, _ = _private()
    try:
        with jax.ensure_compile_time_eval():
            lengths, offsets = jnp.ones((1, 2), jnp.int32), jnp.arange(3, dtype=jnp.int32)[None]
            q, k = jnp.zeros((1, 2, 4, 8)), jnp.zeros((1, 2, 2, 8))
            key_offsets = module._fix_seqlen_offsets(lengths, lengths, offsets, offsets, q, k)[3]
            return bool((key_offsets == offsets * 2 * 8).all())
    except Exception:  # whatever is wrong with a private function, repeating the keys is right without it
        return False
