"""Llama-type decoders: the parameter table. Also DeepSeek-Coder and SmolLM2, which differ in numbers only."""

from __future__ import annotations

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Layer, Params, ParamSpec


def table(cfg: ModelConfig) -> Params:
    """A `Params` whose leaves are `ParamSpec`."""
    c = cfg
    q_width, kv_width = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim

    def matrix(hf: str, rows: tuple[str, int], cols: tuple[str, int], init: str = "normal") -> ParamSpec:
        return ParamSpec(
            shape=(c.num_layers, rows[1], cols[1]),
            axes=("layers", rows[0], cols[0]),
            init=init,
            decay=True,
            lora=True,
            hf=f"model.layers.{{layer}}.{hf}.weight",
            transform="transpose",
            per_layer=True,
        )

    def norm(hf: str) -> ParamSpec:
        name = f"model.layers.{{layer}}.{hf}.weight"
        return ParamSpec(
            (c.num_layers, c.hidden_size), ("layers", "norm"), "ones", False, False, name, "none", True
        )

    embed, heads, kv_heads = ("embed", c.hidden_size), ("heads", q_width), ("kv_heads", kv_width)
    mlp = ("mlp", c.intermediate_size)
    vocab_embed = (c.vocab_size, c.hidden_size)
    return Params(
        embed=ParamSpec(
            vocab_embed, ("vocab", "embed"), "normal", True, False, "model.embed_tokens.weight", "none", False
        ),
        layers=Layer(
            attn_norm=norm("input_layernorm"),
            q=matrix("self_attn.q_proj", embed, heads),
            k=matrix("self_attn.k_proj", embed, kv_heads),
            v=matrix("self_attn.v_proj", embed, kv_heads),
            o=matrix("self_attn.o_proj", heads, embed, "normal_residual"),
            mlp_norm=norm("post_attention_layernorm"),
            gate=matrix("mlp.gate_proj", embed, mlp),
            up=matrix("mlp.up_proj", embed, mlp),
            down=matrix("mlp.down_proj", mlp, embed, "normal_residual"),
        ),
        final_norm=ParamSpec(
            (c.hidden_size,), ("norm",), "ones", False, False, "model.norm.weight", "none", False
        ),
        head=None
        if c.tie_embeddings
        else ParamSpec(
            vocab_embed[::-1], ("embed", "vocab"), "normal", True, False, "lm_head.weight", "transpose", False
        ),
    )
