"""Shapes of released models by name, from their published config.json, and tiny ones for tests."""

from __future__ import annotations

from typing import Any

from xlam_jax.errors import unknown
from xlam_jax.models.config import LatentConfig, ModelConfig, MoeConfig, RopeScaling


def _shape(
    family: str,
    vocab: int,
    hidden: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int = 0,
    **rest: Any,
) -> ModelConfig:
    return ModelConfig(
        family, vocab, hidden, width, layers, heads, kv_heads, head_dim or hidden // heads, **rest
    )


def _deepseek_coder(hidden: int, width: int, layers: int, heads: int, kv_heads: int) -> ModelConfig:
    """The first series, of 16k context."""
    return _shape(
        "llama", 32256, hidden, width, layers, heads, kv_heads,
        rms_norm_eps=1e-6, rope_theta=100_000.0, rope_scaling=RopeScaling("linear", 4.0),
        max_position_embeddings=16384, bos_token_id=32013, eos_token_ids=(32014,),
    )  # fmt: skip


def _llama3(hidden: int, width: int, layers: int, heads: int, kv_heads: int = 8, **rest: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "rope_theta": 500_000.0,
        "max_position_embeddings": 131072,
        "rope_scaling": _llama3_rope(8.0),
        "bos_token_id": 128000,
        "eos_token_ids": (128001,),
    }
    return _shape("llama", 128256, hidden, width, layers, heads, kv_heads, **(values | rest))


def _llama3_rope(factor: float) -> RopeScaling:
    return RopeScaling("llama3", factor, 8192, 1.0, 4.0)


def _qwen2(
    hidden: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    *,
    vocab: int = 152064,
    tied: bool = False,
) -> ModelConfig:
    return _shape(
        "qwen2", vocab, hidden, width, layers, heads, kv_heads,
        rms_norm_eps=1e-6, rope_theta=1e6, attention_bias=True, tie_embeddings=tied,
        max_position_embeddings=32768, bos_token_id=151643, eos_token_ids=(151643,),
    )  # fmt: skip


def _qwen3(
    hidden: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int = 8,
    tied: bool = False,
    moe: MoeConfig | None = None,
) -> ModelConfig:
    return _shape(
        "qwen3_moe" if moe else "qwen3", 151936, hidden, width, layers, heads, kv_heads, 128,
        rms_norm_eps=1e-6, rope_theta=1e6, qk_norm=True, tie_embeddings=tied, moe=moe,
        max_position_embeddings=40960, bos_token_id=151643, eos_token_ids=(151645,),
    )  # fmt: skip


def _mixtral(
    vocab: int, hidden: int, width: int, layers: int, heads: int, length: int, aux: float
) -> ModelConfig:
    return _shape(
        "mixtral", vocab, hidden, width, layers, heads, 8, 128,
        rope_theta=1e6, max_position_embeddings=length, moe=MoeConfig(8, 2, width, aux_loss_coef=aux),
        bos_token_id=1, eos_token_ids=(2,),
    )  # fmt: skip


def _deepseek(
    family: str,
    vocab: int,
    hidden: int,
    width: int,
    layers: int,
    heads: int,
    moe: MoeConfig,
    q_rank: int | None,
    *,
    mscale: float,
    bos: int,
    eos: int,
) -> ModelConfig:
    return _shape(
        family, vocab, hidden, width, layers, heads, heads, 192,
        rms_norm_eps=1e-6, latent=LatentConfig(512, 128, 64, 128, q_rank), moe=moe,
        rope_scaling=RopeScaling("yarn", 40.0, 4096, mscale=mscale, mscale_all_dim=mscale),
        max_position_embeddings=163840, bos_token_id=bos, eos_token_ids=(eos,),
    )  # fmt: skip


