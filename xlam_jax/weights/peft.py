"""PEFT folders: `adapter_config.json` and `adapter_model.safetensors`, out and in, without torch.

Names are those of the hub's modules (`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`),
experts one by one. PEFT 0.21 fuses them when it loads them with transformers 5; what it writes then, one
adapter for all experts of a layer, is read too.

Layout of a fused adapter (`peft.tuners.lora.ParamWrapper`): A is [E * R, in] by expert then rank, B is
[out, R * E] by rank then expert; `gate_up_proj` has gate's outputs above up's.

Shape legend: E experts, R rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
from jax.sharding import Mesh
from safetensors.numpy import save_file

from xlam_jax.errors import InputError
from xlam_jax.files import read_object, whole_folder, write_json
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_keys import check_kind, shown
from xlam_jax.models.lora import is_adapted
from xlam_jax.models.params import Adapted, Params
from xlam_jax.models.spec import HfEntry, hf_entries, leaves, path_name, spec
from xlam_jax.parallel.rules import DEFAULT_RULES, to_sharding

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FLOATS = ("F64", "F32", "F16", "BF16")
# Families of whose gate_proj, up_proj and down_proj PEFT 0.21 means the fused routed experts alone.
_FUSED_NAMES = ("qwen3_moe", "deepseek_v2", "deepseek_v3")


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


class Low(NamedTuple):
    """The adapter of one matrix: x @ a @ b * scale."""

    a: np.ndarray  # [in, R]
    b: np.ndarray  # [R, out]
    scale: float


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
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(np.pad(a, ((0, 0), (0, pad))).T)
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(np.pad(b, ((0, pad), (0, 0))).T)
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
    found = set()
    for path in flat:
        block, _, name = path.rpartition(".")
        if table[path].per_expert and name in ("gate", "up"):
            found |= {f"{block}.{other}" for other in ("gate", "up", "down")}
    return found - set(flat)


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


def load_peft(folder: str | Path, cfg: ModelConfig, mesh: Mesh | None = None) -> Params:
    """Adapters of a PEFT folder as a tree, float32, placed on the mesh or the first device.

    Matrices of one stack that differ in rank or scale, or that have no adapter, get zeros and a factor, which
    keeps the function.

    Raises:
      InputError: no PEFT folder, another method than LoRA, or adapters on what this model does not have.
    """
    folder = Path(folder)
    config = read_peft_config(folder)
    found: dict[str, dict[tuple[int, ...], Low]] = {}
    for entry, low in _modules(folder, config, cfg):
        if entry.index in found.get(entry.path, {}):
            raise InputError(
                f"two adapters stand on one matrix, {'.'.join(map(str, (entry.path, *entry.index)))}",
                where=str(folder / WEIGHTS),
                hint="leave one of its names out: PEFT would read one of them, and merging both is another model",
            )
        if low.a.shape[0] != entry.shape[1] or low.b.shape[1] != entry.shape[0]:
            raise InputError(
                f"the adapter is for an [{low.b.shape[1]}, {low.a.shape[0]}] matrix, this model's is "
                f"{list(entry.shape)}",
                where=f"{folder / WEIGHTS}, {entry.path}",
                hint="is this an adapter of another model?",
            )
        found.setdefault(entry.path, {})[entry.index] = low

    def leaf(path: tuple, s: Any) -> Any:
        lows = found.get(path_name(path))
        if lows is None:
            return None
        rank, scale = max(x.a.shape[1] for x in lows.values()), next(iter(lows.values())).scale
        *lead, fan_in, fan_out = s.shape
        a = np.zeros((*lead, fan_in, rank), np.float32)
        b = np.zeros((*lead, rank, fan_out), np.float32)
        for index, low in lows.items():
            a[index][:, : low.a.shape[1]] = low.a
            b[index][: low.b.shape[0]] = low.b * (low.scale / scale)
        axes = s.axes
        places = (None, None) if mesh is None else (
            to_sharding((*axes[:-1], None), mesh, DEFAULT_RULES, a.shape),
            to_sharding((*axes[:-2], None, axes[-1]), mesh, DEFAULT_RULES, b.shape),
        )  # fmt: skip
        return Adapted(None, jax.device_put(a, places[0]), jax.device_put(b, places[1]), float(scale))

    return jax.tree_util.tree_map_with_path(leaf, spec(cfg))


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


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
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
    found = (config.get(patterns) or {}).items()
    return next((v for pattern, v in found if re.match(rf"(.*\.)?({pattern})$", name)), otherwise)


def _modules(folder: Path, config: Mapping[str, Any], cfg: ModelConfig) -> Iterator[tuple[HfEntry, Low]]:
    entries = {n.removesuffix(".weight"): e for n, e in hf_entries(cfg).items() if e.spec.lora}
    short = {_without_block(n): n for n in entries}
    for module, a, b in _factors(folder / WEIGHTS):
        name = short.get(_without_block(module))
        if name:
            yield entries[name], Low(a.T, b.T, _scale(config, name, a.shape[0]))
        elif match := re.fullmatch(r"(.*)\.mlp\.experts(\.base_layer)?", module):
            yield from _fused(match[1], a, b, config, cfg, entries, short)
        else:
            raise InputError(
                f"the adapter stands on {module!r}, which this {cfg.family} model cannot adapt",
                where=str(folder / WEIGHTS),
                hint="known: " + ", ".join(sorted({n.rpartition(".")[2] for n in entries})),
            )


def _without_block(module: str) -> str:
    # transformers 5 calls Mixtral's block "mlp".
    return module.replace(".block_sparse_moe.", ".mlp.")


def _fused(layer, a, b, config, cfg, entries, short) -> Iterator[tuple[HfEntry, Low]]:  # fmt: skip
    assert cfg.moe
    E, F = cfg.moe.num_experts, cfg.moe.intermediate_size
    rank = a.shape[0] // E
    is_down = b.shape[0] == cfg.hidden_size and a.shape[1] == F
    kinds = (("w2",), ("w1", "w3")) if cfg.family == "mixtral" else (("down_proj",), ("gate_proj", "up_proj"))
    names = kinds[0] if is_down else kinds[1]
    whole = f"{layer}.mlp.experts.{'down_proj' if is_down else 'gate_up_proj'}"
    scale = _scale(config, whole, rank)
    a_ERi, b_oRE = a.reshape(E, rank, -1), b.reshape(b.shape[0], rank, E)
    for e in range(E):
        for name, part in zip(names, np.split(b_oRE[:, :, e], len(names)), strict=True):
            entry = entries[short[f"{layer}.mlp.experts.{e}.{name}"]]
            yield entry, Low(a_ERi[e].T, part.T, scale)


def _factors(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(module, A [R, in], B [out, R]) of every adapter in a file, float32."""
    if not path.is_file():
        raise InputError(f"{WEIGHTS} is missing", where=str(path.parent), hint="save it as safetensors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            if not names:
                raise InputError(
                    "the adapter holds no tensors", where=str(path), hint="fetch the folder again"
                )
            for name in sorted(n for n in names if n.endswith(".lora_A.weight")):
                module = name.removesuffix(".lora_A.weight")
                other = module + ".lora_B.weight"
                if other not in names:
                    raise InputError(f"tensor {other!r} is missing", where=str(path))
                for factor in (name, other):
                    if (dtype := file.get_slice(factor).get_dtype()) not in _FLOATS:
                        what = "integers" if dtype[0] in "IUB" else dtype
                        raise InputError(
                            f"{factor} holds {what}", where=str(path),
                            hint="save the adapter as float32, float16 or bfloat16",
                        )  # fmt: skip
                a, b = (np.asarray(file.get_tensor(n)) for n in (name, other))
                if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                    raise InputError(
                        f"{name} {list(a.shape)} and its lora_B {list(b.shape)} are no pair of one rank",
                        where=str(path),
                        hint="fetch the folder again",
                    )
                a, b = a.astype(np.float32), b.astype(np.float32)
                yield module.removeprefix(_PREFIX), a, b
                names -= {name, other}
            if names:
                raise InputError(
                    f"tensor {min(names)!r} is no plain LoRA factor",
                    where=str(path),
                    hint="merge it with PEFT (merge_and_unload) and convert the model",
                )
    except safetensors.SafetensorError as e:
        raise InputError(f"not readable: {e}", where=str(path), hint="fetch the folder again") from e
