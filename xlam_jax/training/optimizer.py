"""AdamW from an optax chain, and learning-rate schedules by name.

The learning rate is an argument of the step, not a part of the chain: the number of steps may be measured
after compilation, and a schedule that is plain arithmetic on the host resumes exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from xlam_jax.config import Config


class OptimConfig(Config):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with clipping by global norm.

    Attributes:
      lr: peak learning rate.
      warmup: part of the steps over which the rate rises linearly from 0.
      final: learning rate of the last step as a part of `lr` (cosine and linear).
      clip: largest global norm of the gradient; None for no clipping.
      moment_dtype: dtype of the first moment; None for the parameters'.
    """

    lr: float = Field(default=1e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    final: float = Field(default=0.1, ge=0, le=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    moment_dtype: Literal["float32", "bfloat16"] | None = None


def make_optimizer(optim: OptimConfig, decay_mask: Any) -> optax.GradientTransformation:
    """Gradient -> direction, to be scaled by the learning rate and subtracted (see `apply`).

    Args:
      decay_mask: params-shaped tree of bools, True where weight decay applies.
    """
    return optax.chain(
        optax.clip_by_global_norm(optim.clip) if optim.clip else optax.identity(),
        optax.scale_by_adam(optim.beta1, optim.beta2, optim.eps, mu_dtype=optim.moment_dtype),
        optax.add_decayed_weights(optim.weight_decay, decay_mask) if optim.weight_decay else optax.identity(),
    )


def apply(params: Any, direction: Any, lr: jax.Array) -> Any:
    """`params - lr * direction`, computed in float32, in the parameters' dtype."""

    def leaf(p: jax.Array, d: jax.Array) -> jax.Array:
        return (p.astype(jnp.float32) - lr * d.astype(jnp.float32)).astype(p.dtype)

    return jax.tree.map(leaf, params, direction)


def learning_rate(optim: OptimConfig, total_steps: int) -> Callable[[int], float]:
    """The schedule: step (from 0) -> learning rate. Warm-up reaches `lr` on its last step, the decay `final
    * lr` on the run's last step."""
    warm = round(optim.warmup * total_steps)

    def rate(step: int) -> float:
        if step < warm:
            return optim.lr * (step + 1) / warm
        done = min(1.0, (step - warm + 1) / max(1, total_steps - warm))
        match optim.schedule:
            case "cosine":
                left = 0.5 * (1 + math.cos(math.pi * done))
            case "linear":
                left = 1 - done
            case "constant":
                left = 1.0
        return optim.lr * (optim.final + (1 - optim.final) * left)

    return rate
