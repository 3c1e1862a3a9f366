"""Hugging Face folders in: config.json and safetensors into stacked, placed parameters, tensor by tensor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from xlam_jax.errors import InputError
from xlam_jax.files import read_object
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_config import config_from_hf
from xlam_jax.models.hf_keys import unknown_keys
from xlam_jax.models.params import Params
from xlam_jax.models.spec import HfEntry, hf_entries, leaves, param_to_hf, path_name, shardings, spec
from xlam_jax.parallel.rules import ShardingRules
from xlam_jax.weights.fused import FusedExperts, is_fused
from xlam_jax.weights.safetensors_io import TensorFolder
from xlam_jax.weights.tensors import Tensors, check_tensors, copy_strips, leaf_dtypes

_BLOCK_BYTES = 8 * 2**20


def read_config(folder: str | Path) -> ModelConfig:
    """The ModelConfig of a folder's config.json.

    Raises:
      InputError: no folder, no config.json, not JSON, or a model this package does not compute.
    """
    values, path = _config_json(Path(folder))
    return config_from_hf(values, where=str(path))


def unread_keys(folder: str | Path) -> list[str]:
    """Keys of a folder's config.json that no model of its type reads and no list here knows."""
    return unknown_keys(_config_json(Path(folder))[0])


def _config_json(folder: Path) -> tuple[dict[str, Any], Path]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise InputError("model folder not found", where=str(folder), hint="check the path")
    if not path.is_file():
        raise InputError("config.json not found", where=str(folder), hint="name a folder that holds a model")
    values = read_object(path, "mend it, or take it from the model's release")
    if quantised := values.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        hint = "take the float16, bfloat16 or float32 release"
        if method == "fp8":
            hint += ", or cast it first (DeepSeek's inference/fp8_cast_bf16.py) and drop quantization_config"
        raise InputError(
            f"the checkpoint is quantised ({method or 'quantization_config is set'})",
            where=str(path),
            hint=hint,
        )
    return values, path


