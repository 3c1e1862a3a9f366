"""Which experts a token goes to, and with what weight.

The rules are those of transformers 5 (`MixtralTopKRouter`, `Qwen3MoeTopKRouter`, `DeepseekV2TopkRouter`,
`DeepseekV3TopkRouter`), in float32 throughout:

| model       | scores  | chosen by                          | weights of the chosen          |
|-------------|---------|------------------------------------|--------------------------------|
| Mixtral     | softmax | score                              | score / sum of chosen scores   |
| Qwen3-MoE   | softmax | score                              | the same, if `norm_topk`       |
| DeepSeek-V2 | softmax | score, within the best groups      | score * scaling                |
| DeepSeek-V3 | sigmoid | score + bias, within the best groups | score / sum of chosen * scaling |

Equal scores: the lower expert number wins here; torch leaves the choice open. The order of the K choices of a
token has no meaning (torch does not sort them for DeepSeek).

Routing is ordinary code under `jax.jit`: the compiler partitions it, so its sums are over the global batch.

Shape legend: B rows, S positions, D hidden, E experts, G groups of experts, K choices of a token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xlam_jax.errors import InputError
from xlam_jax.models.adapted import product
from xlam_jax.models.config import MoeConfig


class Routing(NamedTuple):
    """Choices, and sums over real tokens; sums add over micro-batches and layers."""

    weights_BSK: jax.Array  # float32; 0 for padding
    ids_BSK: jax.Array  # int32; `num_experts` (no expert) for padding
    count_E: jax.Array  # float32, assignments of each expert; no gradient
    prob_E: jax.Array  # float32, sum of each expert's router probability
    tokens: jax.Array  # float32 scalar, number of real tokens


def route(
    x_BSD: jax.Array, router_DE: Any, cfg: MoeConfig, mask_BS: jax.Array | None = None, bias_E: Any = None
) -> Routing:
    """Chooses `cfg.experts_per_token` experts for every real token.

    Args:
      x_BSD: normed hidden states.
      router_DE: matrix, or one with a LoRA adapter.
      mask_BS: nonzero for real tokens; None when all are. Padding is never read, so it may hold anything.
      bias_E: correction that is added for the choice alone; needed exactly when `cfg.selection_bias`.

    Raises:
      InputError: groups too small for their scoring, or a bias that is missing or unwanted.
    """
    _check(cfg, bias_E)
    E, K = cfg.num_experts, cfg.experts_per_token
    real_BS1 = jnp.ones((*x_BSD.shape[:2], 1), bool) if mask_BS is None else (mask_BS != 0)[..., None]
    x32_BSD = jnp.where(real_BS1, x_BSD, 0).astype(jnp.float32)
    with jax.named_scope("router"):
        logits_BSE = product(_matmul, x32_BSD, router_DE)
        if cfg.scoring == "softmax":
            scores_BSE = probs_BSE = jax.nn.softmax(logits_BSE, axis=-1)
        else:
            scores_BSE = jax.nn.sigmoid(logits_BSE)
            probs_BSE = scores_BSE / (scores_BSE.sum(axis=-1, keepdims=True) + 1e-20)
        choice_BSE = jax.lax.stop_gradient(scores_BSE)
        if bias_E is not None:
            choice_BSE = choice_BSE + jax.lax.stop_gradient(bias_E.astype(jnp.float32))
        ids_BSK = _top(_best_groups(choice_BSE, cfg), K)
        chosen_BSKE = (ids_BSK[..., None] == jnp.arange(E)) & real_BS1[..., None]
        # A masked sum and not a gather: its gradient needs no scatter.
        weights_BSK = jnp.where(chosen_BSKE, scores_BSE[:, :, None, :], 0).sum(axis=-1)
        if cfg.norm_topk:
            weights_BSK = weights_BSK / (weights_BSK.sum(axis=-1, keepdims=True) + 1e-20)
        return Routing(
            weights_BSK=weights_BSK * cfg.routed_scaling,
            ids_BSK=jnp.where(real_BS1, ids_BSK, E),
            count_E=chosen_BSKE.sum(axis=(0, 1, 2), dtype=jnp.float32),
            prob_E=jnp.where(real_BS1, probs_BSE, 0).sum(axis=(0, 1)),
            tokens=real_BS1.sum(dtype=jnp.float32),
        )


def load_balance_loss(count_E: jax.Array, prob_E: jax.Array, tokens: jax.Array, cfg: MoeConfig) -> jax.Array:
    """E * sum_e (share of tokens that chose e) * (mean probability of e); K when perfectly balanced.

    From Fedus et al. 2021 (arXiv:2101.03961), as `load_balancing_loss_func` of transformers has it: the
    statistics of all layers are pooled before the product, and padding does not count.

    Args:
      count_E, prob_E, tokens: the sums of `Routing`, of one layer ([E], [E], scalar) or added up over layers
        (`tokens` too); or stacked [L, E], [L, E], [L], which pools them here. For the per-layer variant apply
        `jax.vmap` over the layers and take the mean.

    Returns:
      float32 scalar, not yet multiplied by `aux_loss_coef`; 0 when there are no tokens.
    """
    if count_E.ndim == 2:
        count_E, prob_E, tokens = count_E.sum(0), prob_E.sum(0), tokens.sum()
    tokens = jnp.maximum(tokens, 1.0)
    return cfg.num_experts * jnp.sum((jax.lax.stop_gradient(count_E) / tokens) * (prob_E / tokens))


def _matmul(x_BSD: jax.Array, w_DE: jax.Array) -> jax.Array:
    # "highest": an accelerator would multiply float32 in bf16 or tf32 passes, enough to change a choice.
    return jnp.matmul(x_BSD, w_DE.astype(jnp.float32), precision="highest")


def _top(scores: jax.Array, k: int) -> jax.Array:
    """int32 indices of the k largest of the last axis, descending; of equals the first.

    `jax.lax.top_k` is the same, but the partitioner gathers its whole input on every device first.
    """
    best = []
    for _ in range(k):
        best.append(jnp.argmax(scores, axis=-1).astype(jnp.int32))
        scores = jnp.where(jnp.arange(scores.shape[-1]) == best[-1][..., None], -jnp.inf, scores)
    return jnp.stack(best, axis=-1)


def _member(ids: jax.Array, count: int) -> jax.Array:
    """[..., k] indices -> bool [..., count]: which are among them."""
    return (ids[..., None] == jnp.arange(count)).any(axis=-2)


def _best_groups(choice_BSE: jax.Array, cfg: MoeConfig) -> jax.Array:
    """Scores with those outside the best `topk_group` of `n_group` groups at -inf.

    transformers puts 0 there for DeepSeek-V2, which differs only where a chosen score has underflowed to 0.
    """
    G = cfg.n_group
    if G == 1:
        return choice_BSE
    grouped_BSGe = choice_BSE.reshape(*choice_BSE.shape[:2], G, -1)
    if cfg.group_scoring == "top2":
        best_BSGe = _member(_top(grouped_BSGe, 2), grouped_BSGe.shape[-1])
        score_BSG = jnp.where(best_BSGe, grouped_BSGe, 0).sum(axis=-1)
    else:
        score_BSG = grouped_BSGe.max(axis=-1)
    keep_BSG = _member(_top(score_BSG, cfg.topk_group), G)
    return jnp.where(keep_BSG[..., None], grouped_BSGe, -jnp.inf).reshape(choice_BSE.shape)


def _check(cfg: MoeConfig, bias_E: Any) -> None:
    if (bias_E is not None) != cfg.selection_bias:
        raise InputError(
            f"selection_bias is {cfg.selection_bias}, the bias is {'absent' if bias_E is None else 'given'}",
            where="moe.selection_bias",
        )
