"""Hugging Face folders out: configs, safetensors shards, tokenizer and chat template."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from xlam_jax import __version__
from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.params import Params
from xlam_jax.models.spec import HfEntry, hf_entries, leaves, param_to_hf, path_name
from xlam_jax.release.folders import PeakMemory, whole_folder
from xlam_jax.release.safetensors_io import TensorInfo, write_folder, write_json
from xlam_jax.release.tokenizer_files import check_vocabulary, copy_tokenizer, token_id

XLAM_JSON = "xlam.json"
FORMAT_VERSION = 1
DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


@dataclass(frozen=True)
class SaveReport:
    """What an export wrote and what it cost."""

    folder: str
    dtype: str
    parameters: int
    shards: dict[str, int]  # file name -> bytes
    weights_sha256: str
    seconds: float
    peak_bytes: int  # resident memory above the start of the export, when the arrays were already there

    @property
    def largest_shard(self) -> int:
        return max(self.shards.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON object, sizes in bytes."""
        return {**vars(self), "largest_shard": self.largest_shard}


def save_hf(
    params: Params,
    cfg: ModelConfig,
    dst: str | Path,
    *,
    tokenizer: str | Path | None = None,
    chat_template: str | None = None,
    stop: str | None = None,
    codec: Mapping[str, Any] | None = None,
    dtype: str | None = "float32",
    max_shard_bytes: int = 5 * 2**30,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> SaveReport:
    """Writes a folder that transformers, vLLM and `load_hf` read; `dst` appears whole or not at all.

    Tensors leave one at a time; the host holds one tensor beside the arrays.

    Args:
      params: stacked parameters, on one device or sharded over the devices of this process.
      tokenizer: folder to copy the tokenizer files from.
      chat_template: Jinja text that replaces the one of `tokenizer`.
      stop: stop token of the chat template; it joins the end-of-sequence ids, so servers end a turn there.
      codec: names that `format.get_codec` takes, kept in xlam.json for the engine that loads the folder.
      dtype: "float32", "bfloat16", "float16", or None for that of `params`.
      max_shard_bytes: a shard holds no more, unless a single tensor does.

    Raises:
      InputError: full disk, unknown dtype, a tokenizer that is missing, lacks `stop` or is larger than the
        vocabulary, parameters that lie on other hosts.
    """
    jax.block_until_ready(params)  # arrays still being computed would count as memory of the export
    memory, start = PeakMemory().start(), time.perf_counter()
    arrays = named_arrays(params)
    dtype = dtype or str(arrays["embed"].dtype)
    infos = tensor_infos(cfg, dtype)
    entries = hf_entries(cfg)
    digest = WeightsDigest()

    def fetch(name: str) -> np.ndarray:
        found = host_tensor(arrays, entries[name], DTYPES[dtype])
        digest.add(name, found)
        return found

    with whole_folder(dst) as folder:
        if tokenizer is not None:
            copy_tokenizer(tokenizer, folder, chat_template=chat_template)
            check_vocabulary(folder, cfg.vocab_size)
            if stop is not None:
                end = token_id(folder, stop)
                cfg = cfg.replace(eos_token_ids=(end, *(i for i in cfg.eos_token_ids if i != end)))
        shards = write_folder(
            folder,
            infos,
            fetch,
            max_shard_bytes=max_shard_bytes,
            progress=lambda info: progress(info.name, info.nbytes),
        )
        write_configs(folder, cfg, dtype)
        write_json(folder / XLAM_JSON, xlam_json(codec, digest.hexdigest()))
    parameters = sum(int(np.prod(i.shape)) for i in infos)
    seconds = time.perf_counter() - start
    return SaveReport(str(dst), dtype, parameters, shards, digest.hexdigest(), seconds, memory.bytes())


def write_configs(folder: Path, cfg: ModelConfig, dtype: str) -> None:
    """Writes config.json and generation_config.json."""
    config = config_to_hf(cfg, dtype)
    write_json(folder / "config.json", config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", {k: v for k, v in ids.items() if v is not None})


def xlam_json(codec: Mapping[str, Any] | None, weights_sha256: str) -> dict[str, Any]:
    """Content of xlam.json: how to talk to the model, and which weights these are."""
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "codec": dict(codec) if codec else None,
        "weights_sha256": weights_sha256,
    }


def read_xlam_json(folder: str | Path) -> dict[str, Any]:
    """The xlam.json of a folder, {} when it has none.

    Raises:
      InputError: not JSON, or written by a newer format.
    """
    path = Path(folder) / XLAM_JSON
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = int(found["format_version"])
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"not a valid {XLAM_JSON}: {e}", where=str(path)) from e
    if version > FORMAT_VERSION:
        raise InputError(
            f"format_version {version} is newer than this package reads ({FORMAT_VERSION})",
            where=str(path),
            hint="pip install -U xlam-jax",
        )
    return found


