"""The tensors of a training checkpoint, one by one, for conversions that never hold a model."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import HfEntry, hf_entries, param_to_hf
from xlam_jax.weights.hf_out import check_params
from xlam_jax.weights.orbax_arrays import first_line, stored_arrays
from xlam_jax.weights.safetensors_io import TensorInfo

PARAMS = "params"


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
        self.infos = {
            n: TensorInfo(n, e.shape, np.dtype(stored[e.path].dtype)) for n, e in self._entries.items()
        }

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out; matrices are transposed views."""
        entry = self._entries[name]
        cut = index or (slice(None),) * len(entry.shape)
        ours = (*entry.index, *(cut[::-1] if entry.spec.transform == "transpose" else cut))
        with self._damage(name):
            leaf = self._leaf(entry)[ours]
            leaf = leaf.read().result() if isinstance(leaf, ts.TensorStore) else leaf
        return param_to_hf(entry.spec, leaf)

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


def _spec(item: Path, leaf: str) -> dict[str, Any]:
    about = json.loads((item / "_METADATA").read_text())
    store: dict[str, Any] = {"driver": "file", "path": f"{item / leaf}/"}
    if (item / "manifest.ocdbt").is_file():
        store = {"driver": "ocdbt", "base": f"file://{item}/", "path": f"{leaf}/"}
    driver = "zarr3" if about.get("use_zarr3") else "zarr"
    # A chunk that is missing is damage, not zeros.
    return {"driver": driver, "kvstore": store, "fill_missing_data_reads": False}
