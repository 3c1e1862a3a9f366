"""Hugging Face folders out: configs, safetensors shards, tokenizer and chat template."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from xlam_jax import __version__
from xlam_jax.errors import InputError
from xlam_jax.files import read_object, whole_folder, write_json
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.params import Params
from xlam_jax.models.spec import HfEntry, hf_entries, leaves, param_to_hf, path_name
from xlam_jax.weights.carried import carry
from xlam_jax.weights.checksums import Journal, Origin, WeightsDigest
from xlam_jax.weights.generation import GENERATION, SPECIAL, generation_config, listed, read_generation
from xlam_jax.weights.memory import PeakMemory
from xlam_jax.weights.safetensors_io import TensorInfo, write_folder
from xlam_jax.weights.tensors import check_finite, contiguous, kept_dtype, refuse_float64
from xlam_jax.weights.tokenizer_files import check_vocabulary, copy_tokenizer, largest_token_id, token_id

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
    weights_xxh3_128: str
    seconds: float
    peak_bytes: int  # resident memory above the start of the export, when the arrays were already there

    @property
    def largest_shard(self) -> int:
        return max(self.shards.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON object, sizes in bytes."""
        return {**vars(self), "largest_shard": self.largest_shard}


@dataclass(frozen=True)
class HfOptions:
    """How a Hugging Face folder is to look.

    Attributes:
      tokenizer: folder to copy the tokenizer files from.
      chat_template: Jinja text that replaces the one of `tokenizer`.
      stop: stop token of the chat template; it joins the end-of-sequence ids, so servers end a turn there.
      codec: names that `format.get_codec` takes, kept in xlam.json for the engine that loads the folder.
      dtype: "float32", "bfloat16", "float16", or None for what the parameters have.
      max_shard_bytes: a shard holds no more, unless a single tensor does.
      vocab_size: rows of embedding and head: fewer cut rows that the tokenizer does not use, more are filled
        with the mean of the others, so that a greedy choice never falls on them.
      files: name -> text of further files.
      carry: folders whose documents and generation_config.json go on, see `carried.carry`.
      finish: called with the folder when all else is written.
      check: called with the folder when it is complete, before it takes its name; what it raises leaves nothing.
    """

    tokenizer: str | Path | None = None
    chat_template: str | None = None
    stop: str | None = None
    codec: Mapping[str, Any] | None = None
    dtype: str | None = "float32"
    max_shard_bytes: int = 5 * 2**30
    vocab_size: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    carry: tuple[Path, ...] = ()
    finish: Callable[[Path], None] | None = None
    check: Callable[[Path], None] | None = None


def save_hf(
    params: Params,
    cfg: ModelConfig,
    dst: str | Path,
    *,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
    **options: Any,
) -> SaveReport:
    """Writes a folder that transformers, vLLM and `load_hf` read; `dst` appears whole or not at all.

    Tensors leave one at a time; the host holds two tensors beside the arrays. Experts are written one by one,
    as the hub and vLLM have them.

    Args:
      params: stacked parameters, on one device or sharded over the devices of this process.
      options: fields of `HfOptions`.

    Raises:
      InputError: full disk, unknown dtype, a tokenizer that is missing, lacks `stop` or is larger than the
        vocabulary, parameters that lie on other hosts.
    """
    jax.block_until_ready(params)  # arrays still being computed would count as memory of the export
    arrays, entries = named_arrays(params), hf_entries(cfg)
    stored = {name: np.dtype(arrays[entry.path].dtype) for name, entry in entries.items()}

    def read(name: str, dtype: np.dtype) -> np.ndarray:
        return host_tensor(arrays, entries[name], dtype)

    return write_hf(read, stored, cfg, dst, HfOptions(**options), progress=progress)


