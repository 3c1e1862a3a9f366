"""Every key of a Hugging Face config.json: read, known to change nothing, or refused by name.

The keys of transformers' config classes all stand here (a test walks the installed classes), with the classes'
defaults, which an absent key means. A key that neither a class nor this file knows is set on the config by
transformers and read by none of these families' models; `unknown_keys` names it.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError

REQUIRED = object()
"""Default of a key that has to stand in the file: the class's default would be another model's size."""


@dataclass(frozen=True)
class Key:
    """A key that matters.

    Attributes:
      kind: what its value must be, a key of `_KINDS`.
      absent: value where the key is absent.
      null: whether null is a value; what it means is the family's business.
      only: values that are computed here; () for all.
    """

    kind: str
    absent: Any = REQUIRED
    null: bool = False
    only: tuple[Any, ...] = ()


def _number(value: Any) -> bool:
    return _int(value) or (isinstance(value, float) and math.isfinite(value))


def _int(value: Any) -> bool:
    # JSON has numbers of any length; none that means something here has more than 64 bits.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


_KINDS = {
    "a positive integer": lambda v: _int(v) and v > 0,
    "an integer of 0 or more": lambda v: _int(v) and v >= 0,
    "a positive number": lambda v: _number(v) and v > 0,
    "a number of 0 or more": lambda v: _number(v) and v >= 0,
    "an integer": _int,
    "a number from 0 to 1": lambda v: _number(v) and 0 <= v <= 1,
    "true or false": lambda v: isinstance(v, bool),
    "a text": lambda v: isinstance(v, str),
    "a token id": _int,
    "a token id or a list of them": lambda v: _int(v) or (isinstance(v, list) and all(map(_int, v))),
    "a list": lambda v: isinstance(v, list),
    "an object": lambda v: isinstance(v, dict),
    "anything": lambda v: True,
}
_SIZE, _COUNT, _FLAG, _TEXT = "a positive integer", "an integer of 0 or more", "true or false", "a text"
_POSITIVE, _AMOUNT, _ID, _IDS = (
    "a positive number",
    "a number of 0 or more",
    "a token id",
    "a token id or a list of them",
)

# Keys of every family, then those of each. What differs between families is only here, not in the reader.
_COMMON = {
    **dict.fromkeys(
        ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        Key(_SIZE),
    ),
    "rms_norm_eps": Key(_AMOUNT, 1e-6),
    "initializer_range": Key(_AMOUNT, 0.02),
    "tie_word_embeddings": Key(_FLAG, False),
    "pad_token_id": Key(_ID, None, null=True),
    "hidden_act": Key(_TEXT, "silu", only=("silu", "swish")),
    "rope_parameters": Key("an object", None, null=True),
    "rope_scaling": Key("an object", None, null=True),
    "is_encoder_decoder": Key(_FLAG, False, only=(False,)),
}


def _tokens(bos: int | None, eos: int | None) -> dict[str, Key]:
    return {"bos_token_id": Key(_ID, bos, null=True), "eos_token_id": Key(_IDS, eos, null=True)}


def _off(*names: str) -> dict[str, Key]:
    return dict.fromkeys(names, Key(_FLAG, False, only=(False,)))


def _sized(length: int, kv_heads: int | None, theta: float = 1e4) -> dict[str, Key]:
    return {
        "max_position_embeddings": Key(_SIZE, length),
        "num_key_value_heads": Key(_SIZE, kv_heads, null=True),
        "rope_theta": Key(_POSITIVE, theta),
    }


_HEAD_DIM = {"head_dim": Key(_SIZE, None, null=True)}
_READ_HEAD_DIM = {"head_dim": Key(_SIZE, None)}  # where transformers takes a null for a width
_LAYER_TYPES = {"layer_types": Key("a list", None, null=True)}
_QWEN_MOE_BLOCK = {
    "num_experts": Key(_SIZE, 128),
    "num_experts_per_tok": Key(_SIZE, 8),
    "moe_intermediate_size": Key(_SIZE, 768),
    "norm_topk_prob": Key(_FLAG, False),
    "router_aux_loss_coef": Key(_AMOUNT, 0.001),
    "decoder_sparse_step": Key(_SIZE, 1, only=(1,)),
    "mlp_only_layers": Key("a list", None, null=True, only=([],)),
}
_LATENT = {
    "kv_lora_rank": Key(_SIZE, 512),
    "q_lora_rank": Key(_SIZE, 1536, null=True),
    "qk_nope_head_dim": Key(_SIZE, 128),
    "qk_rope_head_dim": Key(_SIZE, 64),
    "v_head_dim": Key(_SIZE, 128),
    "aux_loss_alpha": Key(_AMOUNT, 0.0),
    "moe_layer_freq": Key(_SIZE, 1, only=(1,)),
}
READ: dict[str, dict[str, Key]] = {
    "llama": _COMMON | _HEAD_DIM | _sized(2048, None) | _tokens(1, 2) | _off("attention_bias", "mlp_bias"),
    "mistral": _COMMON | _HEAD_DIM | _sized(131072, 8) | _tokens(1, 2) | _LAYER_TYPES | {
        "sliding_window": Key(_SIZE, 4096, null=True),
    },
    "mixtral": _COMMON | _HEAD_DIM | _sized(131072, 8, theta=1e6) | _tokens(1, 2) | {
        "rms_norm_eps": Key(_AMOUNT, 1e-5),
        "sliding_window": Key(_SIZE, None, null=True),
        "num_local_experts": Key(_SIZE, 8),
        "num_experts_per_tok": Key(_SIZE, 2),
        "router_aux_loss_coef": Key(_AMOUNT, 0.001),
    },
    "qwen2": _COMMON | _READ_HEAD_DIM | _sized(32768, 32) | _tokens(None, None) | _LAYER_TYPES
        | _off("use_sliding_window"),
    "qwen3": _COMMON | {"head_dim": Key(_SIZE, 128)} | _sized(32768, 32) | _tokens(None, None) | _LAYER_TYPES
        | _off("use_sliding_window", "attention_bias"),
    "qwen3_moe": _COMMON | _READ_HEAD_DIM | _sized(32768, 4) | _tokens(None, None) | _QWEN_MOE_BLOCK
        | _off("use_sliding_window", "attention_bias"),
    "deepseek_v2": _COMMON | _sized(2048, None) | _tokens(1, 2) | _LATENT
        | _off("attention_bias", "mlp_bias", "norm_topk_prob") | {
        "n_routed_experts": Key(_SIZE, 64),
        "num_experts_per_tok": Key(_SIZE),
        "moe_intermediate_size": Key(_SIZE, 1407),
        "n_shared_experts": Key(_COUNT, 2),
        "first_k_dense_replace": Key(_COUNT, 0),
        "routed_scaling_factor": Key(_AMOUNT, 1.0),
        "n_group": Key(_SIZE, None, null=True),
        "topk_group": Key(_SIZE, None, null=True),
        "topk_method": Key(_TEXT, "greedy", only=("greedy", "group_limited_greedy")),
        "scoring_func": Key(_TEXT, "softmax", only=("softmax",)),
    },
    "deepseek_v3": _COMMON | _READ_HEAD_DIM | _sized(4096, 128) | _tokens(0, 1) | _LATENT | _off("attention_bias") | {
        "n_routed_experts": Key(_SIZE, 256),
        "num_experts_per_tok": Key(_SIZE, 8),
        "moe_intermediate_size": Key(_SIZE, 2048),
        "n_shared_experts": Key(_COUNT, 1),
        "first_k_dense_replace": Key(_COUNT, 3),
        "routed_scaling_factor": Key(_AMOUNT, 2.5),
        "n_group": Key(_SIZE, 8),
        "topk_group": Key(_SIZE, 4),
        "norm_topk_prob": Key(_FLAG, True),
        "topk_method": Key(_TEXT, "noaux_tc", only=("noaux_tc",)),
        "scoring_func": Key(_TEXT, "sigmoid", only=("sigmoid",)),
        "rope_interleave": Key(_FLAG, True, only=(True,)),
    },
}  # fmt: skip
"""Of each family: what is read, and what is computed for some values only."""

ALIASES = {
    "mixtral": {"num_experts": "num_local_experts"},
    "qwen3_moe": {"num_local_experts": "num_experts"},
    "deepseek_v2": {"num_experts": "n_routed_experts"},
    "deepseek_v3": {"num_local_experts": "n_routed_experts"},
}
"""Second names of keys, as transformers' `attribute_map` has them."""