_MISTRAL_7B = _shape(
    "mistral", 32000, 4096, 14336, 32, 32, 8,
    sliding_window=4096, max_position_embeddings=32768, bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip
_TINY = _shape(
    "llama",
    256,
    64,
    128,
    2,
    4,
    2,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_ids=(2,),
    pad_token_id=0,
)
_TINY_MOE = MoeConfig(4, 2, 96, aux_loss_coef=0.02)
_TINY_LATENT = _TINY.replace(
    num_kv_heads=4, head_dim=24, latent=LatentConfig(32, 16, 8, 16), rms_norm_eps=1e-6
)
_TINY_V2 = MoeConfig(
    8,
    2,
    32,
    norm_topk=False,
    routed_scaling=2.0,
    num_shared_experts=1,
    first_dense_layers=1,
    aux_loss_coef=0.001,
)

NAMED: dict[str, ModelConfig] = {
    # xLAM-1b-fc-r and xLAM-7b-fc-r start from these two.
    "deepseek-coder-1.3b": _deepseek_coder(2048, 5504, 24, 16, 16),
    "deepseek-coder-7b-v1.5": _shape(
        "llama", 102400, 4096, 11008, 30, 32, 32,
        rms_norm_eps=1e-6, max_position_embeddings=4096, bos_token_id=100000, eos_token_ids=(100001,),
    ),
    "deepseek-coder-6.7b": _deepseek_coder(4096, 11008, 32, 32, 32),
    "deepseek-coder-33b": _deepseek_coder(7168, 19200, 62, 56, 8),
    "mistral-7b-v0.1": _MISTRAL_7B,
    "mistral-7b-v0.2": _MISTRAL_7B.replace(sliding_window=None, rope_theta=1e6),
    "mistral-7b-v0.3": _MISTRAL_7B.replace(sliding_window=None, rope_theta=1e6, vocab_size=32768),
    "mixtral-8x7b": _mixtral(32000, 4096, 14336, 32, 32, 32768, 0.02),
    "mixtral-8x22b": _mixtral(32000, 6144, 16384, 56, 48, 65536, 0.001),
    "mixtral-8x22b-instruct": _mixtral(32768, 6144, 16384, 56, 48, 65536, 0.001),
    "deepseek-v2-lite": _deepseek(
        "deepseek_v2", 102400, 2048, 10944, 27, 16,
        MoeConfig(
            64, 6, 1408, norm_topk=False, num_shared_experts=2, first_dense_layers=1, aux_loss_coef=0.001
        ),
        None, mscale=0.707, bos=100000, eos=100001,
    ),
    "deepseek-v2": _deepseek(
        "deepseek_v2", 102400, 5120, 12288, 60, 128,
        MoeConfig(
            160, 6, 1536, norm_topk=False, routed_scaling=16.0, n_group=8, topk_group=3,
            num_shared_experts=2, first_dense_layers=1, aux_loss_coef=0.003,
        ),
        1536, mscale=1.0, bos=100000, eos=100001,
    ),
    "deepseek-v3": _deepseek(
        "deepseek_v3", 129280, 7168, 18432, 61, 128,
        MoeConfig(
            256, 8, 2048, scoring="sigmoid", routed_scaling=2.5, n_group=8, topk_group=4,
            group_scoring="top2", selection_bias=True, num_shared_experts=1, first_dense_layers=3,
            aux_loss_coef=0.0001,
        ),
        1536, mscale=1.0, bos=0, eos=1,
    ),
    "llama-3-8b": _llama3(4096, 14336, 32, 32, rope_scaling=None, max_position_embeddings=8192),
    "llama-3.1-8b": _llama3(4096, 14336, 32, 32),
    "llama-3.1-70b": _llama3(8192, 28672, 80, 64),
    "llama-3.2-1b": _llama3(2048, 8192, 16, 32, tie_embeddings=True, rope_scaling=_llama3_rope(32.0)),
    "llama-3.2-3b": _llama3(3072, 8192, 28, 24, tie_embeddings=True, rope_scaling=_llama3_rope(32.0)),
    "qwen2.5-0.5b": _qwen2(896, 4864, 24, 14, 2, vocab=151936, tied=True),
    "qwen2.5-1.5b": _qwen2(1536, 8960, 28, 12, 2, vocab=151936, tied=True),
    "qwen2.5-3b": _qwen2(2048, 11008, 36, 16, 2, vocab=151936, tied=True),
    "qwen2.5-7b": _qwen2(3584, 18944, 28, 28, 4),
    "qwen2.5-14b": _qwen2(5120, 13824, 48, 40, 8),
    "qwen2.5-32b": _qwen2(5120, 27648, 64, 40, 8),
    "qwen2.5-72b": _qwen2(8192, 29568, 80, 64, 8),
    "qwen3-0.6b": _qwen3(1024, 3072, 28, 16, tied=True),
    "qwen3-1.7b": _qwen3(2048, 6144, 28, 16, tied=True),
    "qwen3-4b": _qwen3(2560, 9728, 36, 32, tied=True),
    "qwen3-8b": _qwen3(4096, 12288, 36, 32),
    "qwen3-14b": _qwen3(5120, 17408, 40, 40),
    "qwen3-32b": _qwen3(5120, 25600, 64, 64),
    "qwen3-30b-a3b": _qwen3(2048, 6144, 48, 32, 4, moe=MoeConfig(128, 8, 768, aux_loss_coef=0.001)),
    "qwen3-235b-a22b": _qwen3(4096, 12288, 94, 64, 4, moe=MoeConfig(128, 8, 1536, aux_loss_coef=0.001)),
    "smollm2-135m": _shape(
        "llama", 49152, 576, 1536, 30, 9, 3,
        rope_theta=100_000.0, tie_embeddings=True, max_position_embeddings=8192,
        bos_token_id=1, eos_token_ids=(2,), pad_token_id=0,
    ),
    "tiny-llama": _TINY,
    "tiny-llama-linear": _TINY.replace(rope_scaling=RopeScaling("linear", 4.0), rope_theta=100_000.0),
    "tiny-llama-tied": _TINY.replace(tie_embeddings=True),
    "tiny-llama3": _TINY.replace(rope_scaling=RopeScaling("llama3", 8.0, 64, 1.0, 4.0)),
    "tiny-mistral": _TINY.replace(family="mistral", sliding_window=8),
    "tiny-qwen2": _TINY.replace(family="qwen2", attention_bias=True),
    "tiny-qwen3": _TINY.replace(family="qwen3", qk_norm=True),
    "tiny-mixtral": _TINY.replace(family="mixtral", moe=_TINY_MOE, intermediate_size=96),
    "tiny-qwen3-moe": _TINY.replace(
        family="qwen3_moe", qk_norm=True, moe=MoeConfig(8, 3, 32, aux_loss_coef=0.01)
    ),
    "tiny-deepseek-v2": _TINY_LATENT.replace(family="deepseek_v2", num_layers=3, moe=_TINY_V2),
    "tiny-deepseek-v3": _TINY_LATENT.replace(
        family="deepseek_v3", num_layers=3,
        latent=LatentConfig(32, 16, 8, 16, 24),
        moe=MoeConfig(
            8, 3, 32, scoring="sigmoid", routed_scaling=2.5, n_group=4, topk_group=2, group_scoring="top2",
            selection_bias=True, num_shared_experts=1, first_dense_layers=1,
        ),
    ),
}  # fmt: skip


# The released xLAM models have the shapes of what they were trained from.
BASES = {
    "xlam-1b-fc-r": "deepseek-coder-1.3b",
    "xlam-7b-fc-r": "deepseek-coder-7b-v1.5",
    "xlam-7b-r": "mistral-7b-v0.2",
    "xlam-8x7b-r": "mixtral-8x7b",
    "xlam-8x22b-r": "mixtral-8x22b-instruct",
    "xlam-2-8b-fc-r": "llama-3.1-8b",
}


def named_config(name: str) -> ModelConfig:
    """The shape of a released model by name.

    Raises:
      InputError: unknown name; the hint is the nearest known one.

    Example:
      >>> named_config("smollm2-135m").num_layers
      30
    """
    name = BASES.get(name, name)
    if name not in NAMED:
        raise unknown("model name", name, [*BASES, *NAMED])
    return NAMED[name]
