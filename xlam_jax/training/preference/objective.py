"""Preference optimisation as an objective: sums over pairs, whatever rows and micro-batches they lie in.

The reference enters as log-probabilities in the batch, so it makes no difference here whether they were
precomputed, or come from a frozen copy or from the model without its adapters.

Axes: B rows, S positions, N positions picked for logits, P pairs of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xlam_jax.models import decoder
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.logprobs import token_logprobs
from xlam_jax.models.params import Layer, Params
from xlam_jax.shards.batch import PairBatch
from xlam_jax.shards.preference import BOTH, CHOSEN_SAME
from xlam_jax.training.config import MoeOptions
from xlam_jax.training.objectives import Objective, router_loss, target_index
from xlam_jax.training.preference.config import ObjectiveConfig
from xlam_jax.training.preference.losses import ON_AVERAGES, LogRatios, preference_loss


class PairModel(NamedTuple):
    """How log-probabilities of pairs are computed; policy and reference must agree.

    Attributes:
      shared: the data's layout is `shared`.
      max_targets, max_pairs: no row has more weighted targets, or pairs.
      chunk: positions of a row whose logits exist at once.
      max_segments: see `models.attention.attend`.
      moe: how a mixture computes its experts; its load-balance loss is the policy's alone.
    """

    cfg: ModelConfig
    shared: bool = False
    max_targets: int | None = None
    max_pairs: int = 16
    compute_dtype: Any = None
    attention: str = "xla"
    remat: str = "none"
    chunk: int = 256
    moe: MoeOptions = MoeOptions()
    max_segments: int | None = None


class _Picked(NamedTuple):
    """The positions that have a target, `[B, N]` each; `answer` is False on what only fills up."""

    logprobs: jax.Array
    index: jax.Array
    answer: jax.Array
    row_finite: jax.Array  # [B]
    aux: Mapping[str, jax.Array]


def _forward(model: PairModel, params: Params, batch: PairBatch, frozen_layers: Layer | None) -> _Picked:
    rejected_side = (batch.branches > BOTH) & (batch.branches % 2 == 0)
    if model.shared:
        segment_ids = batch.segment_ids
        branches = jnp.where(batch.branches == BOTH, 0, 1 + rejected_side)
    else:  # two documents
        segment_ids = jnp.where(batch.segment_ids > 0, 2 * batch.segment_ids - 1 + rejected_side, 0)
        branches = None
    hidden_BSD, aux = decoder.forward(
        params,
        batch.tokens,
        batch.positions,
        segment_ids,
        model.cfg,
        remat=model.remat,
        compute_dtype=model.compute_dtype,
        attention=model.attention,
        experts=model.moe.experts,
        exchange=model.moe.exchange,
        frozen_layers=frozen_layers,
        max_segments=model.max_segments,
        branches_BS=branches,
    )
    finite = jnp.isfinite(hidden_BSD).all(axis=(1, 2))
    index = target_index(
        batch.loss_weights, min(model.max_targets or batch.tokens.shape[1], batch.tokens.shape[1])
    )
    picked = jnp.take_along_axis(hidden_BSD, index[..., None], axis=1)
    targets = jnp.take_along_axis(batch.targets, index, axis=1)
    answer = jnp.take_along_axis(batch.loss_weights, index, axis=1) > 0
    logprobs = token_logprobs(picked, decoder.head_matrix(params), targets, model.chunk)
    return _Picked(jnp.where(answer, logprobs, 0.0), index, answer, finite, aux)


def reference_logprobs(model: PairModel) -> Callable[[Params, PairBatch], jax.Array]:
    """The function (params, batch `[B, S]`) -> log-probabilities of the answers' targets, float32 [B, S], 0
    elsewhere: what `PairBatch.reference` holds. No gradient, and no auxiliary loss of a MoE, comes from it.
    """

    def compute(params: Params, batch: PairBatch) -> jax.Array:
        picked = _forward(model, params, batch, None)
        rows = jnp.arange(picked.index.shape[0])[:, None]
        empty = jnp.zeros(batch.tokens.shape, jnp.float32)
        return jax.lax.stop_gradient(empty.at[rows, picked.index].set(picked.logprobs))

    return compute


def dpo_objective(model: PairModel, config: ObjectiveConfig) -> Objective:
    """The preference objective; a pair has weight 1.

    Metrics, averages over pairs: `accuracy` (reward of the chosen answer strictly greater), `reward_chosen`,
    `reward_rejected`, `margin` (beta times the log-ratios: sums, or averages for a loss on averages);
    `chosen_change`, `rejected_change` (log-ratios, nats an answer); `logp_chosen`, `logp_rejected`; `nll` (of
    the chosen answer, mean over its tokens); `divergence` (tokens before the answers differ); those of a
    mixture's router, see `objectives.router_loss`.
    """

    def objective(
        params: Params, batch: PairBatch, frozen_layers: Layer | None = None
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        picked = _forward(model, params, batch, frozen_layers)
        sums = _PairSums(batch, picked, model.max_pairs)
        chosen, rejected = sums.answers(picked.logprobs, config.ld_alpha)
        log_ratios = LogRatios(chosen, rejected, *sums.lengths)
        if config.reference != "none":
            reference = jnp.take_along_axis(batch.reference, picked.index, axis=1)
            of_chosen, of_rejected = sums.answers(reference, config.ld_alpha)
            log_ratios = log_ratios._replace(chosen=chosen - of_chosen, rejected=rejected - of_rejected)
        loss = preference_loss(config.loss, log_ratios, config.constants)
        # The likelihood itself, whatever weight LD-DPO gives the tail.
        total, _ = (chosen, rejected) if config.ld_alpha == 1 else sums.answers(picked.logprobs)
        mean_nll = -total / jnp.maximum(sums.lengths[0], 1)
        if config.nll_weight:
            loss += config.nll_weight * (mean_nll if config.nll == "mean" else -total)
        pairs = sums.present.astype(jnp.float32)
        weight_sum = pairs.sum()
        loss_sum = (loss * pairs).sum()
        router_metrics: dict[str, jax.Array] = {}
        if model.cfg.moe:
            extra, router_metrics = router_loss(dict(picked.aux), model.cfg, model.moe, weight_sum)
            loss_sum += extra

        scored = log_ratios.averages() if config.loss in ON_AVERAGES else log_ratios
        rewards = config.beta * scored.chosen, config.beta * scored.rejected
        metrics = {
            "accuracy": rewards[0] > rewards[1],
            "margin": rewards[0] - rewards[1],
            "reward_chosen": rewards[0],
            "reward_rejected": rewards[1],
            "chosen_change": log_ratios.chosen,
            "rejected_change": log_ratios.rejected,
            "logp_chosen": chosen,
            "logp_rejected": rejected,
            "nll": mean_nll,
            "divergence": sums.common,
        }
        finite = picked.row_finite & jnp.isfinite(batch.reference).all(axis=1)
        return loss_sum, weight_sum, {
            **{f"{name}_sum": jax.lax.stop_gradient((x * pairs).sum()) for name, x in metrics.items()},
            **router_metrics,
            "row_finite": finite,
        }  # fmt: skip

    return objective


class _PairSums:
    """Adds up what belongs to each answer, [B, N] -> [B, P]."""

    def __init__(self, batch: PairBatch, picked: _Picked, max_pairs: int):
        segment, branch, position = (
            jnp.take_along_axis(x, picked.index, axis=1)
            for x in (batch.segment_ids, batch.branches, batch.positions)
        )
        pair_BNP = (segment[..., None] == jnp.arange(1, max_pairs + 1)) & picked.answer[..., None]
        of_chosen = (branch == BOTH) | (branch % 2 == 1)
        of_rejected = (branch == BOTH) | (branch % 2 == 0)
        self._chosen, self._rejected = pair_BNP & of_chosen[..., None], pair_BNP & of_rejected[..., None]
        self._pair, self._position = pair_BNP, position
        ones = jnp.ones(position.shape, jnp.float32)
        self.lengths = _add(ones, self._chosen), _add(ones, self._rejected)
        self.common = _add(ones, pair_BNP & ((branch == BOTH) | (branch == CHOSEN_SAME))[..., None])
        self.present = (self.lengths[0] > 0) & (self.lengths[1] > 0)

    def answers(self, x_BN: jax.Array, ld_alpha: float = 1.0) -> tuple[jax.Array, jax.Array]:
        """Sums over the chosen and the rejected answers; tokens past the shorter one's length count
        `ld_alpha`."""
        if ld_alpha != 1:
            far = jnp.iinfo(jnp.int32).max
            start = jnp.where(self._pair, self._position[..., None], far).min(axis=1, keepdims=True)
            place = self._position[..., None] - start  # within the answer
            tail = place >= jnp.minimum(*self.lengths)[:, None]
            x_BN = x_BN * jnp.where((tail & self._pair).any(axis=-1), ld_alpha, 1.0)
        return _add(x_BN, self._chosen), _add(x_BN, self._rejected)


def _add(x_BN: jax.Array, mask_BNP: jax.Array) -> jax.Array:
    # A masked sum, not a product of matrices: no accelerator may round its operands.
    return jnp.where(mask_BNP, x_BN[..., None], 0.0).sum(axis=1)
