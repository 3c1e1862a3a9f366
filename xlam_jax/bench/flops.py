"""Model FLOPs of one training token, counted from the spec table.

The convention is printed with every number, because published ones differ: active parameters of matrix products
(no input embedding, k of E routed experts), attention causal over the whole row, LoRA without the weight
gradients of its base, no recomputation.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Sequence
from typing import Any

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import LoraConfig, target_paths
from xlam_jax.models.params import ParamSpec
from xlam_jax.models.spec import leaves

FORWARD, BACKWARD_DATA, BACKWARD_WEIGHT = 2, 2, 2  # FLOPs of one weight for one token


@dataclasses.dataclass(frozen=True)
class Counts:
    """Scalars of a model, in numbers of parameters.

    Attributes:
      total: all, tied embeddings once.
      active: of them those that one token passes: k of E routed experts.
      active_matmul: of these the ones that are multiplied, not looked up; a tied table counts, as the head.
      routed: total in routed experts.
    """

    total: int
    active: int
    active_matmul: int
    routed: int


def active_share(cfg: ModelConfig) -> float:
    """Routed experts a token passes, of those there are; 1 for dense models."""
    return cfg.moe.experts_per_token / cfg.moe.num_experts if cfg.moe else 1.0


def is_multiplied(path: str, s: ParamSpec, cfg: ModelConfig) -> bool:
    """A matrix of a product: not a norm or bias, and the input embedding only where it is the head as well."""
    return len(s.shape) - s.per_layer >= 2 and (path != "embed" or cfg.tie_embeddings)


def count(cfg: ModelConfig) -> Counts:
    """Parameters by what they cost."""
    share = active_share(cfg)
    total = active = multiplied = routed = 0.0
    for path, s in leaves(cfg).items():
        size = math.prod(s.shape)
        used = size * share if s.per_expert else size
        total += size
        active += used
        routed += size if s.per_expert else 0
        multiplied += used if is_multiplied(path, s, cfg) else 0
    return Counts(int(total), int(active), int(multiplied), int(routed))


def attention_width(cfg: ModelConfig) -> int:
    """Heads times (query-key width + value width); 2 N H for ordinary attention."""
    return cfg.num_heads * (cfg.head_dim + cfg.v_head_dim)


def mean_keys(seq_len: int, window: int | None) -> float:
    """Keys that a position of a row sees on average, causally: S / 2, less under a sliding window."""
    w = min(window or seq_len, seq_len)
    return w - w * w / (2 * seq_len)


def flops_per_token(
    cfg: ModelConfig,
    seq_len: int,
    *,
    freeze: Sequence[str] = (),
    freeze_layers: int = 0,
    lora: LoraConfig | None = None,
) -> dict[str, Any]:
    """Model FLOPs of one position in a training step.

    Args:
      freeze, freeze_layers: as in `training.config.TrainConfig`.
      lora: all of the base is frozen, and adapters are trained.

    Returns:
      `total`, its parts `weights`, `attention`, `adapters`, `forward` (a third of it or more), and the
      `formula` with its numbers.
    """
    share, weights, adapters, forward = active_share(cfg), 0.0, 0.0, 0.0
    adapted = target_paths(cfg, lora) if lora else ()
    for path, s in leaves(cfg).items():
        if not is_multiplied(path, s, cfg):
            continue
        used = math.prod(s.shape) * (share if s.per_expert else 1.0)
        below = used * freeze_layers / cfg.num_layers if s.per_layer else 0.0
        frozen = lora is not None or any(fnmatch.fnmatch(path, glob) for glob in freeze)
        trained = 0 if frozen else BACKWARD_WEIGHT
        forward += FORWARD * used
        weights += FORWARD * below + (FORWARD + BACKWARD_DATA + trained) * (used - below)
        if lora and path in adapted:
            pairs = used / (s.shape[-1] * s.shape[-2])  # matrices that a token passes
            size = pairs * lora.rank * (s.shape[-1] + s.shape[-2])
            adapters += 6 * size
            forward += FORWARD * size
    layers = cfg.num_layers
    once = 2 * mean_keys(seq_len, cfg.sliding_window) * attention_width(cfg)
    attention = once * (3 * (layers - freeze_layers) + freeze_layers)
    n = count(cfg).active_matmul
    per_weight = weights / n
    seen = "S" if not cfg.sliding_window or cfg.sliding_window >= seq_len else "(2 - w/S) w"
    formula = (
        f"{per_weight:.3g} x {n / 1e9:.3f} G active matmul parameters + 3 L {seen} N (d_qk + d_v), causal"
        + (f" + 6 x adapters of rank {lora.rank}" if lora else "")
    )
    return {
        "total": weights + attention + adapters,
        "weights": weights,
        "attention": attention,
        "adapters": adapters,
        "forward": forward + once * layers,
        "formula": formula,
    }