class WeightsDigest:
    """SHA-256 of a set of named tensors in Hugging Face orientation, whatever their order and sharding."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, array: np.ndarray) -> None:
        """Counts one C-contiguous tensor in."""
        body = hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
        self._lines.append(f"{name} {array.dtype} {list(array.shape)} {body}\n")

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256("".join(sorted(self._lines)).encode()).hexdigest()


def weights_digest(params: Params, cfg: ModelConfig) -> str:
    """The digest that `save_hf(dtype=None)` of the same parameters stores."""
    arrays, digest = named_arrays(params), WeightsDigest()
    for name, entry in hf_entries(cfg).items():
        digest.add(name, host_tensor(arrays, entry, arrays[entry.path].dtype))
    return digest.hexdigest()


def tensor_infos(cfg: ModelConfig, dtype: str) -> list[TensorInfo]:
    """Names, shapes and types of the exported tensors, in the order of a forward pass.

    Raises:
      InputError: a dtype that is not exported.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} cannot be exported", where="dtype", hint=", ".join(DTYPES))
    return [TensorInfo(name, entry.shape, DTYPES[dtype]) for name, entry in hf_entries(cfg).items()]


def named_arrays(params: Params) -> dict[str, Any]:
    """Dotted path -> leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {path_name(path): leaf for path, leaf in flat}


def check_params(arrays: Mapping[str, Any], cfg: ModelConfig, where: str) -> None:
    """Raises InputError unless the arrays (anything with a shape) are those of `cfg`."""
    specs = leaves(cfg)
    odd = sorted(set(specs) ^ set(arrays)) or [
        p for p, s in specs.items() if tuple(arrays[p].shape) != s.shape
    ]
    if odd:
        found = tuple(arrays[odd[0]].shape) if odd[0] in arrays else "absent"
        said = specs[odd[0]].shape if odd[0] in specs else "absent"
        raise InputError(
            f"the parameters do not fit config.json: {odd[0]!r} is {found}, the config says {said}",
            where=where,
            hint="is this a checkpoint of another model? config.json and the weights must come from one run",
        )


def host_tensor(arrays: Mapping[str, Any], entry: HfEntry, dtype: np.dtype) -> np.ndarray:
    """One tensor in Hugging Face orientation, C-contiguous, cast."""
    leaf = arrays[entry.path]
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        raise InputError(
            "the parameters are spread over several processes",
            where=entry.path,
            hint="export from the checkpoint in one process: xlam convert to-hf RUN DST",
        )
    on_host = not isinstance(leaf, jax.Array) or (
        len(leaf.devices()) == 1 and next(iter(leaf.devices())).platform == "cpu"
    )
    if on_host:  # a view: the CPU backend shares its memory with numpy
        leaf = np.asarray(leaf)
    part = leaf[entry.index] if entry.index else leaf
    return np.ascontiguousarray(param_to_hf(entry.spec, np.asarray(part)), dtype)
