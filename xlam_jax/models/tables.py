"""Building blocks of the families' parameter tables."""

from __future__ import annotations

import dataclasses

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Attention, Layer, Mlp, Params, ParamSpec

Axis = tuple[str, int]  # (logical name, size)


@dataclasses.dataclass(frozen=True)
class Stack:
    """Declares the parameters of `count` layers, the lowest of which is layer `first`."""

    count: int
    first: int = 0

    def matrix(
        self, hf: str, rows: Axis, cols: Axis, init: str = "normal", *, experts: int = 0, lora: bool = True
    ) -> ParamSpec:
        """A [rows, cols] matrix per layer, or per layer and expert.

        Args:
          hf: the module's name in a checkpoint, below the layer; "{expert}" stands for the expert's number.
          rows, cols: (logical name, size) of the inputs and of the outputs.
          init: "normal" or "normal_residual", see `ParamSpec`.
          experts: how many; 0 for a matrix that is no expert's.
          lora: whether an adapter may stand on it.
        """
        dims = [("layers", self.count), *([("experts", experts)] if experts else []), rows, cols]
        return self._spec(
            hf, dims, init, decay=True, lora=lora, transform="transpose", per_expert=experts > 0
        )

    def norm(self, hf: str, width: int) -> ParamSpec:
        """The scale of an RMSNorm."""
        return self._spec(hf, [("layers", self.count), ("norm", width)], "ones")

    def bias(self, hf: str, axis: Axis) -> ParamSpec:
        """A vector that is added."""
        return self._spec(hf, [("layers", self.count), axis], "zeros", suffix="bias")

    def vector(self, hf: str, axis: Axis) -> ParamSpec:
        """A vector under its own name."""
        return self._spec(hf, [("layers", self.count), axis], "zeros", suffix="")

    def _spec(
        self, hf: str, dims: list[Axis], init: str, *, decay: bool = False, lora: bool = False,
        transform: str = "none", per_expert: bool = False, suffix: str = "weight",
    ) -> ParamSpec:  # fmt: skip
        name = f"model.layers.{{layer}}.{hf}" + (f".{suffix}" if suffix else "")
        shape, axes = tuple(size for _, size in dims), tuple(axis for axis, _ in dims)
        return ParamSpec(shape, axes, init, decay, lora, name, transform, True, per_expert, self.first)


def attention(stack: Stack, cfg: ModelConfig) -> Attention:
    """Grouped-query attention, with Qwen2's biases or Qwen3's norms where the config says so."""
    embed = ("embed", cfg.hidden_size)
    heads, kv_heads = ("heads", cfg.num_heads * cfg.head_dim), ("kv_heads", cfg.num_kv_heads * cfg.head_dim)
    bias, norm = cfg.attention_bias, cfg.qk_norm
    return Attention(
        q=stack.matrix("self_attn.q_proj", embed, heads),
        k=stack.matrix("self_attn.k_proj", embed, kv_heads),
        v=stack.matrix("self_attn.v_proj", embed, kv_heads),
        o=stack.matrix("self_attn.o_proj", heads, embed, "normal_residual"),
        q_bias=stack.bias("self_attn.q_proj", heads) if bias else None,
        k_bias=stack.bias("self_attn.k_proj", kv_heads) if bias else None,
        v_bias=stack.bias("self_attn.v_proj", kv_heads) if bias else None,
        q_norm=stack.norm("self_attn.q_norm", cfg.head_dim) if norm else None,
        k_norm=stack.norm("self_attn.k_norm", cfg.head_dim) if norm else None,
    )


def mlp(stack: Stack, cfg: ModelConfig, width: int, hf: str = "mlp") -> Mlp:
    """SwiGLU of `width`.

    Args:
      hf: the block's name in a checkpoint, below the layer.
    """
    embed, wide = ("embed", cfg.hidden_size), ("mlp", width)
    return Mlp(
        gate=stack.matrix(f"{hf}.gate_proj", embed, wide),
        up=stack.matrix(f"{hf}.up_proj", embed, wide),
        down=stack.matrix(f"{hf}.down_proj", wide, embed, "normal_residual"),
    )


def layer(stack: Stack, cfg: ModelConfig, attn: object, block: object) -> Layer:
    """A pre-norm block.

    Args:
      attn: an `Attention` or `LatentAttention` of `ParamSpec`.
      block: an `Mlp` or `Moe` of `ParamSpec`.
    """
    return Layer(
        attn_norm=stack.norm("input_layernorm", cfg.hidden_size),
        attn=attn,
        mlp_norm=stack.norm("post_attention_layernorm", cfg.hidden_size),
        mlp=block,
    )


def decoder(cfg: ModelConfig, layers: Layer, dense_layers: Layer | None = None) -> Params:
    """Embedding, layers, final norm and head."""
    c = cfg
    table = (c.vocab_size, c.hidden_size)
    head = ParamSpec(
        table[::-1], ("embed", "vocab"), "normal", True, False, "lm_head.weight", "transpose", False
    )
    return Params(
        embed=ParamSpec(
            table, ("vocab", "embed"), "normal", True, False, "model.embed_tokens.weight", "none", False
        ),
        layers=layers,
        final_norm=ParamSpec(
            (c.hidden_size,), ("norm",), "ones", False, False, "model.norm.weight", "none", False
        ),
        head=None if c.tie_embeddings else head,
        dense_layers=dense_layers,
    )
