"""The experts of a mixture by backend: forward, gradient of the tokens, gradient of the weights, per shape.

The three are timed apart, so that a backend that is good at one and bad at another shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.bench import protocol
from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig


def backends() -> list[str]:
    """Names of the expert networks that this installation has."""
    from xlam_jax.models.experts import BACKENDS

    return list(BACKENDS)


def bench_moe(
    cfg: ModelConfig,
    tokens: Sequence[int],
    *,
    only: Sequence[str] = (),
    dtype: str = "float32",
    skew: float = 0.0,
    steps: int = 30,
    warmup: int = 10,
) -> dict[str, Any]:
    """Times one mixture layer behind its router on one device.

    Args:
      tokens: numbers of tokens to try.
      only: backends; () for all there are.
      skew: 0 for balanced routing; s > 0 draws expert e with probability proportional to (e + 1) ** -s.

    Returns:
      `rows`, one for each backend, number of tokens and pass ("fwd", "dgrad", "wgrad"): seconds, TFLOP/s of
      2 x 3 T k D F (each pass of the same size), share of the measured ceiling, windows that routing took, or
      the `error` of a backend that cannot; machine and versions.

    Raises:
      InputError: a dense model, or an unknown backend.
    """
    if cfg.moe is None:
        raise InputError("the model has no experts", where="--model", hint="mixtral-8x7b, tiny-mixtral")
    known = backends()
    if unknown := set(only) - set(known):
        raise InputError(f"unknown backend {min(unknown)!r}", where="--backend", hint=", ".join(known))
    kind = protocol.need_dtype(dtype, "--dtype")
    best, rows = protocol.ceiling(kind), []
    for count in tokens:
        for backend in only or known:
            try:
                rows += _passes(cfg, count, backend, kind, skew, steps, warmup, best)
            except Exception as e:  # a kernel that the machine lacks must not lose the others
                rows.append(
                    {"backend": backend, "tokens": count, "error": f"{type(e).__name__}: {str(e)[:300]}"}
                )
    moe = cfg.moe
    shape = {
        "D": cfg.hidden_size,
        "F": moe.intermediate_size,
        "E": moe.num_experts,
        "k": moe.experts_per_token,
    }
    return {"shape": shape, "dtype": dtype, "skew": skew, "ceiling_tflops": best / 1e12, "rows": rows} | (
        protocol.environment()
    )


def _passes(
    cfg: ModelConfig, tokens: int, backend: str, dtype: Any, skew: float, steps: int, warmup: int, best: float
) -> list[dict[str, Any]]:
    from xlam_jax.models.experts import Experts, moe_ffn

    moe = cfg.moe
    assert moe
    E, K, D, F = moe.num_experts, moe.experts_per_token, cfg.hidden_size, moe.intermediate_size
    keys = jax.random.split(jax.random.key(0), 5)
    x = jax.random.normal(keys[0], (1, tokens, D), dtype)
    shapes = ((E, D, F), (E, D, F), (E, F, D))
    experts = Experts(
        *(jax.random.normal(k, s, dtype) * 0.02 for k, s in zip(keys[1:4], shapes, strict=True))
    )
    routing = _routing(keys[4], tokens, E, K, skew)

    def forward(x: jax.Array, experts: Any) -> jax.Array:
        return moe_ffn(x, routing, experts, moe, backend=backend, exchange="none")[0]

    def total(x: jax.Array, experts: Any) -> jax.Array:
        return (forward(x, experts).astype(jnp.float32) ** 2).sum()

    _, stats = moe_ffn(x, routing, experts, moe, backend=backend, exchange="none")
    fwd = protocol.timed(_bound(jax.jit(forward), x, experts), steps, warmup)["median"]
    of_x = protocol.timed(_bound(jax.jit(jax.grad(total, 0)), x, experts), steps, warmup)["median"]
    of_w = protocol.timed(_bound(jax.jit(jax.grad(total, 1)), x, experts), steps, warmup)["median"]
    both = protocol.timed(_bound(jax.jit(jax.grad(total, (0, 1))), x, experts), steps, warmup)["median"]
    one = 2.0 * 3 * tokens * K * D * F
    # A gradient runs the forward pass too; what it adds is the pass itself.
    timed = {
        "fwd": (fwd, one),
        "dgrad": (max(of_x - fwd, 1e-9), one),
        "wgrad": (max(of_w - fwd, 1e-9), one),
        "fwd+bwd": (both, 3 * one),
    }
    return [
        {
            "backend": backend,
            "tokens": tokens,
            "pass": name,
            "seconds": seconds,
            "tflops": flops / seconds / 1e12,
            "of_ceiling": flops / seconds / best,
            "windows": float(stats["windows"]),
        }
        for name, (seconds, flops) in timed.items()
    ]


def _routing(key: jax.Array, tokens: int, E: int, K: int, skew: float) -> Any:
    from xlam_jax.models.routing import Routing

    # Gumbel-top-k: K different experts for a token, drawn with the given probabilities.
    logits = -skew * jnp.log(jnp.arange(1, E + 1))
    noise = jax.random.gumbel(key, (1, tokens, E))
    ids = jax.lax.top_k(logits + noise, K)[1].astype(jnp.int32)
    counts = (ids[..., None] == jnp.arange(E)).sum((0, 1, 2)).astype(jnp.float32)
    weights = jnp.full((1, tokens, K), 1.0 / K, jnp.float32)
    return Routing(weights, ids, counts, counts / K, jnp.float32(tokens))


def _bound(function: Any, *args: Any) -> Any:
    return lambda: function(*args)
