"""`adapter_config.json` of PEFT: which adapters are plain LoRA, and the scale of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.files import read_object
from xlam_jax.models.hf_keys import check_kind, shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Of every module's name in a PEFT folder."""
# Starts that leave the base as it is. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take theirs out of it.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
# Keys that are read, and keys that say how an adapter was trained and not what it computes.
_KNOWN = frozenset(
    (
        *(
            "peft_type",
            "bias",
            "init_lora_weights",
            "r",
            "lora_alpha",
            "use_rslora",
            "rank_pattern",
            "alpha_pattern",
        ),
        *(
            "task_type",
            "auto_mapping",
            "peft_version",
            "base_model_name_or_path",
            "revision",
            "inference_mode",
        ),
        *("lora_dropout", "target_modules", "target_parameters", "exclude_modules", "layers_to_transform"),
        *("layers_pattern", "megatron_core", "eva_config", "qalora_group_size", "runtime_config"),
        "ensure_weight_tying",
    )
)


def read_peft_config(folder: str | Path) -> dict[str, Any]:
    """The adapter_config.json of a folder, checked to be of plain LoRA.

    Raises:
      InputError: it is missing, not JSON, or asks for what is not computed here.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise InputError(
            f"no PEFT adapter here: {CONFIG} is missing", where=str(folder), hint="check the path"
        )
    config = read_object(path)
    if key := _odd_key(config):
        base = key == "init_lora_weights"
        what = ": it belongs to a base model that was changed with it" if base else ""
        other = "save_pretrained(path_initial_model_for_weight_conversion=...), or " if base else ""
        raise InputError(
            f"only plain LoRA is read, and here {key} is {config.get(key)!r}{what}",
            where=str(path),
            hint=f"{other}merge it with PEFT (merge_and_unload) and convert the model",
        )
    _check_numbers(config, str(path))
    return config


def _check_numbers(config: Mapping[str, Any], where: str) -> None:
    """Raises InputError where what makes the scale has no meaning, or a pattern is no regular expression."""
    check_kind("r", config.get("r", 8), "a positive integer", where)
    check_kind("lora_alpha", config.get("lora_alpha", 8), "a positive number", where)
    check_kind("use_rslora", config.get("use_rslora") or False, "true or false", where)
    for key, kind in (("rank_pattern", "a positive integer"), ("alpha_pattern", "a positive number")):
        patterns = config.get(key) or {}
        check_kind(key, patterns, "an object", where)
        for pattern, value in patterns.items():
            check_kind(f"{key}.{pattern}", value, kind, where)
            try:
                re.compile(pattern)
            except (re.error, RecursionError) as e:
                raise InputError(
                    f"{key} holds {shown(pattern)}, which is no pattern: {e}", where=where,
                    hint="mend the file, or fetch it again",
                )  from e  # fmt: skip


def _odd_key(config: Mapping[str, Any]) -> str:
    """The first key that says this is no plain LoRA on the base as it is, "" where there is none.

    A key that nobody here knows counts where it is set: what PEFT adds to its sum next year has one.
    """
    if config.get("peft_type") != "LORA":
        return "peft_type"
    if config.get("bias", "none") != "none":
        return "bias"
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        return "init_lora_weights"
    return next((key for key, value in config.items() if value and key not in _KNOWN), "")


def check_module(config: Mapping[str, Any], module: str) -> None:
    """Raises InputError where PEFT, by its config, would not put an adapter on a module that has one in the file.

    Args:
      module: its name in the model, such as "model.layers.0.self_attn.q_proj".
    """
    targets, excluded = config.get("target_modules"), config.get("exclude_modules")
    layers, key = config.get("layers_to_transform"), ""
    if targets and targets != "all-linear" and not config.get("target_parameters"):
        key = "" if _is_named(targets, module) else "target_modules"
        # Layers count where an end of a name was given, and neither a whole name nor a pattern.
        if layers not in (None, []) and not isinstance(targets, str) and module not in targets:
            layer = re.search(r"\.(\d+)\.", module)
            if not layer or int(layer[1]) not in (layers if isinstance(layers, list) else [layers]):
                key = key or "layers_to_transform"
    if excluded and _is_named(excluded, module):
        key = "exclude_modules"
    if key:
        raise InputError(
            f"the file holds an adapter of {module}, which {key} of {CONFIG} leaves out: PEFT would not apply it",
            where=f"{CONFIG}: {key} is {shown(config[key])}",
            hint="is it the config of another adapter?",
        )


def _is_named(names: Any, module: str) -> bool:
    """As PEFT reads a list of ends of names, or one regular expression over whole names."""
    if isinstance(names, str):
        try:
            return re.fullmatch(names, module) is not None
        except re.error as e:
            raise InputError(f"{shown(names)} is no pattern: {e}", where=CONFIG) from e
    return any(module == name or module.endswith(f".{name}") for name in names)


def scale_of(config: Mapping[str, Any], name: str, rank: int) -> float:
    """PEFT's: patterns are regular expressions over the end of a module's name.

    Raises:
      InputError: the config has another rank for it.
    """
    said = _of_module(config, "rank_pattern", name, config.get("r", 8))
    if said != rank:
        raise InputError(
            f"the adapter of {name} has rank {rank}, and {CONFIG} says {said}, by which it would be scaled otherwise",
            where=WEIGHTS,
            hint="is it the config of another adapter?",
        )
    alpha = _of_module(config, "alpha_pattern", name, config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(config: Mapping[str, Any], patterns: str, name: str, otherwise: Any) -> Any:
    """The value of the first pattern that a module's name matches at its end."""
    values = (config.get(patterns) or {}).items()
    return next((v for pattern, v in values if re.match(rf"(.*\.)?({pattern})$", name)), otherwise)
