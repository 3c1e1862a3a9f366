"""Bytes that a device receives in a step, collective by collective, and the time they take.

Ring algebra: an all-gather or reduce-scatter of a whole of W bytes over n devices moves W (n - 1) / n into each,
an all-reduce twice that. A mesh axis that reaches beyond one fast domain is worked on hierarchically: inside at
the links' speed, and each byte once into every domain over its network cards together.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from xlam_jax.models.lora import target_paths
from xlam_jax.models.spec import leaves
from xlam_jax.parallel.hardware import Hardware
from xlam_jax.plan.work import Sizes, Work


@dataclasses.dataclass(frozen=True)
class Flow:
    """One kind of collective over a step.

    Attributes:
      what: for people.
      axis: mesh axes it runs over.
      received: bytes into each device.
      hidden: it can run beside the products (a weight gather, a gradient reduction); others are waited for.
    """

    what: str
    axis: str
    received: float
    hidden: bool


def flows(work: Work, sizes: Sizes) -> list[Flow]:
    """Every collective of a step that moves anything."""
    cfg, b = work.cfg, jnp.dtype(work.compute_dtype).itemsize
    f, d, e, t = (sizes.get(axis, 1) for axis in ("fsdp", "data", "expert", "tensor"))
    c, micro = sizes.get("context", 1), work.accumulation
    tokens = work.micro_tokens(sizes)
    plain, routed = _weights(work, t, e)
    trained_plain, trained_routed = _weights(work, t, e, trained=True)
    collectives = []
    passes = 2 * micro  # forward, and again for the backward pass: a scan holds one layer at a time
    activation = tokens * cfg.hidden_size * b
    table = cfg.vocab_size / t * cfg.hidden_size
    tables = table * (1 if cfg.tie_embeddings else 2)
    if f > 1:
        # The loss has its gradient at hand, so the head comes once; the embedding's rows come instead of its table.
        weights = passes * (plain + routed - tables) + micro * table
        collectives.append(Flow("gather weights", "fsdp", b * weights * (f - 1) / f, True))
        grads, rows = b * (trained_plain + trained_routed), 1
        if not work.lora:
            grads, rows = grads - b * tables + 4 * table, 2  # the head's in float32
        collectives.append(Flow("scatter gradients", "fsdp", micro * grads * (f - 1) / f, True))
        collectives.append(Flow("look tokens up", "fsdp", micro * rows * activation * (f - 1) / f, False))
    for ways, size, axis in (
        (d * e * c, trained_plain, "data,expert,context"),
        (d * c, trained_routed, "data,context"),
    ):
        if ways > 1 and size:
            whole = jnp.dtype(work.param_dtype).itemsize * size / f
            axes = ",".join(a for a in axis.split(",") if sizes.get(a, 1) > 1)
            collectives.append(Flow("reduce gradients", axes, 2 * whole * (ways - 1) / ways, True))
    again = work.remat != "none"
    if t > 1:
        # Two more where the vocabulary is split: rows of the embedding, and the gradient of the last states.
        reductions = micro * (cfg.num_layers * (4 + (2 if work.remat == "full" else 0)) + 2)
        collectives.append(
            Flow("sum block outputs", "tensor", reductions * 2 * activation * (t - 1) / t, False)
        )
    moe = cfg.moe
    if moe is not None and e > 1:
        how = work.exchange_of(sizes)
        per = (e - 1) if how == "gather" else moe.experts_per_token * (e - 1) / e
        times = _moe_layers(work) * micro * (4 + (2 if again else 0))
        collectives.append(Flow(f"exchange tokens ({how})", "expert", times * per * activation, False))
    if c > 1:
        kv = 2 * tokens * max(1, cfg.num_kv_heads // t) * cfg.head_dim * b
        collectives.append(
            Flow("pass keys and values", "context", cfg.num_layers * micro * 3 * kv * (c - 1), False)
        )
    return collectives


def seconds(flow: Flow, sizes: Sizes, hw: Hardware) -> float:
    """Time of a flow at full link speed; the last mesh axes are neighbours."""
    axes = flow.axis.split(",")
    ways = math.prod(sizes[a] for a in axes)
    names = list(sizes)
    inner = math.prod(sizes[a] for a in names[names.index(axes[-1]) + 1 :])
    local = min(ways, max(1, hw.domain // inner)) if inner < hw.domain else 1
    fast = flow.received / hw.link
    if local >= ways:
        return fast
    # Of the n - 1 other shares, n - local come from other domains, over `local` cards.
    outside = flow.received * (ways - local) / max(1, ways - 1)
    return max(fast, outside / (hw.network * local))


def _weights(work: Work, tensor: int, expert: int, trained: bool = False) -> tuple[float, float]:
    """Scalars of (other, routed) matrices behind a device's tensor and expert split, before fsdp's."""
    adapted = target_paths(work.cfg, work.lora) if work.lora else None
    plain = routed = 0.0
    for path, s in leaves(work.cfg).items():
        if trained and adapted is not None:
            pairs = math.prod(s.shape[:-2]) if path in adapted else 0
            plain += pairs * work.lora.rank * sum(s.shape[-2:]) if work.lora else 0
            continue
        split = tensor if {"heads", "kv_heads", "mlp", "vocab"} & set(s.axes) else 1
        size = math.prod(s.shape) / split
        if s.per_expert:
            routed += size / expert
        else:
            plain += size
    return plain, routed


def _moe_layers(work: Work) -> int:
    return max((s.shape[0] for s in leaves(work.cfg).values() if s.per_expert), default=0)
