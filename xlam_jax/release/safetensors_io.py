"""Safetensors folders, one tensor at a time: neither reader nor writer ever holds a shard in memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from xlam_jax.errors import InputError
from xlam_jax.release.checksums import Journal
from xlam_jax.release.folders import check_space, room_on_disk

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Pages of a mapped file count as resident; mapping anew after this much keeps a reader far below a shard.
_MAPPED_LIMIT = 32 * 2**20
# Rank in which safetensors lays out tensors of several types in one file (widest alignment first).
_RANK = {"F64": 0, "F32": 1, "BF16": 2, "F16": 3}


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFolder:
    """The tensors of a Hugging Face folder, single file or sharded with an index.

    One shard is open (memory-mapped) at a time, and no more than 32 MiB of it stay resident beside a tensor.

    Raises:
      InputError: no safetensors here, an unreadable index, a missing, truncated or corrupt shard, a tensor
        that holds no floats.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._open: tuple[str, safetensors.safe_open] | None = None
        self._touched = 0
        self.infos: dict[str, TensorInfo] = {}
        self._file_of: dict[str, str] = {}
        self.shard_bytes: dict[str, int] = {}
        self.bytes_read = 0  # of tensors, so far
        listed = _listed_files(self.folder)
        for name in sorted(set(listed.values())) or [SINGLE]:
            self._read_header(name)
        for tensor, name in listed.items():
            if self._file_of.get(tensor) != name:
                raise InputError(
                    f"the index places {tensor!r} in {name}, which does not hold it",
                    where=str(self.folder / INDEX),
                    hint="fetch the folder again: index and shards are of different checkpoints",
                )

    def __enter__(self) -> TensorFolder:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps the open shard."""
        self._open, self._touched = None, 0

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out (only those bytes are read)."""
        if self._touched > _MAPPED_LIMIT:
            self.close()
        handle = self._handle(self._file_of[name])
        try:
            found = handle.get_tensor(name) if index is None else handle.get_slice(name)[index]
        except safetensors.SafetensorError as e:
            raise InputError(f"tensor {name!r} cannot be read: {e}", where=self.path_of(name)) from e
        self._touched += found.nbytes
        self.bytes_read += found.nbytes
        return found

    def path_of(self, name: str) -> str:
        """The file that holds the tensor."""
        return str(self.folder / self._file_of[name])

    def _handle(self, file: str) -> safetensors.safe_open:
        if self._open is None or self._open[0] != file:
            self.close()  # unmap before the next one is mapped
            self._open = (file, _open(self.folder / file))
        return self._open[1]

    def _read_header(self, file: str) -> None:
        handle = self._handle(file)
        for name in handle.keys():  # noqa: SIM118  (a safe_open is no mapping)
            view = handle.get_slice(name)
            if view.get_dtype() not in _DTYPES:
                raise InputError(
                    f"tensor {name!r} has type {view.get_dtype()}; only {', '.join(_DTYPES)} are read",
                    where=str(self.folder / file),
                    hint="take the checkpoint before quantisation",
                )
            self.infos[name] = TensorInfo(name, tuple(view.get_shape()), _DTYPES[view.get_dtype()])
            self._file_of[name] = file
        self.shard_bytes[file] = (self.folder / file).stat().st_size


def _listed_files(folder: Path) -> dict[str, str]:
    """Tensor name -> file of the index; {} for a folder with a single file."""
    index = folder / INDEX
    if index.is_file():
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            if not all(isinstance(f, str) and Path(f).name == f for f in listed.values()) or not listed:
                raise ValueError("weight_map does not map tensor names to file names of this folder")
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise InputError(f"not a safetensors index: {e}", where=str(index)) from e
        return listed
    if (folder / SINGLE).is_file():
        return {}
    hint = "a folder with model.safetensors, or with model.safetensors.index.json and its shards"
    if (folder / "adapter_model.safetensors").is_file():
        hint = "this is a LoRA adapter: merge it into its base model first"
    elif list(folder.glob("*.bin")) or list(folder.glob("*.pth")):
        hint = "these are torch pickles: save them once with save_pretrained(..., safe_serialization=True)"
    raise InputError("no safetensors weights found", where=str(folder), hint=hint)


def _open(path: Path) -> safetensors.safe_open:
    if not path.is_file():
        raise InputError(
            f"shard {path.name} is named by the index but missing", where=str(path), hint="fetch it again"
        )
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as e:
        what = f"{path.name} is truncated or corrupt: {_diagnosis(path)} ({e})"
        raise InputError(what, where=str(path), hint="fetch or export the file again") from e


def _diagnosis(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if size < 8 or length > size - 8:
            return f"the file has {size} bytes, fewer than its header needs"
        try:
            header = json.loads(f.read(length))
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError):
            return "its header is not readable"
    return f"the file has {size} bytes, its header announces {8 + length + end}"


def plan_shards(infos: Iterable[TensorInfo], max_shard_bytes: int) -> dict[str, list[TensorInfo]]:
    """File name -> tensors, filled greedily in the given order; a tensor larger than a shard stands alone."""
    groups: list[list[TensorInfo]] = []
    size = 0
    for info in infos:
        if not groups or size + info.nbytes > max_shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(info)
        size += info.nbytes
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": g for i, g in enumerate(groups, 1)}


