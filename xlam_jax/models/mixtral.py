"""Mixtral (arXiv:2401.04088) and Qwen3-MoE: grouped-query attention, experts in every layer."""

from __future__ import annotations

from xlam_jax.models import tables
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Moe, Params

# Names of gate, up and down below the block. The per-expert layout is the one of the hub and of vLLM; the
# fused one that transformers 5 holds in memory is read too (`weights.fused`).
_MIXTRAL = ("block_sparse_moe", "w1", "w3", "w2")
_QWEN3 = ("mlp", "gate_proj", "up_proj", "down_proj")


def table(cfg: ModelConfig) -> Params:
    """A `Params` whose leaves are `ParamSpec`."""
    stack = tables.Stack(cfg.num_layers)
    names = _MIXTRAL if cfg.family == "mixtral" else _QWEN3
    return tables.decoder(
        cfg, tables.layer(stack, cfg, tables.attention(stack, cfg), experts(stack, cfg, names))
    )


def experts(stack: tables.Stack, cfg: ModelConfig, names: tuple[str, str, str, str]) -> Moe:
    """Router and experts; `names`: the block and the three matrices of an expert in a checkpoint."""
    assert cfg.moe
    block, gate, up, down = names
    embed, wide, count = ("embed", cfg.hidden_size), ("mlp", cfg.moe.intermediate_size), cfg.moe.num_experts
    return Moe(
        # One small matrix that every device needs whole, so its columns are not split.
        router=stack.matrix(f"{block}.gate", embed, ("router", count)),
        gate=stack.matrix(f"{block}.experts.{{expert}}.{gate}", embed, wide, experts=count),
        up=stack.matrix(f"{block}.experts.{{expert}}.{up}", embed, wide, experts=count),
        down=stack.matrix(
            f"{block}.experts.{{expert}}.{down}", wide, embed, "normal_residual", experts=count
        ),
    )
