"""Attention by backend and length: forward and backward TFLOP/s of packed rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.bench import protocol
from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.flops import mean_keys


def backends() -> list[str]:
    """Names of the attention kernels that run on one device."""
    from xlam_jax.models.attention.backends import KERNELS

    return list(KERNELS)


def bench_attention(
    cfg: ModelConfig,
    lengths: Sequence[int],
    *,
    rows: int = 1,
    only: Sequence[str] = (),
    dtype: str = "float32",
    documents: int = 2,
    steps: int = 30,
    warmup: int = 10,
) -> dict[str, Any]:
    """Times `models.attention.attend` at the heads of `cfg` on one device.

    FLOPs are those of the causal half of the whole row (2 products forward, 5 backward), whatever the documents:
    a backend that skips what other documents hide comes out above what it computes.

    Args:
      documents: equal documents packed in a row.

    Returns:
      `rows`, one for each backend, length and pass ("fwd", "bwd"): seconds, TFLOP/s, share of the measured
      ceiling, or the `error` of a backend that this device cannot run.

    Raises:
      InputError: an unknown backend.
    """
    known = backends()
    if unknown := set(only) - set(known):
        raise InputError(f"unknown backend {min(unknown)!r}", where="--backend", hint=", ".join(known))
    kind = protocol.need_dtype(dtype, "--dtype")
    best, timings = protocol.ceiling(kind), []
    for length in lengths:
        for backend in only or known:
            try:
                timings += _passes(cfg, rows, length, backend, kind, documents, steps, warmup, best)
            except Exception as e:  # a kernel that the machine lacks must not lose the others
                timings.append(
                    {"backend": backend, "seq_len": length, "error": f"{type(e).__name__}: {str(e)[:300]}"}
                )
    shape = {"rows": rows, "N": cfg.num_heads, "K": cfg.num_kv_heads, "H": cfg.head_dim}
    return {
        "shape": shape,
        "dtype": dtype,
        "documents": documents,
        "ceiling_tflops": best / 1e12,
        "rows": timings,
    } | (protocol.environment())


def _passes(
    cfg: ModelConfig,
    B: int,
    S: int,
    backend: str,
    dtype: Any,
    documents: int,
    steps: int,
    warmup: int,
    best: float,
) -> list[dict[str, Any]]:
    from xlam_jax.models.attention import Facts, attend, reason_against

    heads = (cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.v_head_dim)
    if reason := reason_against(backend, Facts(*heads, S, dtype, cfg.sliding_window)):
        raise InputError(reason)
    keys = jax.random.split(jax.random.key(0), 3)
    heads = (cfg.num_heads, cfg.num_kv_heads, cfg.num_kv_heads)
    widths = (cfg.head_dim, cfg.head_dim, cfg.v_head_dim)
    q, k, v = (
        jax.random.normal(key, (B, S, n, h), dtype) for key, n, h in zip(keys, heads, widths, strict=True)
    )
    segments = jnp.broadcast_to(jnp.arange(S) * documents // S + 1, (B, S)).astype(jnp.int32)

    def forward(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return attend(q, k, v, segments, window=cfg.sliding_window, backend=backend)

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return forward(q, k, v).astype(jnp.float32).sum()

    run, gradient = jax.jit(forward), jax.jit(jax.grad(total, (0, 1, 2)))
    fwd = protocol.timed(lambda: run(q, k, v), steps, warmup)["median"]
    both = protocol.timed(lambda: gradient(q, k, v), steps, warmup)["median"]
    product = 2.0 * B * S * mean_keys(S, cfg.sliding_window) * cfg.num_heads * cfg.head_dim
    timed = {"fwd": (fwd, 2 * product), "bwd": (max(both - fwd, 1e-9), 5 * product)}
    return [
        {
            "backend": backend,
            "seq_len": S,
            "pass": name,
            "seconds": seconds,
            "tflops": flops / seconds / 1e12,
            "of_ceiling": flops / seconds / best,
        }
        for name, (seconds, flops) in timed.items()
    ]
