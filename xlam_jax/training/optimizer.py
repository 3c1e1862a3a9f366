"""Optimizers by name as optax chains, and learning-rate schedules by name.

The learning rate is an argument of the step, not a part of the chain: the number of steps may be measured
after compilation, and a schedule that is plain arithmetic on the host resumes exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib
from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.models.spec import path_name
from xlam_jax.training.adafactor import scale_by_factored_rms
from xlam_jax.training.norms import is_stacked, squares, total
from xlam_jax.training.rounding import round_tree, salted

Rounding = Literal["stochastic", "nearest"]


class OptimConfig(Config):
    """An optimizer with clipping by global norm and decoupled weight decay.

    Attributes:
      name: "adamw" (Loshchilov and Hutter 2019, arXiv:1711.05101); "adafactor" (arXiv:1804.04235, no relative
        step, no first moment: nearly no state); "muon" (matrices of the layers orthogonalised, scaled to
        AdamW's RMS as in arXiv:2502.16982 so that one `lr` serves both; AdamW for tables, norms, routers and
        the head); "sgd" (no state).
      lr: peak learning rate.
      warmup: part of the steps over which the rate rises linearly from 0.
      warmup_steps: the same as a number of steps; goes before `warmup`.
      final: learning rate of the last step as a part of `lr` (cosine and linear).
      momentum: of Muon.
      clip: largest global norm of the gradient; None for no clipping.
      moment_dtype: dtype of the moments of matrices and tables; bfloat16 is rounded stochastically, because
        to nearest the second moment would never fall.
      rounding: how updated bfloat16 parameters are rounded.
      schedule: of the learning rate after warm-up.
      beta1, beta2: decay of AdamW's first and second moment.
      eps: added to the root of the second moment.
      weight_decay: decoupled; matrices and tables decay, norms do not.
    """

    name: Literal["adamw", "adafactor", "muon", "sgd"] = "adamw"
    lr: float = Field(default=1e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    final: float = Field(default=0.1, ge=0, le=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    moment_dtype: Literal["float32", "bfloat16"] = "float32"
    rounding: Rounding = "stochastic"


def make_optimizer(optim: OptimConfig, decay_mask: Any, seed: int = 0) -> optax.GradientTransformation:
    """Gradient -> direction in float32, to be scaled by the learning rate and subtracted (see `apply`).

    Args:
      decay_mask: params-shaped tree of bools, True where weight decay applies.
      seed: of the rounding of moments in bfloat16.
    """
    adam = optax.scale_by_adam(optim.beta1, optim.beta2, optim.eps)
    match optim.name:
        case "adamw":
            scale = adam
        case "adafactor":
            scale = scale_by_factored_rms()
        case "muon":
            scale = optax.partition({"muon": _muon(optim.momentum), "adam": adam}, _muon_labels)
        case "sgd":
            scale = optax.identity()
    return optax.chain(
        clip_in_float32(optim.clip),
        _moments_in_bfloat16(scale, seed) if optim.moment_dtype == "bfloat16" else _float32_state(scale),
        optax.add_decayed_weights(optim.weight_decay, decay_mask) if optim.weight_decay else optax.identity(),
    )


def clip_in_float32(norm: float | None) -> optax.GradientTransformation:
    """Gradients of any dtype -> float32, scaled down so that their global norm is at most `norm`."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scale = jnp.float32(1)
        if norm is not None:
            scale = jnp.minimum(1.0, norm / jnp.maximum(total(squares(grads)), 1e-30))
        return jax.tree.map(lambda g: g.astype(jnp.float32) * scale, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # type: ignore[arg-type]


def _muon(momentum: float) -> optax.GradientTransformation:
    def dims(tree: Any) -> Any:
        # Axes before the last two, layers and experts, are a batch of matrices.
        return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(-2, -1), tree)

    def rms(tree: Any, params: Any) -> Any:
        # 0.2 is the RMS of AdamW's updates (section 2.2 of the paper).
        return jax.tree.map(lambda x: x * (0.2 * math.sqrt(max(x.shape[-2:]))), tree)

    scale = contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=dims)  # type: ignore[arg-type]
    return optax.chain(scale, optax.stateless(rms))


def _muon_labels(tree: Any) -> Any:
    def label(path: tuple, x: jax.Array) -> str:
        matrix = is_stacked(path) and x.ndim >= 3 and not path_name(path).endswith("router")
        return "muon" if matrix else "adam"

    return jax.tree_util.tree_map_with_path(label, tree)


def _float32_state(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """`tx` with float32 state, whatever the parameters' dtype."""

    def init(params: Any) -> Any:
        return tx.init(jax.tree.map(lambda p: p.astype(jnp.float32), params))

    return optax.GradientTransformation(init, tx.update)


class Rounded(NamedTuple):
    """State of a transformation whose large moments are stored in bfloat16."""

    count: Any
    inner: Any


def _moments_in_bfloat16(tx: optax.GradientTransformation, seed: int) -> optax.GradientTransformation:
    tx = _float32_state(tx)

    def narrow(x: jax.Array) -> jax.Array:
        # Vectors cost nothing, and among them are constants that must stay exact.
        return x.astype(jnp.bfloat16) if x.ndim >= 2 and x.dtype == jnp.float32 else x

    def init(params: Any) -> Rounded:
        return Rounded(jnp.zeros((), jnp.int32), jax.tree.map(narrow, tx.init(params)))

    def update(grads: Any, state: Rounded, params: Any = None) -> tuple[Any, Rounded]:
        wide = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, state.inner)
        direction, inner = tx.update(grads, wide, params)
        return direction, Rounded(state.count + 1, round_tree(inner, state.inner, salted(state.count, seed)))

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def apply(
    params: Any, direction: Any, lr: jax.Array, salt: jax.Array, rounding: Rounding = "stochastic"
) -> Any:
    """`params - lr * direction`, computed in float32, in the parameters' dtype.

    Args:
      salt: integer scalar; bfloat16 parameters draw their rounding from it.
    """
    wide = jax.tree.map(lambda p, d: p.astype(jnp.float32) - lr * d.astype(jnp.float32), params, direction)
    if rounding == "nearest":
        return jax.tree.map(lambda x, p: x.astype(p.dtype), wide, params)
    return round_tree(wide, params, salt)


def check_warmup(optim: OptimConfig, total_steps: int) -> None:
    """Raises InputError when a run would end before its learning rate is reached."""
    if optim.warmup_steps is not None and optim.warmup_steps >= total_steps:
        raise InputError(
            f"{optim.warmup_steps} steps of warm-up in a run of {total_steps}",
            where="optim.warmup_steps",
            hint=f"fewer than {total_steps}, or optim.warmup as a part of the steps",
        )


def learning_rate(optim: OptimConfig, total_steps: int) -> Callable[[int], float]:
    """The schedule: step (from 0) -> learning rate. Warm-up reaches `lr` on its last step, the decay `final
    * lr` on the run's last step.

    With `final` 0, step s has the rate that transformers' schedules give to step s + 1: they spend the first
    step at rate 0, and end one step short of the end of the decay.
    """
    warm = optim.warmup_steps if optim.warmup_steps is not None else round(optim.warmup * total_steps)

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
