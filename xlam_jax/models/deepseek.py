"""DeepSeek-V2 (arXiv:2405.04434) and V3 (arXiv:2412.19437): latent attention, a few dense layers, then
experts, some of which see every token."""

from __future__ import annotations

import dataclasses

from xlam_jax.models import mixtral, tables
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import LatentAttention, Moe, Params

_NAMES = ("mlp", "gate_proj", "up_proj", "down_proj")


def table(cfg: ModelConfig) -> Params:
    """A `Params` whose leaves are `ParamSpec`."""
    below, upper = (
        tables.Stack(cfg.dense_layers),
        tables.Stack(cfg.num_layers - cfg.dense_layers, cfg.dense_layers),
    )
    layers = tables.layer(upper, cfg, _attention(upper, cfg), _experts(upper, cfg))
    if not cfg.dense_layers:
        return tables.decoder(cfg, layers)
    mlp = tables.mlp(below, cfg, cfg.intermediate_size)
    return tables.decoder(cfg, layers, tables.layer(below, cfg, _attention(below, cfg), mlp))


def _attention(stack: tables.Stack, cfg: ModelConfig) -> LatentAttention:
    assert cfg.latent
    c = cfg.latent
    embed, heads = ("embed", cfg.hidden_size), ("heads", cfg.num_heads * cfg.head_dim)
    kv_a = stack.matrix("self_attn.kv_a_proj_with_mqa", embed, ("latent", c.kv_rank + c.rope_head_dim))
    kv_b = ("heads", cfg.num_heads * (c.nope_head_dim + c.v_head_dim))
    out = LatentAttention(
        kv_a=kv_a,
        kv_a_norm=stack.norm("self_attn.kv_a_layernorm", c.kv_rank),
        kv_b=stack.matrix("self_attn.kv_b_proj", ("latent_in", c.kv_rank), kv_b),
        o=stack.matrix("self_attn.o_proj", ("heads", cfg.num_heads * c.v_head_dim), embed, "normal_residual"),
    )
    if c.q_rank is None:
        return dataclasses.replace(out, q=stack.matrix("self_attn.q_proj", embed, heads))
    return dataclasses.replace(
        out,
        q_a=stack.matrix("self_attn.q_a_proj", embed, ("latent", c.q_rank)),
        q_a_norm=stack.norm("self_attn.q_a_layernorm", c.q_rank),
        q_b=stack.matrix("self_attn.q_b_proj", ("latent_in", c.q_rank), heads),
    )


def _experts(stack: tables.Stack, cfg: ModelConfig) -> Moe:
    assert cfg.moe
    moe = mixtral.experts(stack, cfg, _NAMES)
    if cfg.moe.selection_bias:
        bias = stack.vector("mlp.gate.e_score_correction_bias", ("router", cfg.moe.num_experts))
        moe = dataclasses.replace(moe, bias=bias)
    if cfg.moe.num_shared_experts:
        width = cfg.moe.num_shared_experts * cfg.moe.intermediate_size
        moe = dataclasses.replace(moe, shared=tables.mlp(stack, cfg, width, "mlp.shared_experts"))
    return moe
