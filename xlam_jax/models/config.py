"""What a decoder looks like: `ModelConfig`, the shapes of released models, and config.json in and out."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from xlam_jax.errors import InputError

ROPE_TYPES = ("default", "linear")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Stretching of rotary positions: `linear` divides angles by `factor` (Chen et al., arXiv:2306.15595)."""

    type: str = "linear"
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.type != "linear":
            raise InputError(f"RoPE type {self.type!r} is not supported", hint="supported: default, linear")
        if not self.factor > 0:
            raise InputError(f"RoPE factor must be positive, found {self.factor!r}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and constants of one decoder; hashable, so it can be a static argument of `jax.jit`.

    Attributes:
      family: "llama" or "mistral".
      head_dim: width of one attention head; num_heads * head_dim need not equal hidden_size.
      rope_scaling: None for plain RoPE.
      sliding_window: a token sees itself and the `sliding_window - 1` tokens before it; None for all.
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
    tie_embeddings: bool = False
    max_position_embeddings: int = 4096
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if self.family not in _HF_CLASSES:
            raise InputError(
                f"unknown model family {self.family!r}", hint=f"supported: {', '.join(_HF_CLASSES)}"
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
        if self.head_dim % 2:
            raise InputError(f"head_dim must be even for rotary embeddings, found {self.head_dim}")
        if self.sliding_window is not None and self.sliding_window < 1:
            raise InputError(f"sliding_window must be at least 1 or null, found {self.sliding_window}")

    @property
    def eos_token_id(self) -> int | None:
        """The first of `eos_token_ids`, or None."""
        return self.eos_token_ids[0] if self.eos_token_ids else None

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)


_HF_CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}


