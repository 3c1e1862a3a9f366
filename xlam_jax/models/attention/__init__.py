"""Causal attention within packed segments, by backend.

`xla` is the reference and runs everywhere, `cudnn` is for Hopper GPUs and newer, `splash` for TPUs. In none
of them does one packed document see another. `probe_attention` tries an accelerator's backend on the machine
and names the one to use.

Where the mesh splits the sequence (axis `context`), every backend has a way to cross it: `context_gather`
(each device gathers all keys; what `xla` does), `context_ring` (keys travel from device to device),
`context_heads` (the sequence is regrouped by heads; what `cudnn` and `splash` do, which need whole rows).
They are exact and differ in memory and communication; see `models.attention.context`.
"""

from __future__ import annotations

from typing import Any

import jax

from xlam_jax.errors import InputError
from xlam_jax.models.attention.backends import (
    BACKENDS,
    CONTEXT_BACKENDS,
    kernel,
    own_backend,
    reason_against,
)
from xlam_jax.models.attention.blocked import MASKED
from xlam_jax.models.attention.blocked import blocked as forked
from xlam_jax.models.attention.context import heads_divide, over_context, over_heads
from xlam_jax.models.attention.cudnn import FORWARD, most_segments, refuse_overfull
from xlam_jax.models.attention.facts import Facts
from xlam_jax.models.attention.probe import Choice, probe_attention
from xlam_jax.parallel.active import active_mesh, context_ways

__all__ = [
    "BACKENDS",
    "CONTEXT_BACKENDS",
    "MASKED",
    "Choice",
    "Facts",
    "attend",
    "keep_attention",
    "most_segments",
    "own_backend",
    "probe_attention",
    "reason_against",
    "refuse_overfull",
]


def keep_attention(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """A policy of `jax.checkpoint`: what a backend's forward pass leaves for its backward pass is kept, so that none is
    computed again. Ours and splash's is named "attn_out", cuDNN's is known by its maker."""
    return primitive.name == FORWARD or parameters.get("name") == "attn_out"


def attend(
    q_BSNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKJ: jax.Array,
    segment_ids_BS: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
    backend: str = "xla",
    max_segments: int | None = None,
    branches_BS: jax.Array | None = None,
) -> jax.Array:
    """softmax(scale * q k^T) v, causal, within equal segment id.

    Under `jax.set_mesh` rows, heads and (axis `context`) positions are split over the mesh.

    Args:
      q_BSNH, k_BSKH, v_BSKJ: any float dtype the backend takes; N is a multiple of K, the values' width J may
        differ from the keys' H. Scores and softmax are float32.
      segment_ids_BS: int32. Positions of one segment are contiguous. Padding (0) is a segment like any other,
        so each position sees at least itself and every output is finite.
      window: a position sees itself and the `window - 1` before it; None for no limit.
      scale: of the scores; None for H ** -0.5.
      backend: one of `BACKENDS`. "auto" is "xla" here: `probe_attention` turns it into a tried name.
      max_segments: for `cudnn`, a static bound on the segments of a row (`most_segments` counts them); what a row
        holds beyond it comes out undefined, which `refuse_overfull` keeps from ever looking right. None for 32.
      branches_BS: int32, for segments that fork: positions of branch 0 are seen by all of their segment,
        those of another branch by that branch only. Of the backend "xla", on rows that are not split.

    Returns:
      [B, S, N, J] in the dtype of q. `jax.checkpoint` keeps it, with what the backward pass needs beside it, under
      `keep_attention`.

    Raises:
      InputError: an unknown backend, one that cannot compute branches, or heads that do not divide as
        `context_heads` needs.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown attention backend {backend!r}", hint="known: " + ", ".join(BACKENDS))
    scale = float(q_BSNH.shape[-1] ** -0.5 if scale is None else scale)
    if branches_BS is not None:
        return _forked(q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS, branches_BS, window, scale, backend)
    arrays = (q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS)
    name = "xla" if backend == "auto" or backend in CONTEXT_BACKENDS else backend
    local = kernel(name, window=window, scale=scale, max_segments=max_segments)
    mesh = active_mesh()
    if mesh is None:
        return local(*arrays)
    ways = context_ways(mesh)
    if ways == 1 or q_BSNH.shape[1] % ways:  # a row that does not divide lies whole on every device
        return local(*arrays) if name == "xla" else over_heads(local, *arrays, mesh)
    if name == "xla" and backend != "context_heads":
        way = "ring" if backend == "context_ring" else "gather"
        return over_context(way, *arrays, mesh, window=window, scale=scale)
    if not heads_divide(mesh, q_BSNH.shape[2]):
        raise InputError(
            f"attention {backend!r}: {q_BSNH.shape[2]} heads do not divide by context={ways} x "
            f"tensor={mesh.shape.get('tensor', 1)}",
            where="mesh.context",
            hint="attention: context_gather or context_ring",
        )
    return over_heads(local, *arrays, mesh)


def _forked(q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS, branches_BS, window, scale, backend) -> jax.Array:
    length = q_BSNH.shape[1]
    if backend not in ("xla", "auto"):
        why, hint = (
            f"attention {backend!r} cannot compute them",
            "attention: xla, or data of the other layout",
        )
    elif window is not None and window < length:
        # Distance in the row is not distance in the document behind a fork.
        why, hint = f"the window of {window} is shorter than a row of {length}", "data of the other layout"
    elif context_ways(active_mesh()) > 1:
        why, hint = "the mesh splits the sequence", "mesh.context=1, or data of the other layout"
    else:
        return forked(
            q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS, window=None, scale=scale, branches_BS=branches_BS
        )
    raise InputError(
        f"answers share the beginning of a prompt in this data, and {why}",
        where="attention",
        hint=f"{hint} (share_prompts: false, pair_layout: separate)",
    )
