"""PEFT folders out, without torch: names are those of the hub's modules, experts one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from xlam_jax.errors import InputError
from xlam_jax.files import whole_folder, write_json
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import is_adapted
from xlam_jax.models.params import Params
from xlam_jax.models.spec import HfEntry, hf_entries, leaves, path_name
from xlam_jax.weights.peft_config import CONFIG, PREFIX, WEIGHTS

# Families of whose gate_proj, up_proj and down_proj PEFT 0.21 means the fused routed experts alone.
_FUSED_NAMES = ("qwen3_moe", "deepseek_v2", "deepseek_v3")


def save_peft(
    adapters: Params,
    cfg: ModelConfig,
    dst: str | Path,
    *,
    base_model: str = "",
    finish: Callable[[Path], None] = lambda folder: None,
) -> dict[str, Any]:
    """Writes a folder that PEFT and vLLM load; it appears whole or not at all.

    The scale is written as `lora_alpha` over `r` (a fused rank would change that of rsLoRA).
    Of experts PEFT wants all three matrices where gate or up is one, so missing ones are written as zeros.

    Args:
      finish: called with the folder when all else is written.

    Returns:
      `{modules, rank, parameters, bytes}`.

    Raises:
      InputError: adapters that PEFT cannot tell from others by their names.
    """
    flat = {
        path_name(path): x
        for path, x in jax.tree_util.tree_leaves_with_path(adapters, is_leaf=is_adapted)
        if is_adapted(x)
    }
    table = leaves(cfg)
    _check_families(cfg, flat)
    rank = max(x.a.shape[-1] for x in flat.values())
    scale = next(iter(flat.values())).scale
    entries = {n.removesuffix(".weight"): e for n, e in hf_entries(cfg).items()}
    zeros = _companions(flat, table)
    host = {
        path: (np.asarray(x.a), np.asarray(x.b) * np.float32(x.scale / scale)) for path, x in flat.items()
    }
    tensors: dict[str, np.ndarray] = {}
    for module, entry in entries.items():
        if entry.path in zeros:
            out_size, in_size = entry.shape
            a, b = np.zeros((in_size, rank), np.float32), np.zeros((rank, out_size), np.float32)
        elif entry.path in host:
            a, b = (x[entry.index] for x in host[entry.path])
        else:
            continue
        pad = rank - a.shape[-1]
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(np.pad(a, ((0, 0), (0, pad))).T)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(np.pad(b, ((0, pad), (0, 0))).T)
    chosen = {*flat, *zeros}
    alpha = scale * rank
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "target_modules": _target_modules(entries, chosen),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    with whole_folder(dst) as folder:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / CONFIG, config)
        finish(folder)
    size = sum(t.nbytes for t in tensors.values())
    return {
        "modules": len(tensors) // 2,
        "rank": rank,
        "parameters": sum(t.size for t in tensors.values()),
        "bytes": size,
    }


def _companions(flat: Mapping[str, Any], table: Mapping[str, Any]) -> set[str]:
    """Experts' matrices without adapters that PEFT 0.21 wants with those of the same block: gate and up are one
    to it, whose place it finds only where down is adapted too."""
    zeros = set()
    for path in flat:
        block, _, name = path.rpartition(".")
        if table[path].per_expert and name in ("gate", "up"):
            zeros |= {f"{block}.{other}" for other in ("gate", "up", "down")}
    return zeros - set(flat)


def _check_families(cfg: ModelConfig, flat: Mapping[str, Any]) -> None:
    if cfg.family not in _FUSED_NAMES:
        return
    odd = [p for p in flat if p.startswith("dense_layers.mlp.") or ".shared." in p]
    if odd:
        raise InputError(
            f"PEFT cannot hold adapters on dense or shared MLPs of {cfg.family}, such as {odd[0]!r}: it "
            "takes their names for those of the routed experts",
            where="lora.targets",
            hint="xlam convert to-hf merges the adapters into the model",
        )


def _target_modules(entries: Mapping[str, HfEntry], chosen: set[str]) -> list[str]:
    """Last names of modules where these tell the chosen ones from all others, else whole names."""
    last: dict[str, bool] = {}
    for module, entry in entries.items():
        if entry.spec.lora:
            name = module.rpartition(".")[2]
            last[name] = last.get(name, True) and entry.path in chosen
    names = [module for module, entry in entries.items() if entry.path in chosen]
    return sorted({n.rpartition(".")[2] if last[n.rpartition(".")[2]] else n for n in names})
