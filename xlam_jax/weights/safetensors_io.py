"""Safetensors folders, one tensor at a time: neither reader nor writer ever holds a shard in memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import safetensors

from xlam_jax.errors import InputError
from xlam_jax.files import check_space, room_on_disk, write_json
from xlam_jax.weights.checksums import Journal, WeightsDigest

T = TypeVar("T")

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# A disk that is told earlier writes less at a time; told later, the page cache fills.
_SYNC_BYTES = 2**24
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

    The library checks each file and its header once; bytes are read from where the header places them,
    because the library holds Python's lock while it copies a tensor, and nothing else would run meanwhile.

    Raises:
      InputError: no safetensors here, an unreadable index, a missing, truncated or corrupt shard, a tensor
        that holds no floats.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.infos: dict[str, TensorInfo] = {}
        self._file_of: dict[str, str] = {}
        self._start_of: dict[str, int] = {}  # byte of its file
        self.shard_bytes: dict[str, int] = {}
        self.bytes_read = 0  # of tensors, so far
        listed = listed_files(self.folder)
        for name in sorted(set(listed.values())) or [SINGLE]:
            self._read_header(name)
        for tensor, name in listed.items():
            if self._file_of.get(tensor) != name:
                raise InputError(
                    f"the index places {tensor!r} in {name}, which does not hold it",
                    where=str(self.folder / INDEX),
                    hint="fetch the folder again: index and shards are of different checkpoints",
                )

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out (only the pages that hold it are read)."""
        info, start = self.infos[name], self._start_of[name]
        path = self.folder / self._file_of[name]
        try:
            if index is None:
                array = np.empty(info.shape, info.dtype)
                read_once(path, array, start)
            else:
                mapped = np.memmap(path, np.uint8, "r", start, (info.nbytes,))
                array = np.array(mapped.view(info.dtype).reshape(info.shape)[index])
        except (OSError, ValueError) as e:  # the file was cut or taken away since it was opened
            raise InputError(f"tensor {name!r} cannot be read: {e}", where=str(path)) from e
        self.bytes_read += array.nbytes
        return array

    def path_of(self, name: str) -> str:
        """The file that holds the tensor."""
        return str(self.folder / self._file_of[name])

    def _read_header(self, file: str) -> None:
        path = self.folder / file
        _check(path)
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length))
        header.pop("__metadata__", None)
        for name, about in header.items():
            if about["dtype"] not in _DTYPES:
                raise InputError(
                    f"tensor {name!r} has type {about['dtype']}; only {', '.join(_DTYPES)} are read",
                    where=str(path),
                    hint="take the checkpoint before quantisation",
                )
            if name in self.infos:
                raise InputError(
                    f"tensor {name!r} stands in two files, {self._file_of[name]} and {file}",
                    where=str(self.folder),
                    hint="readers differ in which one they take: remove the shard that is not of this model",
                )
            self.infos[name] = TensorInfo(name, tuple(about["shape"]), _DTYPES[about["dtype"]])
            self._file_of[name] = file
            self._start_of[name] = 8 + length + about["data_offsets"][0]
        self.shard_bytes[file] = path.stat().st_size


def listed_files(folder: Path) -> dict[str, str]:
    """Tensor name -> file of the index; {} for a folder with a single file."""
    index = folder / INDEX
    if index.is_file():
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            if not all(isinstance(f, str) and Path(f).name == f for f in listed.values()) or not listed:
                raise ValueError("weight_map does not map tensor names to file names of this folder")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise InputError(f"not a safetensors index: {e}", where=str(index)) from e
        if (folder / SINGLE).is_file() and SINGLE not in listed.values():
            raise InputError(
                f"the folder holds {SINGLE} and {INDEX}, which does not name it",
                where=str(folder),
                hint="transformers reads the former, vLLM the latter: remove the one that is stale",
            )
        return listed
    if (folder / SINGLE).is_file():
        return {}
    hint = "a folder with model.safetensors, or with model.safetensors.index.json and its shards"
    if (folder / "adapter_model.safetensors").is_file():
        hint = "this is a LoRA adapter: merge it into its base model first"
    elif shards := sorted(folder.glob("*.safetensors")):
        raise InputError(
            f"{len(shards)} safetensors files and no {INDEX} that says which tensors they must hold",
            where=str(folder),
            hint="fetch the index too; a model in a single file is called " + SINGLE,
        )
    elif list(folder.glob("*.bin")) or list(folder.glob("*.pth")):
        hint = "these are torch pickles: save them once with save_pretrained(..., safe_serialization=True)"
    raise InputError("no safetensors weights found", where=str(folder), hint=hint)


