"""config.json of Hugging Face, in and out."""

from __future__ import annotations

import dataclasses
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.models.config import FAMILIES, ROPE_KEYS, LatentConfig, ModelConfig, MoeConfig, RopeScaling

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
}
# Keys that only the named value is computed for; absent means that value.
_FIXED: dict[str, dict[str, Any]] = {
    "": {"hidden_act": "silu", "mlp_bias": False},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False, "attention_bias": False},
    "qwen3_moe": {"use_sliding_window": False, "attention_bias": False, "decoder_sparse_step": 1},
    "deepseek_v2": {"attention_bias": False, "moe_layer_freq": 1},
    "deepseek_v3": {"attention_bias": False, "moe_layer_freq": 1, "rope_interleave": True},
    "llama": {"attention_bias": False},
}


class _Reader:
    def __init__(self, values: dict[str, Any], where: str):
        self.values, self.where = values, where

    def need(self, key: str) -> Any:
        if self.values.get(key) is None:
            raise InputError(
                f"key {key!r} is missing", where=self.where, hint="take config.json from the model's release"
            )
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        found = self.values.get(key)
        return default if found is None else found


def config_from_hf(values: dict[str, Any], where: str = "config.json") -> ModelConfig:
    """Reads the mapping of a Hugging Face config.json (transformers 4 or 5 spelling).

    Raises:
      InputError: a model type, RoPE type, activation or bias that is not computed here, or a missing key.
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"model_type {family!r} is not supported", where=where, hint=f"supported: {', '.join(FAMILIES)}"
        )
    for key, right in (_FIXED[""] | _FIXED.get(family, {})).items():
        if values.get(key, right) not in (right, None):
            raise InputError(
                f"{key}={values[key]!r} is not supported", where=where, hint=f"supported: {right!r}"
            )
    if values.get("mlp_only_layers"):
        raise InputError(
            "plain layers among the experts are not supported", where=f"{where}: mlp_only_layers"
        )
    read = _Reader(values, where)
    theta, scaling = _rope_from_hf(values, where)
    heads, hidden = read.need("num_attention_heads"), read.need("hidden_size")
    latent = _latent_from_hf(read) if family.startswith("deepseek") else None
    head_dim = (
        latent.nope_head_dim + latent.rope_head_dim if latent else read.get("head_dim", hidden // heads)
    )
    eos = values.get("eos_token_id")
    # Llama configs may carry a stray sliding_window; only Mistral's attention reads it. A Mistral config
    # without the key means the class default of transformers, 4096; Mixtral's default is none.
    window = {"mistral": values.get("sliding_window", 4096), "mixtral": values.get("sliding_window")}.get(
        family
    )
    return ModelConfig(
        family=family,
        vocab_size=read.need("vocab_size"),
        hidden_size=hidden,
        intermediate_size=read.need("intermediate_size"),
        num_layers=read.need("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=heads if latent else read.get("num_key_value_heads", heads),
        head_dim=head_dim,
        rms_norm_eps=float(read.need("rms_norm_eps")),
        rope_theta=theta,
        rope_scaling=scaling,
        sliding_window=window,
        attention_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "qwen3_moe"),
        latent=latent,
        moe=_MOE_FROM_HF[family](read) if family in _MOE_FROM_HF else None,
        tie_embeddings=bool(values.get("tie_word_embeddings", False)),
        max_position_embeddings=read.need("max_position_embeddings"),
        bos_token_id=values.get("bos_token_id"),
        eos_token_ids=tuple(eos) if isinstance(eos, list | tuple) else () if eos is None else (eos,),
        pad_token_id=values.get("pad_token_id"),
        initializer_range=float(values.get("initializer_range", 0.02)),
    )


def _latent_from_hf(read: _Reader) -> LatentConfig:
    return LatentConfig(
        kv_rank=read.need("kv_lora_rank"),
        nope_head_dim=read.need("qk_nope_head_dim"),
        rope_head_dim=read.need("qk_rope_head_dim"),
        v_head_dim=read.need("v_head_dim"),
        q_rank=read.get("q_lora_rank"),
    )


def _mixtral_moe(read: _Reader) -> MoeConfig:
    return MoeConfig(
        num_experts=read.need("num_local_experts"),
        experts_per_token=read.need("num_experts_per_tok"),
        intermediate_size=read.need("intermediate_size"),
        aux_loss_coef=float(read.get("router_aux_loss_coef", 0.001)),
    )


def _qwen3_moe(read: _Reader) -> MoeConfig:
    return MoeConfig(
        num_experts=read.get("num_experts") or read.need("num_local_experts"),
        experts_per_token=read.need("num_experts_per_tok"),
        intermediate_size=read.need("moe_intermediate_size"),
        norm_topk=bool(read.get("norm_topk_prob", False)),
        aux_loss_coef=float(read.get("router_aux_loss_coef", 0.001)),
    )


def _deepseek_moe(read: _Reader) -> MoeConfig:
    v3 = read.values["model_type"] == "deepseek_v3"
    method = read.get("topk_method", "noaux_tc" if v3 else "greedy")
    known = ("noaux_tc",) if v3 else ("greedy", "group_limited_greedy")
    scoring = read.get("scoring_func", "sigmoid" if v3 else "softmax")
    if method not in known or scoring != ("sigmoid" if v3 else "softmax"):
        raise InputError(
            f"topk_method={method!r} with scoring_func={scoring!r} is not supported",
            where=read.where,
            hint=f"supported for this model type: {', '.join(known)}",
        )
    grouped = method != "greedy"
    return MoeConfig(
        num_experts=read.need("n_routed_experts"),
        experts_per_token=read.need("num_experts_per_tok"),
        intermediate_size=read.need("moe_intermediate_size"),
        scoring=scoring,
        # transformers never normalises the weights of V2, whatever the key says.
        norm_topk=bool(read.get("norm_topk_prob", True)) if v3 else False,
        routed_scaling=float(read.get("routed_scaling_factor", 1.0)),
        n_group=read.get("n_group", 1) if grouped else 1,
        topk_group=read.get("topk_group", 1) if grouped else 1,
        group_scoring="top2" if v3 else "max",
        selection_bias=v3,
        num_shared_experts=read.get("n_shared_experts", 0),
        first_dense_layers=read.get("first_k_dense_replace", 0),
        aux_loss_coef=float(read.get("aux_loss_alpha", 0.0)),
    )


_MOE_FROM_HF = {
    "mixtral": _mixtral_moe,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek_moe,
    "deepseek_v3": _deepseek_moe,
}
_SCALING_KEYS = tuple(f.name for f in dataclasses.fields(RopeScaling) if f.name not in ("type", "factor"))


def _rope_from_hf(values: dict[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    new, old = values.get("rope_parameters") or {}, values.get("rope_scaling") or {}
    rope = {**old, **new}
    theta = float(new.get("rope_theta") or values.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return theta, None
    if kind not in ROPE_KEYS:
        raise InputError(
            f"RoPE type {kind!r} is not supported",
            where=where,
            hint="supported: default, " + ", ".join(ROPE_KEYS),
        )
    if rope.get("factor") is None:
        raise InputError(
            f"{kind} RoPE without a factor",
            where=where,
            hint=f'"rope_scaling": {{"type": "{kind}", "factor": 4.0}}',
        )
    extra = {key: rope[key] for key in _SCALING_KEYS if rope.get(key) is not None}
    if "original_max_position_embeddings" in ROPE_KEYS[kind]:
        extra.setdefault("original_max_position_embeddings", values.get("max_position_embeddings"))
    return theta, RopeScaling(kind, float(rope["factor"]), **extra)


def config_to_hf(cfg: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """The config.json mapping of `cfg`, every field explicit.

    RoPE and dtype stand there in both spellings: transformers 4 silently ignores `rope_parameters` and
    transformers 5 rewrites `rope_theta`, so a folder with one spelling gives wrong logits in the other.
    """
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": cfg.rope_theta}
    legacy: dict[str, Any] | None = None
    if cfg.rope_scaling is not None:
        scaling = {k: v for k, v in dataclasses.asdict(cfg.rope_scaling).items() if v is not None}
        kind = scaling.pop("type")
        if kind != "yarn":
            scaling = {k: v for k, v in scaling.items() if k in ("factor", *ROPE_KEYS[kind])}
        rope = {"rope_type": kind, **scaling, "rope_theta": cfg.rope_theta}
        legacy = {"type": kind, "rope_type": kind, **scaling}
    out: dict[str, Any] = {
        "architectures": [_CLASSES[cfg.family]],
        "model_type": cfg.family,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.hidden_size,
        "intermediate_size": cfg.intermediate_size,
        "num_hidden_layers": cfg.num_layers,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.rope_dim,
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
    if cfg.family in ("mistral", "mixtral"):
        out["sliding_window"] = cfg.sliding_window
    if cfg.family in ("qwen2", "qwen3", "qwen3_moe"):
        out |= {"use_sliding_window": False, "sliding_window": None, "max_window_layers": cfg.num_layers}
    if cfg.family in ("qwen3", "qwen3_moe"):
        out["attention_bias"] = False
    return out | _latent_to_hf(cfg.latent) | _moe_to_hf(cfg)


def _latent_to_hf(latent: LatentConfig | None) -> dict[str, Any]:
    if latent is None:
        return {}
    return {
        "kv_lora_rank": latent.kv_rank,
        "q_lora_rank": latent.q_rank,
        "qk_nope_head_dim": latent.nope_head_dim,
        "qk_rope_head_dim": latent.rope_head_dim,
        "v_head_dim": latent.v_head_dim,
        "attention_bias": False,
    }


def _moe_to_hf(cfg: ModelConfig) -> dict[str, Any]:
    moe = cfg.moe
    if moe is None:
        return {}
    chosen = {"num_experts_per_tok": moe.experts_per_token, "output_router_logits": False}
    if cfg.family == "mixtral":
        return {
            **chosen,
            "num_local_experts": moe.num_experts,
            "router_aux_loss_coef": moe.aux_loss_coef,
            "router_jitter_noise": 0.0,
        }
    if cfg.family == "qwen3_moe":
        return {
            **chosen,
            "num_experts": moe.num_experts,
            "moe_intermediate_size": moe.intermediate_size,
            "norm_topk_prob": moe.norm_topk,
            "router_aux_loss_coef": moe.aux_loss_coef,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    v3 = cfg.family == "deepseek_v3"
    grouped = v3 or moe.n_group > 1
    return {
        **chosen,
        "n_routed_experts": moe.num_experts,
        "moe_intermediate_size": moe.intermediate_size,
        "n_shared_experts": moe.num_shared_experts,
        "first_k_dense_replace": moe.first_dense_layers,
        "moe_layer_freq": 1,
        "norm_topk_prob": moe.norm_topk,
        "routed_scaling_factor": moe.routed_scaling,
        "scoring_func": moe.scoring,
        "topk_method": "noaux_tc" if v3 else "group_limited_greedy" if grouped else "greedy",
        "n_group": moe.n_group,
        "topk_group": moe.topk_group,
        "aux_loss_alpha": moe.aux_loss_coef,
        **({"rope_interleave": True, "num_nextn_predict_layers": 0} if v3 else {}),
    }
