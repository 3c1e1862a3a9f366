"""Dense decoders of Llama's shape: Llama, Mistral, Qwen2, Qwen3, DeepSeek-Coder, SmolLM2. They differ in
numbers, and in biases or head norms that the config names."""

from __future__ import annotations

from xlam_jax.models import tables
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params


def table(cfg: ModelConfig) -> Params:
    """A `Params` whose leaves are `ParamSpec`."""
    stack = tables.Stack(cfg.num_layers)
    mlp = tables.mlp(stack, cfg, cfg.intermediate_size)
    return tables.decoder(cfg, tables.layer(stack, cfg, tables.attention(stack, cfg), mlp))