def write_folder(
    dst: Path,
    infos: Sequence[TensorInfo],
    fetch: Callable[[str], np.ndarray],
    *,
    max_shard_bytes: int = 5 * 2**30,
    progress: Callable[[TensorInfo], None] = lambda info: None,
    journal: Journal | None = None,
) -> dict[str, int]:
    """Writes the tensors as safetensors shards with their index; returns file name -> bytes.

    Each file is written as `*.partial`, mode 0644, and all of them are renamed together at the end.
    `fetch(name)` is called once per tensor, in the order of the files, for the announced shape and dtype, by
    a thread that stays one tensor ahead of the writing.

    Args:
      journal: takes note of each finished shard, on the disk by then; shards it knows are not written again.

    Raises:
      InputError: the disk is full (before the first byte where the system tells; nothing is kept).
    """
    shards = {name: _in_file_order(s) for name, s in plan_shards(infos, max_shard_bytes).items()}
    total = sum(info.nbytes for info in infos)
    todo = {name: s for name, s in shards.items() if not _finished(name, s, journal, progress)}
    check_space(dst, sum(info.nbytes for shard in todo.values() for info in shard))
    try:
        with room_on_disk(dst), ThreadPoolExecutor(1) as background:
            arrays = ahead(fetch, [info.name for shard in todo.values() for info in shard])
            waiting: list[Callable[[], object]] = []
            for name, shard in todo.items():
                sha256 = _write_file(dst / f"{name}.partial", shard, arrays, progress)
                if journal is not None:
                    # The disk catches up with one file while the next is made.
                    _wait(waiting)
                    waiting.append(background.submit(_note, dst, name, shard, sha256, journal).result)
            _wait(waiting)
            for stale in [*dst.glob("model-*-of-*.safetensors"), dst / SINGLE, dst / INDEX]:
                stale.unlink(missing_ok=True)
            if len(shards) > 1:
                _write_index(dst, shards, total)
            for name in shards:
                os.replace(dst / f"{name}.partial", dst / name)
    except BaseException:
        if journal is None:  # else the folder's owner decides what is kept
            for name in shards:
                (dst / f"{name}.partial").unlink(missing_ok=True)
        raise
    return {name: (dst / name).stat().st_size for name in shards}


def ahead(fetch: Callable[[str], np.ndarray], names: Iterable[str]) -> Iterator[np.ndarray]:
    """`fetch(name)` of each name in turn; a thread works on the next while the caller uses this one."""
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for name in names:
            # Asked for before the last one is handed over, so the two overlap; no third one is ever held.
            last, coming = coming, thread.submit(fetch, name)
            if last is not None:
                yield last.result()
            del last
        if coming is not None:
            yield coming.result()


def _finished(
    name: str, shard: Sequence[TensorInfo], journal: Journal | None, progress: Callable[[TensorInfo], None]
) -> bool:
    if journal is None or not journal.done(name):
        return False
    for info in shard:
        progress(info)
    return True


def _note(dst: Path, name: str, shard: Sequence[TensorInfo], sha256: str, journal: Journal) -> None:
    to_disk(dst / f"{name}.partial")
    journal.add(name, {f"{name}.partial": sha256}, [info.name for info in shard])


def to_disk(path: Path) -> None:
    """Returns when the file's bytes are on the disk; they no longer fill the page cache then."""
    with path.open("rb") as f:
        os.fsync(f.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _wait(waiting: list[Callable[[], object]]) -> None:
    while waiting:
        waiting.pop()()


def _in_file_order(infos: Iterable[TensorInfo]) -> list[TensorInfo]:
    return sorted(infos, key=lambda i: (_RANK[_NAMES[i.dtype]], i.name))


def _write_file(
    path: Path,
    infos: Sequence[TensorInfo],
    arrays: Iterator[np.ndarray],
    progress: Callable[[TensorInfo], None],
) -> str:
    # The library's own save wants every tensor of the file in memory at once, so the header (8 bytes of
    # length, JSON, spaces up to a multiple of 8) is written here, in the library's order, and the tensors
    # follow one by one.
    header: dict[str, Mapping] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for info in infos:
        end = offset + info.nbytes
        header[info.name] = {"dtype": _NAMES[info.dtype], "shape": info.shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as f:
        os.fchmod(f.fileno(), 0o644)

        def write(data: Any) -> None:
            f.write(data)
            digest.update(data)

        write(len(text).to_bytes(8, "little") + text)
        for info in infos:
            array = next(arrays)
            if array.shape != info.shape or array.dtype != info.dtype:
                raise ValueError(f"{info.name}: announced {info}, got {array.shape} {array.dtype}")
            # A view as bytes: bfloat16 is no buffer type of Python's own.
            write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            progress(info)
            del array  # or it would live on while the tensor after the next is made
    return digest.hexdigest()


def _write_index(dst: Path, shards: Mapping[str, Sequence[TensorInfo]], total: int) -> None:
    parameters = sum(math.prod(info.shape) for shard in shards.values() for info in shard)
    index = {
        "metadata": {"total_parameters": parameters, "total_size": total},
        "weight_map": dict(sorted((info.name, name) for name, shard in shards.items() for info in shard)),
    }
    write_json(dst / INDEX, index)


def write_json(path: Path, value: Mapping) -> None:
    """Writes JSON as transformers does (two spaces, a final newline), in one step, mode 0644."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.chmod(partial, 0o644)
    os.replace(partial, path)