def _check(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"shard {path.name} is named by the index but missing", where=str(path), hint="fetch it again"
        )
    try:
        with safetensors.safe_open(path, framework="np"):
            pass
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
        except (ValueError, KeyError, TypeError, RecursionError):
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
    two threads that stay ahead of the writing.

    Args:
      journal: digests each tensor and takes note of each finished shard, on the disk by then; shards it
        knows are not written again.

    Raises:
      InputError: the disk is full (before the first byte where the system tells; nothing is kept).
    """
    shards = {name: _in_file_order(s) for name, s in plan_shards(infos, max_shard_bytes).items()}
    total = sum(info.nbytes for info in infos)
    todo = dict(shards)
    for name in journal.done(shards) if journal is not None else ():
        for info in todo.pop(name):
            progress(info)
    check_space(dst, sum(info.nbytes for shard in todo.values() for info in shard))
    try:
        with room_on_disk(dst), ThreadPoolExecutor(3) as background:
            names = [info.name for shard in todo.values() for info in shard]
            arrays = ahead(fetch, names, threads=2)
            for name, shard in todo.items():
                digest = None if journal is None else journal.digest
                sha256 = _write_file(dst / f"{name}.partial", shard, arrays, digest, progress, background)
                if journal is not None:
                    journal.add(name, {f"{name}.partial": sha256}, [info.name for info in shard])
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


def ahead(fetch: Callable[[T], np.ndarray], names: Iterable[T], threads: int = 1) -> Iterator[np.ndarray]:
    """`fetch(name)` of each name in turn; threads work on the next ones while the caller uses this one."""
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[np.ndarray]] = deque()
        for name in names:
            # Asked for before the oldest is handed over, so they overlap; no more than these are ever held.
            coming.append(pool.submit(fetch, name))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def to_disk(path: Path) -> None:
    """Returns when the file's bytes are on the disk; they no longer fill the page cache then."""
    with path.open("rb") as f:
        os.fsync(f.fileno())
        _forget(f, 0, 0)


def read_once(path: Path, array: np.ndarray, start: int = 0) -> None:
    """Fills a C-contiguous array with the file's bytes from `start` on, which leave the page cache then.

    A cache full of pages that nobody reads again costs a conversion more time than its reading does.

    Raises:
      OSError: no such file.
      ValueError: it ends before the array is full.
    """
    into = array.reshape(-1).view(np.uint8).data
    with path.open("rb", buffering=0) as f:
        f.seek(start)
        done = 0
        while done < len(into):  # a call reads 2 GB at most
            count = f.readinto(into[done:])
            if not count:
                raise ValueError(f"{path.name} ends after {start + done} bytes")
            done += count
        _forget(f, start, len(into))


def _forget(file: Any, start: int, nbytes: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, nbytes, os.POSIX_FADV_DONTNEED)


def _in_file_order(infos: Iterable[TensorInfo]) -> list[TensorInfo]:
    return sorted(infos, key=lambda i: (_RANK[_NAMES[i.dtype]], i.name))


def _write_file(
    path: Path,
    infos: Sequence[TensorInfo],
    arrays: Iterator[np.ndarray],
    tensors: WeightsDigest | None,
    progress: Callable[[TensorInfo], None],
    background: Executor,
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

        waiting, ahead_of_disk = background.submit(int), 0
        head = len(text).to_bytes(8, "little") + text
        digest.update(head)
        f.write(head)
        for info in infos:
            array = next(arrays)
            if array.shape != info.shape or array.dtype != info.dtype:
                raise ValueError(f"{info.name}: announced {info}, got {array.shape} {array.dtype}")
            array = np.ascontiguousarray(array)
            # A view as bytes: bfloat16 is no buffer type of Python's own.
            data = array.reshape(-1).view(np.uint8).data
            hashed = [background.submit(digest.update, data)]
            if tensors is not None:
                hashed.append(background.submit(tensors.add, info.name, array))
            f.write(data)
            for each in hashed:
                each.result()
            progress(info)
            del array, data  # or they would live on while the tensor after the next is made
            ahead_of_disk += info.nbytes
            if ahead_of_disk >= _SYNC_BYTES:  # the disk catches up while the next tensor is made
                waiting.result()
                waiting, ahead_of_disk = background.submit(to_disk, path), 0
        waiting.result()
    to_disk(path)
    return digest.hexdigest()


def _write_index(dst: Path, shards: Mapping[str, Sequence[TensorInfo]], total: int) -> None:
    parameters = sum(math.prod(info.shape) for shard in shards.values() for info in shard)
    index = {
        "metadata": {"total_parameters": parameters, "total_size": total},
        "weight_map": dict(sorted((info.name, name) for name, shard in shards.items() for info in shard)),
    }
    write_json(dst / INDEX, index)
