"""Orbax parameter items, tensor by tensor: a reader and a writer that never hold a stacked array.

The writer makes the files that `orbax.checkpoint` makes with `use_ocdbt=False`: a zarr array per leaf, its
chunks plain files of C-ordered bytes. Every chunk is (a part of) one layer's, one expert's tensor, so a file
is written once, has the same name and bytes every time, and can be read alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from jax.sharding import Mesh

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params
from xlam_jax.models.spec import HfEntry, hf_entries, hf_to_param, leaves, param_to_hf
from xlam_jax.parallel.rules import ShardingRules
from xlam_jax.weights.checksums import SYNC_BYTES, Journal, WeightsDigest
from xlam_jax.weights.hf_in import Filler
from xlam_jax.weights.hf_out import check_params
from xlam_jax.weights.orbax_arrays import first_line, stored_arrays
from xlam_jax.weights.safetensors_io import TensorInfo, ahead, read_once, to_disk
from xlam_jax.weights.tensors import Tensors, check_finite, contiguous, copy_strips, leaf_dtypes

PARAMS = "params"
APART = "tensors_apart"  # an empty file
# A host that restores a shard of a matrix reads whole chunks, so they are kept small.
_CHUNK_BYTES = 32 * 2**20
_PIECE_BYTES = 4 * 2**20
_PIECE_ROWS = 64  # what copy_strips turns at once


class ItemTensors:
    """The tensors of an Orbax item under their Hugging Face names.

    Chunks that hold one tensor, or part of one, are read one by one. Where a chunk holds several (training
    checkpoints), the leaf is read once and kept, for reading its chunk again per tensor would take forever.

    Raises:
      InputError: not an Orbax item, or not the parameters of `cfg`.
    """

    def __init__(self, item: Path, cfg: ModelConfig):
        self._item = item.absolute()
        stored = stored_arrays(self._item)
        check_params(stored, cfg, where=str(self._item))
        self._entries = hf_entries(cfg)
        self._leaves: dict[str, Any] = {}
        self._lock = threading.Lock()  # two threads must not read the same leaf twice
        self._apart = is_apart(self._item)
        self.infos = {
            n: TensorInfo(n, e.shape, np.dtype(stored[e.path].dtype)) for n, e in self._entries.items()
        }

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out; matrices are transposed views."""
        entry = self._entries[name]
        if index is None and self._apart:
            with self._damage(name):
                return self._whole(entry, self.infos[name].dtype)
        cut = index or (slice(None),) * len(entry.shape)
        return param_to_hf(entry.spec, self.part(name, cut[::-1] if _transposed(entry) else cut))

    def part(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """The part of a tensor, in our orientation, that `index` cuts out."""
        entry = self._entries[name]
        with self._damage(name):
            if self._apart:
                return self._part_of_files(entry, self.infos[name].dtype, index)
            found = self._leaf(entry)[(*entry.index, *index)]
            return found.read().result() if isinstance(found, ts.TensorStore) else found

    def path_of(self, name: str) -> str:
        """The folder or, inside a database, the item that holds a tensor."""
        folder = self._item / self._entries[name].path
        return str(folder if folder.is_dir() else self._item)

    @contextmanager
    def _damage(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as e:  # what numpy and tensorstore raise for files damaged or missing
            raise InputError(
                f"the parameters are damaged: {first_line(e)}",
                where=self.path_of(name),
                hint="take another checkpoint",
            ) from e

    def _whole(self, entry: HfEntry, dtype: np.dtype) -> np.ndarray:
        found = np.empty(entry.shape, dtype)
        ours, rows = hf_to_param(entry.spec, found), self._rows(entry)
        turned = not ours.flags.c_contiguous
        row_bytes = math.prod(ours.shape[1:]) * dtype.itemsize
        # What is to be turned is read in pieces: two small buffers instead of two chunks.
        most = max(_PIECE_BYTES // row_bytes // _PIECE_ROWS, 1) * _PIECE_ROWS if turned else rows
        two = np.empty((2, min(most, rows), *ours.shape[1:]), dtype) if turned else None
        starts = [(i, start) for i in range(ours.shape[0] // rows) for start in range(0, rows, most)]

        def read(at: int) -> np.ndarray:
            i, start = starts[at]
            count = min(most, rows - start)
            piece = ours[i * rows : (i + 1) * rows] if two is None else two[at % 2][:count]
            read_once(self._item / entry.path / _chunk_key(entry, i), piece, start * row_bytes)
            return piece

        # The disk reads a piece while the last one is turned.
        for (i, start), piece in zip(starts, ahead(read, range(len(starts))), strict=True):
            if turned:
                copy_strips(ours[i * rows + start :][: len(piece)], piece)
        return found

    def _part_of_files(self, entry: HfEntry, dtype: np.dtype, index: tuple[slice, ...]) -> np.ndarray:
        # Mapping the chunks costs no copy, which tensorstore needs two of.
        shape = entry.shape[::-1] if _transposed(entry) else entry.shape
        rows, parts = self._rows(entry), []
        first, end, _ = index[0].indices(shape[0])
        for i in range(first // rows, -(-end // rows)):
            file = self._item / entry.path / _chunk_key(entry, i)
            chunk = np.memmap(file, np.uint8, "r").view(dtype).reshape(rows, *shape[1:])
            inside = slice(max(first - i * rows, 0), min(end - i * rows, rows))
            parts.append(chunk[(inside, *index[1:])])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _rows(self, entry: HfEntry) -> int:
        if entry.path not in self._leaves:
            about = json.loads((self._item / entry.path / ".zarray").read_text())
            self._leaves[entry.path] = about["chunks"][len(entry.index)]
        return self._leaves[entry.path]

    def _leaf(self, entry: HfEntry) -> Any:
        with self._lock:
            return self._read_leaf(entry)

    def _read_leaf(self, entry: HfEntry) -> Any:
        if entry.path not in self._leaves:
            store = ts.open(_spec(self._item, entry.path), open=True, read=True).result()
            chunk = store.chunk_layout.read_chunk.shape or store.shape
            leading = math.prod(n or 1 for n in chunk[: len(entry.index)])
            self._leaves[entry.path] = store if leading <= 1 else store.read().result()
        return self._leaves[entry.path]


def _transposed(entry: HfEntry) -> bool:
    return entry.spec.transform == "transpose"


def _spec(item: Path, leaf: str) -> dict[str, Any]:
    about = json.loads((item / "_METADATA").read_text())
    store: dict[str, Any] = {"driver": "file", "path": f"{item / leaf}/"}
    if (item / "manifest.ocdbt").is_file():
        store = {"driver": "ocdbt", "base": f"file://{item}/", "path": f"{leaf}/"}
    driver = "zarr3" if about.get("use_zarr3") else "zarr"
    # A chunk that is missing is damage, not zeros.
    return {"driver": driver, "kvstore": store, "fill_missing_data_reads": False}


def is_apart(item: Path) -> bool:
    """True for an item of `write_item`, whose chunks hold no more than one tensor."""
    return (item / APART).is_file()


def load_item(
    item: Path, cfg: ModelConfig, *, dtype: Any, mesh: Mesh | None, rules: ShardingRules | None
) -> Params:
    """Placed parameters of an item whose tensors lie apart; arguments and errors as in `load_params_item`."""
    tensors = ItemTensors(item, cfg)
    dtypes = leaf_dtypes(tensors, cfg, None if dtype is None else np.dtype(dtype))
    filler = Filler(cfg, dtypes, mesh, rules)
    for name, entry in hf_entries(cfg).items():

        def read(index: tuple[slice, ...], name: str = name, path: str = entry.path) -> np.ndarray:
            return np.array(tensors.part(name, index), dtypes[path])  # a copy: arrays must outlive the files

        filler.fill(entry, read)
    return filler.params()


def write_item(
    folder: Path,
    tensors: Tensors,
    cfg: ModelConfig,
    dtypes: Mapping[str, np.dtype],
    journal: Journal,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> dict[str, int]:
    """Writes `folder`/params, a few tensors in memory; returns file name -> bytes.

    Args:
      dtypes: dotted path -> dtype of the stacked array.
      journal: takes note of each tensor; those it knows are not written again.
    """
    entries, specs = hf_entries(cfg), leaves(cfg)
    _write_metadata(folder / PARAMS, {path: s.shape for path, s in specs.items()}, dtypes, entries)
    todo = dict.fromkeys(sorted(entries, key=lambda n: (tensors.path_of(n), n)))
    for name in journal.done(list(todo)):
        del todo[name]
        progress(name, tensors.infos[name].nbytes)

    def fetch(name: str) -> np.ndarray:
        found, dtype = tensors.get(name), dtypes[entries[name].path]
        if journal.origin and found.dtype != dtype:
            journal.origin.seen.add(name, contiguous(found, found.dtype))
        return check_finite(name, contiguous(found, dtype))

    def note(name: str, files: Mapping[str, str]) -> None:
        for file in files:
            if (folder / file).stat().st_size >= SYNC_BYTES:
                to_disk(folder / file)
        journal.add(name, files, [name])

    # The disk catches up with one tensor while the next is made.
    with ThreadPoolExecutor(3) as background:
        waiting = background.submit(int)
        arrays = ahead(fetch, todo)
        for name in todo:
            # Nothing here names the array, or it would live on while another is made.
            files = _write_tensor(folder, name, entries[name], next(arrays), journal.digest, background)
            waiting.result()
            waiting = background.submit(note, name, files)
            progress(name, tensors.infos[name].nbytes)
        waiting.result()
    found = sorted(p for p in (folder / PARAMS).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.stat().st_size for p in found}


def _write_tensor(
    folder: Path, name: str, entry: HfEntry, array: np.ndarray, tensors: WeightsDigest, background: Executor
) -> dict[str, str]:
    digested = background.submit(tensors.add, name, array)
    ours = hf_to_param(entry.spec, array)
    rows = _chunk_rows(ours.shape, ours.dtype)
    files: dict[str, Future[str]] = {}
    for i, start in enumerate(range(0, ours.shape[0], rows)):
        part = contiguous(ours[start : start + rows], ours.dtype)
        file = f"{PARAMS}/{entry.path}/{_chunk_key(entry, i)}"
        data = part.reshape(-1).view(np.uint8).data
        for earlier in files.values():
            earlier.result()  # so that no more than two chunks are held
        files[file] = background.submit(_sha256, data)
        (folder / file).write_bytes(data)
    digested.result()
    return {file: digest.result() for file, digest in files.items()}


def _sha256(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _chunk_key(entry: HfEntry, chunk: int) -> str:
    return ".".join(map(str, (*entry.index, chunk, *(0,) * (len(entry.shape) - 1))))


def _chunk_rows(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Rows of a chunk: the largest part of all rows that divides them and fits; all when none does."""
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    if shape[0] * row_bytes <= _CHUNK_BYTES:
        return shape[0]
    fitting = (r for r in range(_CHUNK_BYTES // row_bytes, 0, -1) if shape[0] % r == 0)
    found = next(fitting, shape[0])
    # A height that is prime leaves only single rows; a million files serve nobody.
    return found if found * row_bytes * 16 >= _CHUNK_BYTES else shape[0]


def _write_metadata(
    item: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, np.dtype],
    entries: Mapping[str, HfEntry],
) -> None:
    leading = {e.path: len(e.index) for e in entries.values()}
    tree, arrays = {}, []
    for path, shape in shapes.items():
        count, dtype = leading[path], dtypes[path]
        inner = shape[count:]
        chunk = (*(1,) * count, _chunk_rows(inner, dtype), *inner[1:])
        tree[str((path,))] = {
            "key_metadata": [{"key": path, "key_type": 2}],
            "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False, "write_shape": shape},
        }
        about = {"param_name": path, "write_shape": shape, "chunk_shape": chunk, "ext_metadata": None}
        arrays.append({"array_metadata": about})
        zarray = {
            "chunks": chunk,
            "compressor": None,
            "dimension_separator": ".",
            "dtype": "bfloat16" if dtype.name == "bfloat16" else dtype.str,
            "fill_value": None,
            "filters": None,
            "order": "C",
            "shape": shape,
            "zarr_format": 2,
        }
        (item / path).mkdir(parents=True, exist_ok=True)
        (item / path / ".zarray").write_text(json.dumps(zarray))
    metadata = {
        "tree_metadata": tree,
        "use_ocdbt": False,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    (item / "_METADATA").write_text(json.dumps(metadata))
    # Orbax warns where it is missing. No times: the same weights are the same bytes.
    step = {"item_handlers": None, "metrics": {}, "performance_metrics": {}, "init_timestamp_nsecs": None}
    step |= {"commit_timestamp_nsecs": None, "custom_metadata": {}}
    (item / "_CHECKPOINT_METADATA").write_text(json.dumps(step))
    (item / APART).touch()
    (item / "array_metadatas").mkdir(exist_ok=True)
    (item / "array_metadatas" / "process_0").write_text(json.dumps({"array_metadatas": arrays}))
