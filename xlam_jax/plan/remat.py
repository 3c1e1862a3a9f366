"""What a remat policy computes again, and the policy that computes least of those that fit a device."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.flops import FORWARD, active_share, is_multiplied
from xlam_jax.models.lora import target_paths
from xlam_jax.models.spec import leaves
from xlam_jax.parallel.hardware import known_hardware
from xlam_jax.plan.memory import Memory, estimate, keeps_attention
from xlam_jax.plan.work import Sizes, Work, work_of
from xlam_jax.training.config import TrainConfig

LADDER = (
    "none",
    "dots",
    "names:qkv,attn_out,attn_residual,mlp_hidden",  # of a mixture also its experts, which `dots` does not keep
    "names:qkv,attn_out,attn_residual",
    "names:attn_out",
    "full",
)
# What the result of a product is called, by the last part of its matrix's path. Others have no name.
_NAMED = {
    **dict.fromkeys(("q", "k", "v", "q_b", "kv_b"), "qkv"),
    "o": "attn_residual",
    **dict.fromkeys(("gate", "up"), "mlp_hidden"),
}
_SPARE = 1.05  # the plan may be low by so much


def recomputed(work: Work) -> float:
    """FLOPs of one token's products that the backward pass computes again under `work.remat`.

    The last product of a block is not among them, for nothing but the next block's input is made of it, and that is
    kept; of routed experts it is, since the gradient of their weights in the sum wants it.
    """
    cfg = work.cfg
    if work.remat == "none":
        return 0.0
    keeps = set(work.remat.partition(":")[2].replace(" ", "").split(","))
    adapted = target_paths(cfg, work.lora) if work.lora else ()
    total = 0.0
    for path, s in leaves(cfg).items():
        if not (s.per_layer and is_multiplied(path, s, cfg)):
            continue
        kind = path.rpartition(".")[2]
        if kind == "down" and not s.per_expert:
            continue
        if work.remat == "dots" and not s.per_expert:
            continue
        if _NAMED.get(kind) in keeps:
            continue
        used = math.prod(s.shape) * (active_share(cfg) if s.per_expert else 1.0)
        if path in adapted and work.lora:
            used *= 1 + work.lora.rank * (s.shape[-1] + s.shape[-2]) / (s.shape[-1] * s.shape[-2])
        total += FORWARD * used
    if not keeps_attention(work.remat):
        total += work.flops()["forward_attention"]
    return total * (cfg.num_layers - work.freeze_layers) / cfg.num_layers


def lightest(work: Work, sizes: Sizes, budget: float) -> tuple[str, Memory]:
    """The policy of `LADDER` that computes least again of those that fit `budget` bytes, and its memory; "full" where
    none does."""
    judged = sorted(LADDER, key=lambda name: recomputed(work.replace(remat=name)))
    for name in judged:
        memory = estimate(work.replace(remat=name), sizes)
        if memory.total * _SPARE <= budget:
            return name, memory
    return "full", estimate(work.replace(remat="full"), sizes)


def choose(
    config: TrainConfig, cfg: ModelConfig, mesh: jax.sharding.Mesh, seq_len: int, segments: int | None
) -> tuple[str, str]:
    """(policy, why) for a run whose config says `remat: auto`.

    Args:
      segments: documents of a row at most; None where the data does not say.
    """
    here = (d for d in mesh.devices.flat if getattr(d, "process_index", 0) == jax.process_index())
    device = next(here, mesh.devices.flat[0])
    limit, whose = _limit(device)
    if limit is not None and jax.process_count() > 1:  # one program everywhere, so one answer
        limit = float(multihost_utils.process_allgather(np.float32(limit)).min())
    if limit is None:
        return "dots", f"nobody says how much memory a {device.platform} has"
    work = work_of(config, cfg, seq_len)
    work = work.replace(max_segments=segments or work.max_segments)
    sizes = dict(mesh.shape)
    if config.objective.kind != "sft" and config.objective.reference == "copy":
        limit -= estimate(work.replace(remat="full"), sizes).weights
    name, memory = lightest(work, sizes, limit)
    fits = "the lightest that fits" if memory.total * _SPARE <= limit else "the smallest, which may not fit"
    return name, f"{fits}: {memory.total / 2**30:.1f} of {limit / 2**30:.1f} GiB planned, {whose}"


def _limit(device: Any) -> tuple[float | None, str]:
    """(bytes that a step may use, who says so)."""
    stats = (getattr(device, "memory_stats", lambda: None)() or {}) if device.platform != "cpu" else {}
    if limit := stats.get("bytes_limit"):
        return float(limit), "as the device says"
    if device.platform != "cpu" and (hw := known_hardware(device.device_kind)):
        return hw.budget, f"as of {hw.name}"
    return None, ""