_CALL = "what a call returns, or keeps for the next one"
_LABELS = "of classification heads"
_KERNEL = "which kernel computes the same sum"
_NAMES = "a name; the model type and the tensors decide"
_PLACES = "how training and loading were spread over machines"
_GENERATION = "of decoding: generation_config.json has it"
_WINDOW = "read with use_sliding_window only, which is refused"
_NOISE = "noise while training in transformers; this package draws none"
INERT: dict[str, str] = {
    **dict.fromkeys(("use_cache", "return_dict", "output_hidden_states", "output_attentions"), _CALL),
    **dict.fromkeys(("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"), _LABELS),
    **dict.fromkeys(("architectures", "auto_map", "model_type", "name_or_path", "tokenizer_class"), _NAMES),
    **dict.fromkeys(("transformers_version", "unsloth_version", "unsloth_fixed"), _NAMES),
    **dict.fromkeys(("attn_implementation", "experts_implementation", "torchscript"), _KERNEL),
    **dict.fromkeys(("dtype", "torch_dtype", "use_bfloat16"), "the tensors have their own types"),
    **dict.fromkeys(("add_cross_attention", "is_decoder", "tie_encoder_decoder", "prefix"), "of encoder-decoders"),
    **dict.fromkeys(("cross_attention_hidden_size", "decoder_start_token_id", "sep_token_id"), "of encoder-decoders"),
    **dict.fromkeys(("gradient_checkpointing", "ep_size"), _PLACES),
    "attention_dropout": _NOISE,
    "chunk_size_feed_forward": "these families' blocks are never computed in chunks",
    "pretraining_tp": "the products that it cuts add up to the same",
    "task_specific_params": _GENERATION,
    "tf_legacy_loss": "of TensorFlow",
    **dict.fromkeys(
        (
            "assistant_confidence_threshold", "assistant_lookbehind", "bad_words_ids", "begin_suppress_tokens",
            "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
            "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff", "exponential_decay_length_penalty",
            "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens",
            "min_length", "no_repeat_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule",
            "num_beam_groups", "num_beams", "num_return_sequences", "output_scores", "remove_invalid_values",
            "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "target_lookbehind",
            "temperature", "top_k", "top_p", "typical_p",
        ),
        _GENERATION,
    ),
}  # fmt: skip
"""Key of any family -> why no logit depends on it. Names with a leading underscore are transformers' own."""

