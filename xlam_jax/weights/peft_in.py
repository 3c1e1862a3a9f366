"""PEFT folders in: `adapter_config.json` and `adapter_model.safetensors`, without torch.

Names are those of the hub's modules (`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`),
experts one by one. PEFT 0.21 fuses them when it loads them with transformers 5; what it writes then, one
adapter for all experts of a layer, is read too.

Layout of a fused adapter (`peft.tuners.lora.ParamWrapper`): A is [E * R, in] by expert then rank, B is
[out, R * E] by rank then expert; `gate_up_proj` has gate's outputs above up's.

Shape legend: E experts, R rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
from jax.sharding import Mesh

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Adapted, Params
from xlam_jax.models.spec import HfEntry, hf_entries, path_name, spec
from xlam_jax.parallel.rules import DEFAULT_RULES, to_sharding
from xlam_jax.weights.peft_config import PREFIX, WEIGHTS, check_module, read_peft_config, scale_of

_FLOATS = ("F64", "F32", "F16", "BF16")


class Low(NamedTuple):
    """The adapter of one matrix: x @ a @ b * scale."""

    a: np.ndarray  # [in, R]
    b: np.ndarray  # [R, out]
    scale: float


def load_peft(folder: str | Path, cfg: ModelConfig, mesh: Mesh | None = None) -> Params:
    """Adapters of a PEFT folder as a tree, float32, placed on the mesh or the first device.

    Matrices of one stack that differ in rank or scale, or that have no adapter, get zeros and a factor, which
    keeps the function.

    Raises:
      InputError: no PEFT folder, another method than LoRA, or adapters on what this model does not have.
    """
    folder = Path(folder)
    config = read_peft_config(folder)
    stacks: dict[str, dict[tuple[int, ...], Low]] = {}
    for entry, low in _modules(folder, config, cfg):
        if entry.index in stacks.get(entry.path, {}):
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
        stacks.setdefault(entry.path, {})[entry.index] = low

    def leaf(path: tuple, s: Any) -> Any:
        lows = stacks.get(path_name(path))
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


def _modules(folder: Path, config: Mapping[str, Any], cfg: ModelConfig) -> Iterator[tuple[HfEntry, Low]]:
    entries = {n.removesuffix(".weight"): e for n, e in hf_entries(cfg).items() if e.spec.lora}
    short = {_without_block(n): n for n in entries}
    for module, a, b in _factors(folder / WEIGHTS):
        name = short.get(_without_block(module))
        if name:
            check_module(config, module)
            yield entries[name], Low(a.T, b.T, scale_of(config, name, a.shape[0]))
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
    scale = scale_of(config, whole, rank)
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
                yield module.removeprefix(PREFIX), a, b
                names -= {name, other}
            if names:
                raise InputError(
                    f"tensor {min(names)!r} is no plain LoRA factor",
                    where=str(path),
                    hint="merge it with PEFT (merge_and_unload) and convert the model",
                )
    except safetensors.SafetensorError as e:
        raise InputError(f"not readable: {e}", where=str(path), hint="fetch the folder again") from e
