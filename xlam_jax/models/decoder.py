"""The forward pass: pure functions over `Params`. The halves of a block stand in `blocks`.

Weights are fp32 or bf16; `compute_dtype` is what matrix products run in.

Shape legend: B rows, S positions, D hidden, N query heads, K key/value heads, H head width, V vocabulary,
L layers, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.errors import InputError
from xlam_jax.models.attention import attend, keep_attention, refuse_overfull
from xlam_jax.models.blocks import SAVEABLE_NAMES, attention_inputs, attention_output, mlp_block, rms_norm
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Layer, Params
from xlam_jax.models.rope import rope_angles, softmax_scale
from xlam_jax.parallel.embedding import look_up
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules, constrain


def forward(
    params: Params,
    tokens_BS: jax.Array,
    positions_BS: jax.Array,
    segment_ids_BS: jax.Array,
    cfg: ModelConfig,
    *,
    remat: str = "none",
    compute_dtype: Any = None,
    attention: str = "xla",
    rules: ShardingRules = DEFAULT_RULES,
    experts: str = "batched",
    exchange: str = "auto",
    frozen_layers: Layer | None = None,
    max_segments: int | None = None,
    branches_BS: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Hidden states after the final norm.

    Args:
      params: stacked layers are scanned; a tuple of layers is unrolled.
      tokens_BS: int32 ids.
      positions_BS: int32, counted from 0 within each packed document.
      segment_ids_BS: int32; tokens attend causally within equal ids. 0 is padding.
      remat: what the backward pass keeps of each layer: "none" (keep everything), "full" (recompute all),
        "dots" (keep matrix products with weights, and attention), "names:a,b" (keep these of `SAVEABLE_NAMES`).
      compute_dtype: dtype of activations and matrix products; None for the parameters' own.
      attention: backend name, see `models.attention`.
      rules: sharding rules of activations; they act only under `jax.set_mesh`.
      experts, exchange: how a mixture computes its experts and moves tokens to them, see `models.experts`.
      frozen_layers: stacked layers that stand below `params.layers`; gradients stop above them, so they cost
        a forward pass and keep nothing for the backward one.
      max_segments: bound on the segments of a row, for the attention backends that need one.
      branches_BS: int32, where segments fork; see `models.attention.attend`.

    Returns:
      (hidden_BSD; sums over the tokens of each mixture layer, stacked [L, ...], see `blocks.mlp_block`: empty
      for dense models).

    Raises:
      InputError: unknown remat policy or attention backend.
    """
    policy = remat_policy(remat)
    x_BSD = embed(params, tokens_BS, compute_dtype, rules)
    if attention == "cudnn":
        x_BSD = refuse_overfull(x_BSD, segment_ids_BS, max_segments)
    x_BSD = constrain(x_BSD, ("batch", "length", "act_embed"), rules)
    angles = rope_angles(positions_BS, cfg)
    scale, mask_BS = softmax_scale(cfg), segment_ids_BS > 0

    def block(x_BSD: jax.Array, layer: Layer) -> tuple[jax.Array, dict[str, jax.Array]]:
        q, k, v = attention_inputs(layer, x_BSD, angles, cfg)
        q = constrain(q, ("batch", "length", "act_heads", None), rules)
        with jax.named_scope("attention"):
            out = attend(
                q, k, v, segment_ids_BS, window=cfg.sliding_window, backend=attention, scale=scale,
                max_segments=max_segments,
                branches_BS=branches_BS,
            )  # fmt: skip
        x_BSD = attention_output(layer, x_BSD, out)
        x_BSD = constrain(x_BSD, ("batch", "length", "act_embed"), rules)
        options = {"backend": experts, "exchange": exchange, "rules": rules} if cfg.moe else {}
        x_BSD, sums = mlp_block(layer, x_BSD, cfg, mask_BS, **options)
        return constrain(x_BSD, ("batch", "length", "act_embed"), rules), sums

    if frozen_layers is not None:
        x_BSD, _ = jax.lax.scan(block, x_BSD, frozen_layers)
        x_BSD = jax.lax.stop_gradient(x_BSD)
    if remat != "none":
        # Inside a scan the compiler cannot merge the recomputation with the forward pass anyway.
        block = jax.checkpoint(block, policy=policy, prevent_cse=isinstance(params.layers, tuple))
    if params.dense_layers is not None:
        x_BSD, _ = jax.lax.scan(block, x_BSD, params.dense_layers)
    if isinstance(params.layers, tuple):
        each = []
        for layer in params.layers:
            x_BSD, sums = block(x_BSD, layer)
            each += [sums] if sums else []
        stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *each) if each else {}
    else:
        x_BSD, stacked = jax.lax.scan(block, x_BSD, params.layers)
    return final_norm(params, x_BSD, cfg), stacked


def remat_policy(name: str) -> Callable[..., bool] | None:
    """The `jax.checkpoint` policy called `name`; None recomputes everything."""
    policies = jax.checkpoint_policies
    if name in ("none", "full"):
        return None
    if name == "dots":
        return policies.save_from_both_policies(policies.dots_with_no_batch_dims_saveable, keep_attention)
    kind, _, rest = name.partition(":")
    names = tuple(part.strip() for part in rest.split(",") if part.strip())
    if kind == "names" and names and set(names) <= set(SAVEABLE_NAMES):
        named = policies.save_only_these_names(*names)
        return policies.save_from_both_policies(named, keep_attention) if "attn_out" in names else named
    raise InputError(
        f"unknown remat policy {name!r}",
        where="remat",
        hint=f"none, full, dots, or names: followed by any of {','.join(SAVEABLE_NAMES)}",
    )


def embed(
    params: Params, tokens_BS: jax.Array, dtype: Any = None, rules: ShardingRules = DEFAULT_RULES
) -> jax.Array:
    """[B, S] ids -> [B, S, D].

    Args:
      tokens_BS: int32 ids.
      dtype: of the result; None for the table's own.
      rules: how the table and the tokens are split; they act only under `jax.set_mesh`.
    """
    with jax.named_scope("embed"):
        return look_up(params.embed, tokens_BS, dtype, rules)


def final_norm(params: Params, x_BSD: jax.Array, cfg: ModelConfig) -> jax.Array:
    """The last RMSNorm; its result is what `logits` and the chunked cross-entropy take."""
    return rms_norm(x_BSD, params.final_norm, cfg.rms_norm_eps)


def head_matrix(params: Params) -> jax.Array:
    """[D, V]; the transposed embedding table when tied, so that its gradient reaches the table."""
    return params.embed.T if params.head is None else params.head


def logits(params: Params, hidden: jax.Array, cfg: ModelConfig) -> jax.Array:
    """[..., D] -> float32 [..., V]. For training use `models.cross_entropy`, which never holds all of it."""
    del cfg
    head_DV = head_matrix(params).astype(hidden.dtype)
    return jnp.matmul(hidden, head_DV, preferred_element_type=jnp.float32)