_ROUTER_OUT = {"output_router_logits": _CALL}
_LATENT_INERT = _ROUTER_OUT | {
    "qk_head_dim": "follows from its two parts",
    "seq_aux": "how the load-balance loss was summed",
}
_DRAFTS = "layers that draft tokens; they add nothing to the logits"
_WINDOWS = {"sliding_window": _WINDOW, "max_window_layers": _WINDOW}
FAMILY_INERT: dict[str, dict[str, str]] = {
    "mixtral": _ROUTER_OUT | {"router_jitter_noise": _NOISE},
    "qwen2": _WINDOWS,
    "qwen3": _WINDOWS,
    "qwen3_moe": _WINDOWS | _ROUTER_OUT,
    "deepseek_v2": _LATENT_INERT | {"head_dim": "follows from qk_rope_head_dim"},
    "deepseek_v3": _LATENT_INERT | {"num_nextn_predict_layers": _DRAFTS, "num_mtp_layers": _DRAFTS},
}

_OFF_VALUES = (None, False, 0, 0.0, [], {})
ELSEWHERE: dict[str, tuple[Any, ...]] = {
    "is_causal": (True,),
    "partial_rotary_factor": (None, 1, 1.0),
    "attention_bias": (None, False),
    "logits_scaling": (None, 1, 1.0),
    "logit_scale": (None, 1, 1.0),
    "embedding_multiplier": (None, 1, 1.0),
    "residual_multiplier": (None, 1, 1.0),
    **dict.fromkeys(
        (
            "per_layer_config", "transformers_weights", "layer_types", "attention_chunk_size", "mlp_bias",
            "pruned_heads", "use_bidirectional_attention", "final_logit_softcapping", "attn_logit_softcapping",
            "attention_multiplier", "query_pre_attn_scalar", "clip_qkv", "qk_layernorm", "use_qk_norm", "alibi",
            "no_rope_layers", "no_rope_layer_interval", "attn_temperature_tuning", "quantization_config",
        ),
        _OFF_VALUES,
    ),
}  # fmt: skip
"""Keys that other models, or other readers of these (vLLM), compute something with -> values that say they do not."""


