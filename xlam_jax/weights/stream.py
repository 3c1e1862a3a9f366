"""Conversions from folder to folder: a few tensors in memory, no device, and they can be resumed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError, WorkError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import hf_entries
from xlam_jax.weights.adapters import adapter_run
from xlam_jax.weights.checksums import CHECKSUMS, Origin, WeightsDigest, check_files
from xlam_jax.weights.gguf import open_gguf, save_gguf_tokenizer
from xlam_jax.weights.hf_in import open_tensors, read_config
from xlam_jax.weights.hf_out import (
    XLAM_JSON,
    HfOptions,
    SaveReport,
    read_xlam_json,
    write_hf,
)
from xlam_jax.weights.orbax_tensors import ItemTensors
from xlam_jax.weights.peft_config import CONFIG as ADAPTER_CONFIG
from xlam_jax.weights.source import check_intact, inspect, load_model
from xlam_jax.weights.tensors import (
    ParamsTensors,
    Tensors,
    check_tensors,
    contiguous,
    kept_dtype,
)

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class OpenModel:
    """A model whose tensors can be read one by one.

    Attributes:
      tokenizer: folder with the tokenizer's files; None when the source has none.
      codec: names that `format.get_codec` takes, where the source knows them.
      folders: its own, and of a run that of its base model; documents are carried from them.
      stamp: what tells this source from others, and from itself after a change.
      origin: the digest of its weights, where it was kept beside them.
    """

    cfg: ModelConfig
    tensors: Tensors
    tokenizer: Path | None
    codec: dict[str, Any] | None
    stamp: dict[str, Any]
    folders: tuple[Path, ...] = ()
    origin: Origin | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the model's tensors as stored."""
        return sum(self.tensors.infos[name].nbytes for name in hf_entries(self.cfg))


@contextmanager
def open_model(src: str | Path) -> Iterator[OpenModel]:
    """Opens a Hugging Face folder, a training run or one of its checkpoints, or a GGUF file.

    Raises:
      InputError: no model there, one with an adapter beside it, unreadable files, tensors that are not the config's.
    """
    src = Path(src)
    if src.suffix == ".gguf":
        cfg, gguf = open_gguf(src)
        with tempfile.TemporaryDirectory() as folder:
            save_gguf_tokenizer(src, Path(folder))
            yield OpenModel(cfg, gguf, Path(folder), None, _stamp(src))
        return
    source = inspect(src)
    cfg = read_config(source.folder)
    if source.params is not None:
        if adapter_run(source.params):  # merged in float32, which takes the whole model in memory
            tensors: Tensors = ParamsTensors(load_model(src)[1], cfg)
        else:
            check_intact(source)
            tensors = ItemTensors(source.params, cfg)
        origin, stamp = _origin(src) if source.kind == "native" else None, _stamp(source.params)
        yield OpenModel(cfg, tensors, source.tokenizer, source.codec, stamp, source.folders, origin)
        return
    if (src / ADAPTER_CONFIG).is_file() and any(src.glob("adapter_model.*")):
        raise InputError(
            "an adapter lies beside the model, which transformers and PEFT would apply to it",
            where=str(src / ADAPTER_CONFIG),
            hint="move it into a folder of its own; xlam convert from-peft merges it into the model",
        )
    stored = open_tensors(src, cfg)
    check_tensors(stored, cfg)
    yield OpenModel(cfg, stored, source.tokenizer, source.codec, _stamp(src), source.folders, _origin(src))


def _origin(folder: Path) -> Origin | None:
    expected = read_xlam_json(folder).get("weights_xxh3_128")
    return Origin(folder, expected) if expected else None


def _stamp(path: Path) -> dict[str, Any]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    stats = [p.stat() for p in files]
    changed = max((s.st_mtime_ns for s in stats), default=0)
    return {"source": str(path.resolve()), "bytes": sum(s.st_size for s in stats), "changed": changed}


def to_hf(
    model: OpenModel,
    dst: str | Path,
    options: HfOptions,
    *,
    resume: bool = False,
    progress: Progress = lambda name, nbytes: None,
) -> SaveReport:
    """Writes a Hugging Face folder as `save_hf` does.

    Args:
      options: `tokenizer` and `codec` are those of `model` when None.
      resume: go on in what a killed conversion left; finished shards that nothing changed since are kept, and
        the result has the same bytes as that of one run.

    Raises:
      InputError: as `save_hf`; a folder left by another conversion.
    """
    names = {
        "tokenizer": options.tokenizer or model.tokenizer,
        "codec": options.codec or model.codec,
        "carry": options.carry or model.folders,
    }
    options = HfOptions(**{**vars(options), **names})
    stored = {name: model.tensors.infos[name].dtype for name in hf_entries(model.cfg)}
    origin, resized = model.origin, options.vocab_size not in (None, model.cfg.vocab_size)
    job = {
        **model.stamp,
        "max_shard_bytes": options.max_shard_bytes,
        "vocab_size": options.vocab_size or model.cfg.vocab_size,
    }

    def read(name: str, dtype: np.dtype) -> np.ndarray:
        tensor = model.tensors.get(name)
        if origin and (resized or tensor.dtype != dtype):
            origin.seen.add(name, contiguous(tensor, tensor.dtype))
        return contiguous(tensor, dtype)

    return write_hf(
        read, stored, model.cfg, dst, options, job=job, origin=origin, resume=resume, progress=progress
    )


def convert_gguf(path: str | Path, dst: str | Path, *, dtype: str = "float32") -> SaveReport:
    """Writes a GGUF file of the Llama architecture as a Hugging Face folder.

    Raises:
      InputError: as `load_gguf` and `save_gguf_tokenizer`.
    """
    with open_model(path) as model:
        return to_hf(model, dst, HfOptions(dtype=dtype))


def verify_checksums(folder: str | Path, progress: Progress = lambda name, nbytes: None) -> str:
    """Reads a converted folder back and says in words what was found as written.

    Raises:
      InputError: neither checksums.json nor a weights_xxh3_128 in xlam.json.
      WorkError: files or weights that changed.
    """
    folder = Path(folder)
    if (folder / CHECKSUMS).is_file():
        return f"{check_files(folder, progress)} files"
    expected = read_xlam_json(folder).get("weights_xxh3_128")
    if expected is None:
        raise InputError(
            f"neither {CHECKSUMS} nor a weights_xxh3_128 in {XLAM_JSON}",
            where=str(folder),
            hint="name a folder that xlam convert wrote",
        )
    digest = WeightsDigest()
    with open_model(folder) as model:
        for name, entry in hf_entries(model.cfg).items():
            info = model.tensors.infos[name]
            dtype = kept_dtype(entry.spec, info.dtype, None)
            digest.add(name, contiguous(model.tensors.get(name), dtype))
            progress(name, info.nbytes)
    if digest.hexdigest() != expected:
        raise WorkError(
            f"the weights are not those of {XLAM_JSON}",
            where=str(folder),
            hint="convert or copy the folder again",
        )
    return f"{len(digest.lines)} tensors"
