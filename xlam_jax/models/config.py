"""What a decoder looks like: `ModelConfig` and its parts. Released shapes stand in `named`, config.json of
Hugging Face in `hf_config`."""

from __future__ import annotations

import dataclasses
from typing import Any

from xlam_jax.errors import InputError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3")
# Keys of each RoPE type beside `factor`; those with a value may be left out.
ROPE_KEYS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "dynamic": (),
    "llama3": ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("original_max_position_embeddings",),
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Stretching of rotary positions.

    Attributes:
      type: `linear` divides angles by `factor` (Chen et al., arXiv:2306.15595); `dynamic` raises the base
        once a row is longer than the trained length; `llama3` divides low frequencies only (Llama 3.1);
        `yarn` blends both by frequency (Peng et al., arXiv:2309.00071).
      original_max_position_embeddings: trained length, for `llama3` and `yarn`.
      low_freq_factor, high_freq_factor: of `llama3`.
      beta_fast, beta_slow, attention_factor, mscale, mscale_all_dim: of `yarn`; an `attention_factor` of None
        follows from the others.
      truncate: of `yarn`: the ends of its ramp are whole pairs.

    Raises:
      InputError: unknown type, a factor that is not positive, or a key that the type needs.
    """

    type: str = "linear"
    factor: float = 1.0
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.type not in ROPE_KEYS:
            raise InputError(
                f"RoPE type {self.type!r} is not supported",
                hint="supported: default, " + ", ".join(ROPE_KEYS),
            )
        if not self.factor > 0:
            raise InputError(f"RoPE factor must be positive, found {self.factor!r}")
        missing = [key for key in ROPE_KEYS[self.type] if not getattr(self, key)]
        if missing:
            raise InputError(f"{self.type} RoPE without {', '.join(missing)} (rope_scaling)")


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values come out of one narrow
    vector per token, and only `rope_head_dim` of a head's width is rotated.

    Attributes:
      q_rank: width of the queries' bottleneck; None for a plain projection.
      kv_rank: width of the vector that keys and values come out of.
      nope_head_dim, rope_head_dim: parts of a query or key head without and with rotation.
      v_head_dim: width of a value head.
    """

    kv_rank: int
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int
    q_rank: int | None = None


@dataclasses.dataclass(frozen=True)
class MoeConfig:
    """A mixture of experts in place of the MLP.

    Attributes:
      num_experts, experts_per_token: experts of a layer, and how many each token goes to.
      intermediate_size: MLP width of one expert.
      scoring: "softmax" over all experts, or "sigmoid" of each.
      norm_topk: weights of the chosen experts are divided by their sum.
      routed_scaling: factor on the weights after that.
      n_group, topk_group: experts are chosen within the `topk_group` best of `n_group` groups.
      group_scoring: a group is as good as its best expert ("max"), or its two best together ("top2").
      selection_bias: a bias per expert takes part in choosing, not in weighing
        (DeepSeek-V3, arXiv:2412.19437).
      num_shared_experts: experts that see every token, as one MLP that many times as wide.
      first_dense_layers: lowest layers that keep a plain MLP of the model's `intermediate_size`.
      aux_loss_coef: weight of the load-balance loss in training.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    scoring: str = "softmax"
    norm_topk: bool = True
    routed_scaling: float = 1.0
    n_group: int = 1
    topk_group: int = 1
    group_scoring: str = "max"
    selection_bias: bool = False
    num_shared_experts: int = 0
    first_dense_layers: int = 0
    aux_loss_coef: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise InputError(
                f"experts_per_token ({self.experts_per_token}) must lie between 1 and "
                f"num_experts ({self.num_experts})"
            )
        if self.scoring not in ("softmax", "sigmoid") or self.group_scoring not in ("max", "top2"):
            raise InputError(
                f"unknown router scoring {self.scoring!r} or group scoring {self.group_scoring!r}"
            )
        if self.num_experts % self.n_group or not 1 <= self.topk_group <= self.n_group:
            raise InputError(
                f"{self.num_experts} experts in {self.n_group} groups (n_group), {self.topk_group} of them chosen "
                "(topk_group): groups must be equal, and as many at least as are chosen"
            )
        if self.group_scoring == "top2" and self.num_experts // self.n_group < 2:
            raise InputError(
                f"{self.num_experts} experts in {self.n_group} groups (n_group): a group is as good as its two best, "
                "which takes two experts a group"
            )
        if self.topk_group * (self.num_experts // self.n_group) < self.experts_per_token:
            raise InputError(
                "the chosen groups (n_group, topk_group) hold fewer experts than experts_per_token"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and constants of one decoder; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
      family: one of `FAMILIES`.
      intermediate_size: MLP width; of a mixture, the width of its plain layers only.
      head_dim: width of a query and of a key head; num_heads * head_dim need not equal hidden_size.
      rope_scaling: None for plain RoPE.
      sliding_window: a token sees itself and the `sliding_window - 1` tokens before it; None for all.
      attention_bias: query, key and value projections have a bias (Qwen2).
      qk_norm: RMSNorm over each query and key head, before rotation (Qwen3).
      latent: latent attention instead of plain one.
      moe: mixture of experts instead of the MLP.
      tie_embeddings: the output projection is the transposed embedding table.
      eos_token_ids: any of them ends a generation; empty when the checkpoint names none.
      initializer_range: standard deviation of freshly drawn matrices.

    Raises:
      InputError: sizes that do not fit together, or an unknown family.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None
    attention_bias: bool = False
    qk_norm: bool = False
    latent: LatentConfig | None = None
    moe: MoeConfig | None = None
    tie_embeddings: bool = False
    max_position_embeddings: int = 4096
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError(
                f"unknown model family {self.family!r}", hint=f"supported: {', '.join(FAMILIES)}"
            )
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads")
        for name in (*sizes, "head_dim", "max_position_embeddings"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive integer, found {value!r}")
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})"
            )
        if self.rope_dim % 2:
            raise InputError(f"head_dim must be even for rotary embeddings, found {self.rope_dim}")
        if self.sliding_window is not None and self.sliding_window < 1:
            raise InputError(f"sliding_window must be at least 1 or null, found {self.sliding_window}")
        if self.latent and self.head_dim != self.latent.nope_head_dim + self.latent.rope_head_dim:
            raise InputError(f"head_dim ({self.head_dim}) must be the sum of the latent head's two parts")
        if self.moe and self.moe.first_dense_layers >= self.num_layers:
            raise InputError(f"all {self.num_layers} layers are dense (first_k_dense_replace)")

    @property
    def eos_token_id(self) -> int | None:
        """The first of `eos_token_ids`, or None."""
        return self.eos_token_ids[0] if self.eos_token_ids else None

    @property
    def rope_dim(self) -> int:
        """Width of the part of a head that is rotated."""
        return self.latent.rope_head_dim if self.latent else self.head_dim

    @property
    def v_head_dim(self) -> int:
        """Width of a value head."""
        return self.latent.v_head_dim if self.latent else self.head_dim

    @property
    def dense_layers(self) -> int:
        """How many of the lowest layers stand in `Params.dense_layers`."""
        return self.moe.first_dense_layers if self.moe else 0

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)
