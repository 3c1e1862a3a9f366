"""Model FLOPs of one training token, counted from the spec table.

The convention is printed with every number, because published ones differ: active parameters of matrix products
(no input embedding, k of E routed experts), attention causal over a row or document, LoRA without the weight
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


@dataclasses.dataclass(frozen=True)
class StepFlops:
    """Model FLOPs of a training step are `per_token * tokens + per_pair * pairs`, pairs of a position and a key that it
    sees: half of len^2 in a document.

    Attributes:
      weights, adapters: of one token.
      forward, forward_pair: what of `per_token` and `per_pair` one forward pass is.
      formula: with the model's numbers.
    """

    weights: float
    adapters: float
    per_pair: float
    forward: float
    forward_pair: float
    formula: str

    @property
    def per_token(self) -> float:
        return self.weights + self.adapters


def step_flops(
    cfg: ModelConfig,
    *,
    freeze: Sequence[str] = (),
    freeze_layers: int = 0,
    lora: LoraConfig | None = None,
    more_forward: int = 0,
) -> StepFlops:
    """Counts the products of a training step.

    Args:
      freeze, freeze_layers: as in `training.config.TrainConfig`.
      lora: all of the base is frozen, and adapters are trained.
      more_forward: forward passes of the base beside the step's own, for a reference.
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
        weights += more_forward * FORWARD * used
        if lora and path in adapted:
            pairs = used / (s.shape[-1] * s.shape[-2])  # matrices that a token passes
            size = pairs * lora.rank * (s.shape[-1] + s.shape[-2])
            adapters += 6 * size
            forward += FORWARD * size
    layers, once = cfg.num_layers, 2.0 * attention_width(cfg)
    passes = 3 * (layers - freeze_layers) + freeze_layers + more_forward * layers
    n, w = count(cfg).active_matmul, cfg.sliding_window
    square = f"(2 len - w) w, w = min({w}, len)," if w else "len^2"
    formula = (
        f"{weights / n:.3g} x {n / 1e9:.3f} G active matmul parameters x tokens + {passes} x N (d_qk + d_v) = "
        f"{passes * attention_width(cfg):,} x sum of {square} over documents, causal"
        + (f" + 6 x adapters of rank {lora.rank} x tokens" if lora else "")
    )
    return StepFlops(weights, adapters, once * passes, forward, once * layers, formula)


def flops_per_token(
    cfg: ModelConfig,
    seq_len: int,
    *,
    freeze: Sequence[str] = (),
    freeze_layers: int = 0,
    lora: LoraConfig | None = None,
) -> dict[str, Any]:
    """Model FLOPs of one position in a training step on rows that are one document each.

    Args:
      freeze, freeze_layers, lora: as in `step_flops`.

    Returns:
      `total`, its parts `weights`, `attention`, `adapters`, `forward` (a third of it or more; `forward_attention` of
      that the attention's own products), and the `formula` with its numbers.
    """
    step = step_flops(cfg, freeze=freeze, freeze_layers=freeze_layers, lora=lora)
    keys = mean_keys(seq_len, cfg.sliding_window)
    n = count(cfg).active_matmul
    seen = "S" if not cfg.sliding_window or cfg.sliding_window >= seq_len else "(2 - w/S) w"
    formula = (
        f"{step.weights / n:.3g} x {n / 1e9:.3f} G active matmul parameters + 3 L {seen} N (d_qk + d_v), causal"
        + (f" + 6 x adapters of rank {lora.rank}" if lora else "")
    )
    return {
        "total": step.per_token + step.per_pair * keys,
        "weights": step.weights,
        "attention": step.per_pair * keys,
        "adapters": step.adapters,
        "forward": step.forward + step.forward_pair * keys,
        "forward_attention": step.forward_pair * keys,
        "formula": formula,
    }
