"""config.json of Hugging Face, in and out."""

from __future__ import annotations

import re
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.models.config import FAMILIES, LatentConfig, ModelConfig, MoeConfig, RopeScaling
from xlam_jax.models.hf_keys import settle, shown
from xlam_jax.models.hf_rope import rope_from_hf, rope_to_hf

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

# What an error of ModelConfig and its parts names, as config.json has it.
_OUR_NAMES = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "experts_per_token": "num_experts_per_tok",
}


def config_from_hf(values: dict[str, Any], where: str = "config.json") -> ModelConfig:
    """Reads the mapping of a Hugging Face config.json (transformers 4 or 5 spelling).

    Raises:
      InputError: a model type or a value that is not computed here, a value of the wrong kind, a missing key.
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"model_type {shown(family)} is not supported",
            where=where,
            hint=f"supported: {', '.join(FAMILIES)}",
        )
    v = settle(values, where)
    try:
        return _config(family, v, rope_from_hf(v, values, where), where)
    except InputError as e:  # of a config class here, which says its own names and knows no file
        if e.where:
            raise
        what = re.sub(r"\b(" + "|".join(_OUR_NAMES) + r")\b", lambda m: _OUR_NAMES[m[0]], e.what)
        raise InputError(
            what, where=where, hint=e.hint or "mend it, or take it from the model's release"
        ) from e


def _config(
    family: str, v: dict[str, Any], rope: tuple[float, RopeScaling | None], where: str
) -> ModelConfig:
    heads, hidden, vocab = v["num_attention_heads"], v["hidden_size"], v["vocab_size"]
    latent = _latent_from_hf(v) if family.startswith("deepseek") else None
    if latent and v["num_key_value_heads"] not in (None, heads):
        raise InputError(
            f"num_key_value_heads={v['num_key_value_heads']} beside num_attention_heads={heads} is not supported",
            where=where,
            hint="latent attention has one per head",
        )
    if family == "deepseek_v3" and v["head_dim"] not in (None, v["qk_rope_head_dim"]):
        raise InputError(  # it overrides the rotated width in transformers, whose sum then has no meaning
            f"head_dim={v['head_dim']} beside qk_rope_head_dim={v['qk_rope_head_dim']} is not supported",
            where=where,
            hint="leave head_dim out",
        )
    for key in ("bos_token_id", "pad_token_id"):
        if v[key] is not None and v[key] >= vocab:
            raise InputError(f"{key}={v[key]} is beyond the vocabulary of {vocab}", where=where, hint="null")
    eos = v["eos_token_id"]
    return ModelConfig(
        family=family,
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=v["intermediate_size"],
        num_layers=v["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=v["num_key_value_heads"] or heads,
        head_dim=latent.nope_head_dim + latent.rope_head_dim if latent else v["head_dim"] or hidden // heads,
        rms_norm_eps=float(v["rms_norm_eps"]),
        rope_theta=rope[0],
        rope_scaling=rope[1],
        sliding_window=_window(v, where),
        attention_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "qwen3_moe"),
        latent=latent,
        moe=_MOE_FROM_HF[family](v, where) if family in _MOE_FROM_HF else None,
        tie_embeddings=v["tie_word_embeddings"],
        max_position_embeddings=v["max_position_embeddings"],
        bos_token_id=v["bos_token_id"],
        eos_token_ids=tuple(eos) if isinstance(eos, list | tuple) else () if eos is None else (eos,),
        pad_token_id=v["pad_token_id"],
        initializer_range=float(v["initializer_range"]),
    )


def _window(v: dict[str, Any], where: str) -> int | None:
    """The window of all layers. Llama configs may carry a stray one, which no reader looks at; Qwen's is refused
    where it is on; a Mistral config with layer types is read layer by layer, as a Ministral."""
    window, layers = v.get("sliding_window"), v["num_hidden_layers"]
    types = v.get("layer_types")
    if types is None:
        return window
    kinds = set(map(str, types))
    if len(types) == layers and kinds == {"full_attention"}:
        return None
    if len(types) == layers and kinds == {"sliding_attention"} and window:
        return window
    raise InputError(
        f"layer_types={', '.join(sorted(kinds))} for {len(types)} of {layers} layers is not supported",
        where=f"{where}: layer_types",
        hint="every layer must be full_attention" + (", or every one sliding_attention" if window else ""),
    )


def _latent_from_hf(v: dict[str, Any]) -> LatentConfig:
    return LatentConfig(
        kv_rank=v["kv_lora_rank"],
        nope_head_dim=v["qk_nope_head_dim"],
        rope_head_dim=v["qk_rope_head_dim"],
        v_head_dim=v["v_head_dim"],
        q_rank=v["q_lora_rank"],
    )


def _mixtral_moe(v: dict[str, Any], where: str) -> MoeConfig:
    return MoeConfig(
        num_experts=v["num_local_experts"],
        experts_per_token=v["num_experts_per_tok"],
        intermediate_size=v["intermediate_size"],
        aux_loss_coef=float(v["router_aux_loss_coef"]),
    )


def _qwen3_moe(v: dict[str, Any], where: str) -> MoeConfig:
    return MoeConfig(
        num_experts=v["num_experts"],
        experts_per_token=v["num_experts_per_tok"],
        intermediate_size=v["moe_intermediate_size"],
        norm_topk=v["norm_topk_prob"],
        aux_loss_coef=float(v["router_aux_loss_coef"]),
    )


def _deepseek_moe(v: dict[str, Any], where: str) -> MoeConfig:
    v3 = v["topk_method"] == "noaux_tc"
    grouped = v["topk_method"] != "greedy"
    if grouped and not (v["n_group"] and v["topk_group"]):
        raise InputError("topk_method='group_limited_greedy' without n_group and topk_group", where=where)
    return MoeConfig(
        num_experts=v["n_routed_experts"],
        experts_per_token=v["num_experts_per_tok"],
        intermediate_size=v["moe_intermediate_size"],
        scoring=v["scoring_func"],
        norm_topk=v["norm_topk_prob"],
        routed_scaling=float(v["routed_scaling_factor"]),
        n_group=v["n_group"] if grouped else 1,
        topk_group=v["topk_group"] if grouped else 1,
        group_scoring="top2" if v3 else "max",
        selection_bias=v3,
        num_shared_experts=v["n_shared_experts"],
        first_dense_layers=v["first_k_dense_replace"],
        aux_loss_coef=float(v["aux_loss_alpha"]),
    )


_MOE_FROM_HF = {
    "mixtral": _mixtral_moe,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek_moe,
    "deepseek_v3": _deepseek_moe,
}


def config_to_hf(cfg: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """The config.json mapping of `cfg`, every field explicit.

    RoPE and dtype stand there in both spellings: transformers 4 silently ignores `rope_parameters` and
    transformers 5 rewrites `rope_theta`, so a folder with one spelling gives wrong logits in the other.
    """
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
        **rope_to_hf(cfg.rope_theta, cfg.rope_scaling),
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
