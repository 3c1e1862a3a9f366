"""Objectives: (params, batch) -> (loss sum, weight sum, metrics).

Sums, not means: the step divides once by the weight of the whole batch, so neither packing, accumulation nor
the number of devices changes the loss.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from xlam_jax.models import decoder
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.params import Layer, Params
from xlam_jax.models.routing import load_balance_loss
from xlam_jax.shards.batch import Batch, ForkBatch
from xlam_jax.training.config import MoeOptions


class Objective(Protocol):
    """Args: whole or upper parameters; a `[B, S]` batch; the stacked layers below them, which get no
    gradient.

    Returns float32 scalars `loss_sum`, `weight_sum`, and metrics: `X_sum` are added up over micro-batches and
    devices and divided by the weight, which is logged as `X`; `row_finite` is a bool [B].
    """

    def __call__(
        self, params: Params, batch: Any, frozen_layers: Layer | None = None
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]: ...


def sft_objective(
    cfg: ModelConfig,
    *,
    remat: str = "none",
    compute_dtype: Any = None,
    attention: str = "xla",
    max_targets: int | None = None,
    max_segments: int | None = None,
    chunk: int = 256,
    moe: MoeOptions = MoeOptions(),
) -> Objective:
    """Cross-entropy of the weighted targets; `[B, S, V]` never exists.

    Args:
      max_segments: no row has more documents, padding counted as one; see `models.attention.attend`.
      moe: for mixtures of experts; their load-balance loss is added.
      max_targets: no row has more weighted targets than this (the manifest knows). Only these positions are
        projected on the vocabulary: prompts, the larger part of a row, cost no logits.
      chunk: positions of a row that are projected at once.
    """

    def objective(
        params: Params, batch: Batch | ForkBatch, frozen_layers: Layer | None = None
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        hidden_BSD, router = decoder.forward(
            params,
            batch.tokens,
            batch.positions,
            batch.segment_ids,
            cfg,
            remat=remat,
            compute_dtype=compute_dtype,
            attention=attention,
            experts=moe.experts,
            exchange=moe.exchange,
            max_segments=max_segments,
            frozen_layers=frozen_layers,
            branches_BS=batch.forks if isinstance(batch, ForkBatch) else None,
        )
        finite = jnp.isfinite(hidden_BSD).all(axis=(1, 2)) & jnp.isfinite(batch.loss_weights).all(axis=1)
        targets, weights = batch.targets, batch.loss_weights
        if max_targets is not None and max_targets < targets.shape[1]:
            hidden_BSD, targets, weights = pick_targets(hidden_BSD, targets, weights, max_targets)
        head = decoder.head_matrix(params)
        loss_sum, weight_sum, metrics = chunked_cross_entropy(hidden_BSD, head, targets, weights, chunk)
        sums = {"accuracy_sum": metrics["correct_sum"], "row_finite": finite}
        if cfg.moe:
            extra, router_metrics = router_loss(router, cfg, moe, weight_sum)
            loss_sum, sums = loss_sum + extra, {**sums, **router_metrics}
        return loss_sum, weight_sum, sums

    return objective


def router_loss(
    router: dict[str, jax.Array], cfg: ModelConfig, moe: MoeOptions, weight_sum: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(load-balance loss to add to the loss sum, metrics as sums) of a mixture's `forward`.

    It is weighted like the micro-batch it comes from, so that accumulated steps average it by weight. The
    statistics inside it are those of the micro-batch over all devices.

    Args:
      router: what `decoder.forward` gives beside the hidden states, by layer.
      moe: of the config; its `aux_loss` replaces the model's own coefficient.
      weight_sum: of the micro-batch's losses; no gradient goes through it.
    """
    assert cfg.moe
    value = load_balance_loss(router["router_count"], router["router_prob"], router["router_tokens"], cfg.moe)
    weight = jax.lax.stop_gradient(weight_sum)
    coef = cfg.moe.aux_loss_coef if moe.aux_loss is None else moe.aux_loss
    load = router["moe_max_load"].max()
    return coef * value * weight, {"router_aux_sum": value * weight, "router_max_load_sum": load * weight}


def pick_targets(
    hidden_BSD: jax.Array, targets_BS: jax.Array, weights_BS: jax.Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first `count` weighted positions of each row, in order; weight 0 where a row has fewer.

    Args:
      weights_BS: 0 for a position without a loss.
      count: targets of a row beyond it are left out, so it must be at least the most that any row has.
    """
    index = target_index(weights_BS, count)
    picked = jnp.take_along_axis(hidden_BSD, index[..., None], axis=1)
    targets, weights = (jnp.take_along_axis(x, index, axis=1) for x in (targets_BS, weights_BS))
    return picked, targets, weights


def target_index(weights_BS: jax.Array, count: int) -> jax.Array:
    """Where the first `count` weighted positions of each row stand, then others: int32 [B, count]."""
    # Stable: weighted positions first, each kind in its own order.
    return jnp.argsort(weights_BS == 0, axis=1, stable=True)[:, :count]