def load_hf(
    folder: str | Path,
    *,
    dtype: Any = None,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> tuple[ModelConfig, Params]:
    """Reads a Hugging Face folder into parameters stacked over layers.

    Each tensor is read once and written into its layer of the stacked array on the device, so the host holds
    about one tensor beside the arrays. With a mesh each device reads only the bytes of its own slice.

    Args:
      folder: config.json and model.safetensors, or shards with their index.
      dtype: of the parameters; None keeps what the checkpoint has, leaf by leaf. DeepSeek-V3's selection bias
        is float32 always.
      mesh, rules: placement as in `models.spec.shardings`; without a mesh all goes to the first device.
      progress: called with (tensor name, bytes) after each tensor.

    Returns:
      The config, and `Params` with every leaf placed.

    Raises:
      InputError: unreadable files, missing or unexpected tensors, shapes that are not the config's.
    """
    cfg = read_config(folder)
    tensors = open_tensors(folder, cfg)
    return cfg, load_tensors(tensors, cfg, dtype=dtype, mesh=mesh, rules=rules, progress=progress)


def open_tensors(folder: str | Path, cfg: ModelConfig) -> Tensors:
    """The tensors of a Hugging Face folder under their names of the hub, whichever expert layout it has."""
    stored = TensorFolder(folder)
    return FusedExperts(stored, cfg) if cfg.moe and is_fused(stored) else stored


def load_tensors(
    tensors: Tensors,
    cfg: ModelConfig,
    *,
    dtype: Any = None,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> Params:
    """Placed, stacked parameters from any source of tensors; errors as in `load_hf`.

    Args:
      tensors: under their names of the hub.
      dtype, mesh, rules, progress: as in `load_hf`.
    """
    check_tensors(tensors, cfg)
    entries = hf_entries(cfg)
    dtypes = leaf_dtypes(tensors, cfg, None if dtype is None else np.dtype(dtype))
    filler = Filler(cfg, dtypes, mesh, rules)
    for name in sorted(entries, key=lambda n: (tensors.path_of(n), n)):
        entry = entries[name]
        filler.fill(entry, functools.partial(_read, tensors, name, entry, dtypes[entry.path]))
        progress(name, tensors.infos[name].nbytes)
    return filler.params()


def _read(
    tensors: Tensors, name: str, entry: HfEntry, dtype: np.dtype, index: tuple[slice, ...]
) -> np.ndarray:
    """The part `index` (in our orientation) of one tensor, cast; by blocks of rows, never held twice."""
    transposed = entry.spec.transform == "transpose"
    shape = entry.shape
    cut = tuple(
        slice(*s.indices(n)) for s, n in zip(index[::-1] if transposed else index, shape, strict=True)
    )
    sizes = [s.stop - s.start for s in cut]
    out = np.empty(sizes[::-1] if transposed else sizes, dtype)
    view = param_to_hf(entry.spec, out)
    row_bytes = max(1, tensors.infos[name].nbytes // shape[0])
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, sizes[0], step):
        stop = min(start + step, sizes[0])
        rows = slice(cut[0].start + start, cut[0].start + stop)
        copy_strips(view[start:stop], tensors.get(name, (rows, *cut[1:])))
    return out


class Filler:
    """Stacked arrays on the device, filled layer by layer in place (the stack is donated to each update)."""

    def __init__(
        self,
        cfg: ModelConfig,
        dtypes: Mapping[str, np.dtype],
        mesh: Mesh | None,
        rules: ShardingRules | None,
    ):
        self._cfg, self._dtypes = cfg, dtypes
        self._specs = leaves(cfg)
        one = SingleDeviceSharding(jax.local_devices()[0])
        self._shardings: dict[str, Sharding] = dict.fromkeys(self._specs, one)
        if mesh is not None:
            flat, _ = jax.tree_util.tree_flatten_with_path(shardings(cfg, mesh, rules))
            self._shardings = {path_name(path): sharding for path, sharding in flat}
        self._arrays: dict[str, jax.Array] = {}

    def fill(self, entry: HfEntry, read: Callable[[tuple[slice, ...]], np.ndarray]) -> None:
        """Puts one tensor in its place; `read(index)` gives the part of it that a device holds."""
        path, sharding = entry.path, self._shardings[entry.path]
        shape = self._specs[path].shape
        parts: dict[str, np.ndarray] = {}

        def part(index: Any) -> np.ndarray:
            key = str(index)
            if key not in parts:  # devices that hold the same part share one read
                parts[key] = read(index)
            return parts[key]

        if not entry.index:
            self._arrays[path] = jax.make_array_from_callback(shape, sharding, part)
            return
        if path not in self._arrays:
            self._arrays[path] = jax.jit(
                lambda: jnp.zeros(shape, self._dtypes[path]), out_shardings=sharding
            )()
        leading = len(entry.index)
        inner = _without_leading_axes(sharding, leading)
        tensor = jax.make_array_from_callback(shape[leading:], inner, part)
        # Waiting keeps one tensor in flight; without it the host queues all of them.
        self._arrays[path] = _put(sharding)(self._arrays[path], tensor, *entry.index).block_until_ready()

    def params(self) -> Params:
        """The filled tree."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: self._arrays[path_name(path)], spec(self._cfg)
        )


def _without_leading_axes(sharding: Sharding, count: int) -> Sharding:
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[count:]))
    return sharding


@functools.cache
def _put(sharding: Sharding) -> Callable[..., jax.Array]:
    def put(stack: jax.Array, tensor: jax.Array, *index: int) -> jax.Array:
        start = (*index, *(0,) * tensor.ndim)
        return jax.lax.dynamic_update_slice(stack, tensor[(None,) * len(index)], start)

    return jax.jit(put, donate_argnums=0, out_shardings=sharding)