def config_from_hf(values: dict[str, Any], where: str = "config.json") -> ModelConfig:
    """Reads the mapping of a Hugging Face config.json (transformers 4 or 5 spelling).

    Raises:
      InputError: a model type, RoPE type, activation or bias that is not computed here, or a missing key.
    """
    family = values.get("model_type")
    if family not in _HF_CLASSES:
        raise InputError(
            f"model_type {family!r} is not supported",
            where=where,
            hint=f"supported: {', '.join(_HF_CLASSES)}",
        )
    for key, right in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False)):
        if values.get(key, right) != right:
            raise InputError(
                f"{key}={values[key]!r} is not supported", where=where, hint=f"supported: {right!r}"
            )

    def need(key: str) -> Any:
        if values.get(key) is None:
            raise InputError(
                f"key {key!r} is missing", where=where, hint="take config.json from the model's release"
            )
        return values[key]

    theta, scaling = _rope_from_hf(values, where)
    heads, hidden = need("num_attention_heads"), need("hidden_size")
    eos = values.get("eos_token_id")
    # Llama configs may carry a stray sliding_window; only Mistral's attention reads it. A Mistral config
    # without the key means the class default of transformers, 4096.
    window = values.get("sliding_window", 4096) if family == "mistral" else None
    return ModelConfig(
        family=family,
        vocab_size=need("vocab_size"),
        hidden_size=hidden,
        intermediate_size=need("intermediate_size"),
        num_layers=need("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or hidden // heads,
        rms_norm_eps=float(need("rms_norm_eps")),
        rope_theta=theta,
        rope_scaling=scaling,
        sliding_window=window,
        tie_embeddings=bool(values.get("tie_word_embeddings", False)),
        max_position_embeddings=need("max_position_embeddings"),
        bos_token_id=values.get("bos_token_id"),
        eos_token_ids=tuple(eos) if isinstance(eos, list | tuple) else () if eos is None else (eos,),
        pad_token_id=values.get("pad_token_id"),
        initializer_range=float(values.get("initializer_range", 0.02)),
    )


def _rope_from_hf(values: dict[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    new, old = values.get("rope_parameters") or {}, values.get("rope_scaling") or {}
    rope = {**old, **new}
    theta = float(new.get("rope_theta") or values.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise InputError(
            f"RoPE type {kind!r} is not supported", where=where, hint=f"supported: {', '.join(ROPE_TYPES)}"
        )
    if kind == "default":
        return theta, None
    if "factor" not in rope:
        raise InputError(
            "linear RoPE without a factor",
            where=where,
            hint='"rope_scaling": {"type": "linear", "factor": 4.0}',
        )
    return theta, RopeScaling("linear", float(rope["factor"]))


def config_to_hf(cfg: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """The config.json mapping of `cfg`, every field explicit.

    RoPE and dtype stand there in both spellings: transformers 4 silently ignores `rope_parameters` and
    transformers 5 rewrites `rope_theta`, so a folder with one spelling gives wrong logits in the other.
    """
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": cfg.rope_theta}
    legacy: dict[str, Any] | None = None
    if cfg.rope_scaling is not None:
        factor = cfg.rope_scaling.factor
        rope = {"rope_type": cfg.rope_scaling.type, "factor": factor, "rope_theta": cfg.rope_theta}
        legacy = {"type": cfg.rope_scaling.type, "rope_type": cfg.rope_scaling.type, "factor": factor}
    out: dict[str, Any] = {
        "architectures": [_HF_CLASSES[cfg.family]],
        "model_type": cfg.family,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.hidden_size,
        "intermediate_size": cfg.intermediate_size,
        "num_hidden_layers": cfg.num_layers,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": cfg.rms_norm_eps,
        "rope_parameters": rope,
        "rope_theta": cfg.rope_theta,
        "rope_scaling": legacy,
        "max_position_embeddings": cfg.max_position_embeddings,
        "tie_word_embeddings": cfg.tie_embeddings,
        "attention_dropout": 0.0,
        "initializer_range": cfg.initializer_range,
        "bos_token_id": cfg.bos_token_id,
        "eos_token_id": list(cfg.eos_token_ids) if len(cfg.eos_token_ids) > 1 else cfg.eos_token_id,
        "pad_token_id": cfg.pad_token_id,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if cfg.family == "llama":
        out |= {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
    if cfg.family == "mistral":
        out["sliding_window"] = cfg.sliding_window
    return out


_MISTRAL_7B = ModelConfig(
    family="mistral",
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=14336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
    sliding_window=4096,
    max_position_embeddings=32768,
    bos_token_id=1,
    eos_token_ids=(2,),
)
_TINY = ModelConfig(
    family="llama",
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_ids=(2,),
    pad_token_id=0,
)

NAMED: dict[str, ModelConfig] = {
    "deepseek-coder-1.3b": ModelConfig(
        family="llama",
        vocab_size=32256,
        hidden_size=2048,
        intermediate_size=5504,
        num_layers=24,
        num_heads=16,
        num_kv_heads=16,
        head_dim=128,
        rms_norm_eps=1e-6,
        rope_theta=100_000.0,
        rope_scaling=RopeScaling("linear", 4.0),
        max_position_embeddings=16384,
        bos_token_id=32013,
        eos_token_ids=(32014,),
    ),
    "deepseek-coder-7b-v1.5": ModelConfig(
        family="llama",
        vocab_size=102400,
        hidden_size=4096,
        intermediate_size=11008,
        num_layers=30,
        num_heads=32,
        num_kv_heads=32,
        head_dim=128,
        rms_norm_eps=1e-6,
        rope_theta=10_000.0,
        max_position_embeddings=4096,
        bos_token_id=100000,
        eos_token_ids=(100001,),
    ),
    "mistral-7b-v0.1": _MISTRAL_7B,
    "mistral-7b-v0.2": _MISTRAL_7B.replace(sliding_window=None, rope_theta=1e6),
    "mistral-7b-v0.3": _MISTRAL_7B.replace(sliding_window=None, rope_theta=1e6, vocab_size=32768),
    "smollm2-135m": ModelConfig(
        family="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=100_000.0,
        tie_embeddings=True,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_ids=(2,),
        pad_token_id=0,
    ),
    "tiny-llama": _TINY,
    "tiny-llama-linear": _TINY.replace(rope_scaling=RopeScaling("linear", 4.0), rope_theta=100_000.0),
    "tiny-llama-tied": _TINY.replace(tie_embeddings=True),
    "tiny-mistral": _TINY.replace(family="mistral", sliding_window=8),
}


def named_config(name: str) -> ModelConfig:
    """The shape of a released model by name.

    Raises:
      InputError: unknown name; the hint is the nearest known one.

    Example:
      >>> named_config("smollm2-135m").num_layers
      30
    """
    if name not in NAMED:
        near = difflib.get_close_matches(name, NAMED, n=1, cutoff=0.4)
        raise InputError(
            f"unknown model name {name!r}", hint=near[0] if near else "known: " + ", ".join(NAMED)
        )
    return NAMED[name]