def settle(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Key -> value of all that is read for `values["model_type"]`, checked, absent ones filled in.

    Raises:
      InputError: a required key that is absent, a value of the wrong kind, or one that is not computed here.
    """
    family = values["model_type"]
    values = _one_name(values, ALIASES.get(family, {}), where)
    _refuse_elsewhere(values, family, where)
    return {key: _settled(key, about, values, where) for key, about in READ[family].items()}


def unknown_keys(values: dict[str, Any]) -> list[str]:
    """Keys that no model of `values["model_type"]` reads and nobody lists as known."""
    family = values["model_type"]
    known = {*READ[family], *ALIASES.get(family, {}), *INERT, *FAMILY_INERT.get(family, {}), *ELSEWHERE}
    known.add("original_max_position_embeddings")
    return sorted(key for key in values if key not in known and not key.startswith("_"))


def shown(value: Any) -> str:
    """A value as a message shows it, on one line."""
    return repr(value) if len(repr(value)) < 60 else repr(value)[:57] + "..."


def check_kind(key: str, value: Any, kind: str, where: str) -> None:
    """Raises InputError unless `value` is of a kind of `_KINDS`.

    Args:
      key, where: its name and its file, for the message.
      kind: such as "a positive integer".
    """
    if not _KINDS[kind](value):
        raise InputError(
            f"{key} must be {kind}, found {shown(value)}",
            where=where,
            hint="mend the file, or take it from the model's release",
        )


def _settled(key: str, about: Key, values: dict[str, Any], where: str) -> Any:
    if key not in values:
        if about.absent is REQUIRED:
            close = difflib.get_close_matches(key, values, 1, 0.85)
            hint = f"it has {close[0]!r}" if close else "take config.json from the model's release"
            raise InputError(f"key {key!r} is missing", where=where, hint=hint)
        return about.absent
    value = values[key]
    if value is None:
        if not about.null:
            raise InputError(
                f"key {key!r} is null, as if it were missing", where=where, hint="give it a value"
            )
        return None
    check_kind(key, value, about.kind, where)
    if about.only and value not in about.only:
        supported = " or ".join(map(repr, about.only))
        raise InputError(
            f"{key}={shown(value)} is not supported", where=where, hint=f"supported: {supported}"
        )
    return value


def _one_name(values: dict[str, Any], aliases: dict[str, str], where: str) -> dict[str, Any]:
    for alias, name in aliases.items():
        if alias not in values:
            continue
        if values.get(name, values[alias]) != values[alias]:
            raise InputError(
                f"{name}={shown(values[name])} and {alias}={shown(values[alias])} are two names of one size",
                where=where,
                hint=f"leave {alias} out",
            )
        values = {**values, name: values[alias]}
    return values


def _refuse_elsewhere(values: dict[str, Any], family: str, where: str) -> None:
    for key in sorted(values.keys() & ELSEWHERE.keys() - READ[family].keys()):
        value, free = values[key], ELSEWHERE[key]
        if key == "layer_types" and family != "mixtral":  # whose window is for all layers
            free = (*free, ["full_attention"] * len(value or ()) if isinstance(value, list | None) else None)
        if value not in free and not (key == "attention_bias" and family == "qwen2"):
            raise InputError(
                f"{key}={shown(values[key])} is not supported",
                where=where,
                hint=f"a {family} model has no such part",
            )