def write_hf(
    read: Callable[[str, np.dtype], np.ndarray],
    stored: Mapping[str, np.dtype],
    cfg: ModelConfig,
    dst: str | Path,
    options: HfOptions,
    *,
    job: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
    resume: bool = False,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> SaveReport:
    """`save_hf` of tensors from anywhere.

    Args:
      read: (name, dtype) -> one tensor in Hugging Face orientation; called in file order, by two threads.
      stored: dtype of each tensor in the source.
      job: what tells this conversion from others, for `resume`.
      origin: what the source says its weights are; `read` notes what it changes.
      resume: go on in what a killed conversion left, where its finished shards have the noted checksums.
    """
    memory, start = PeakMemory().start(), time.perf_counter()
    old, new = cfg, cfg if options.vocab_size is None else _resized(cfg, options)
    generation = _carried_generation(options)
    generation_config(new, generation)  # refuses before the weights are written
    infos = tensor_infos(new, stored, options.dtype)
    dtypes = {info.name: info.dtype for info in infos}
    label = options.dtype or str(dtypes["model.embed_tokens.weight"])
    with whole_folder(dst, resume=resume) as folder:
        journal = Journal(folder, {"kind": "to-hf", "dtype": label, **(job or {})}, origin=origin)
        if options.tokenizer is not None:
            copy_tokenizer(options.tokenizer, folder, chat_template=options.chat_template, stop=options.stop)
            check_vocabulary(folder, new.vocab_size, options.tokenizer)
            if options.stop is not None:
                end = token_id(folder, options.stop)
                new = new.replace(eos_token_ids=(end, *(i for i in new.eos_token_ids if i != end)))

        def fetch(name: str) -> np.ndarray:
            tensor = read(name, dtypes[name])
            if "vocab" in hf_entries(old)[name].spec.axes:
                tensor = _rows(tensor, new.vocab_size)
            return check_finite(name, tensor)

        shards = write_folder(
            folder,
            infos,
            fetch,
            max_shard_bytes=options.max_shard_bytes,
            progress=lambda info: progress(info.name, info.nbytes),
            journal=journal,
        )
        write_configs(folder, new, label, generation)
        carry(options.carry, folder)
        digest = journal.digest.hexdigest()
        write_json(folder / XLAM_JSON, xlam_json(options.codec, digest))
        for name, text in options.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        if options.finish is not None:
            options.finish(folder)
        journal.seal()
        seconds, peak = time.perf_counter() - start, memory.bytes()
        if options.check is not None:
            options.check(folder)
    parameters = sum(math.prod(i.shape) for i in infos)
    return SaveReport(str(dst), label, parameters, shards, digest, seconds, peak)


def _resized(cfg: ModelConfig, options: HfOptions) -> ModelConfig:
    """`cfg` with `options.vocab_size` rows; InputError when something uses rows that would be cut."""
    rows = options.vocab_size or 0
    if rows < cfg.vocab_size:
        used = largest_token_id(Path(options.tokenizer)) if options.tokenizer else None
        if used is None:
            raise InputError(
                "cutting the vocabulary needs tokenizer.json, which tells the rows in use",
                where="--vocab-size",
            )
        named = _carried_generation(options)
        others = [i for key in SPECIAL for i in listed(named.get(key))]
        special = (cfg.bos_token_id, cfg.pad_token_id, *cfg.eos_token_ids, *others)
        used = max([used, *(i for i in special if isinstance(i, int))])
        if used >= rows:
            raise InputError(
                f"{rows} rows would cut tokens in use: ids go up to {used}",
                where="--vocab-size",
                hint=f"at least {used + 1}",
            )
    return cfg.replace(vocab_size=rows)


def _rows(table_VD: np.ndarray, rows: int) -> np.ndarray:
    if rows <= table_VD.shape[0]:
        return table_VD[:rows]
    mean_D = table_VD.mean(axis=0, dtype=np.float32).astype(table_VD.dtype)
    return np.concatenate([table_VD, np.broadcast_to(mean_D, (rows - table_VD.shape[0], mean_D.size))])


def write_configs(
    folder: Path, cfg: ModelConfig, dtype: str, generation: Mapping[str, Any] | None = None
) -> None:
    """Writes config.json and generation_config.json.

    Args:
      dtype: of the weights, by transformers' name: "bfloat16".
      generation: the generation_config.json that the model came with; its values stay.
    """
    write_json(folder / "config.json", config_to_hf(cfg, dtype))
    write_json(folder / GENERATION, generation_config(cfg, generation or {}))


def _carried_generation(options: HfOptions) -> dict[str, Any]:
    return next(filter(None, map(read_generation, options.carry)), {})


def xlam_json(codec: Mapping[str, Any] | None, weights_xxh3_128: str) -> dict[str, Any]:
    """Content of xlam.json: how to talk to the model, and which weights these are."""
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "codec": dict(codec) if codec else None,
        "weights_xxh3_128": weights_xxh3_128,
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
        facts = read_object(path)
        version = int(facts["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError) as e:
        raise InputError(f"not a valid {XLAM_JSON}: {e}", where=str(path)) from e
    if version > FORMAT_VERSION:
        raise InputError(
            f"format_version {version} is newer than this package reads ({FORMAT_VERSION})",
            where=str(path),
            hint="pip install -U xlam-jax",
        )
    return facts


def weights_digest(params: Params, cfg: ModelConfig) -> str:
    """The digest that `save_hf(dtype=None)` of the same parameters stores."""
    arrays, digest = named_arrays(params), WeightsDigest()
    for name, entry in hf_entries(cfg).items():
        dtype = kept_dtype(entry.spec, np.dtype(arrays[entry.path].dtype), None)
        digest.add(name, host_tensor(arrays, entry, dtype))
    return digest.hexdigest()


def tensor_infos(cfg: ModelConfig, stored: Mapping[str, np.dtype], dtype: str | None) -> list[TensorInfo]:
    """Names, shapes and types of the exported tensors, in the order of a forward pass.

    Args:
      stored: dtype of each tensor in the source; stays where `dtype` is None.

    Raises:
      InputError: a dtype that is not exported.
    """
    entries = hf_entries(cfg)
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} cannot be exported", where="dtype", hint=", ".join(DTYPES))
    wanted = None if dtype is None else DTYPES[dtype]
    infos = [TensorInfo(n, e.shape, kept_dtype(e.spec, stored[n], wanted)) for n, e in entries.items()]
    for info in infos:
        refuse_float64(info.name, info.dtype)
    return infos


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
        shape = tuple(arrays[odd[0]].shape) if odd[0] in arrays else "absent"
        said = specs[odd[0]].shape if odd[0] in specs else "absent"
        raise InputError(
            f"the parameters do not fit config.json: {odd[0]!r} is {shape}, the config says {said}",
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
    return contiguous(param_to_hf(entry.spec, np.asarray(part)), dtype)
