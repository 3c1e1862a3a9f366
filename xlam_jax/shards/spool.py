"""Tokenised documents on disk: memory holds 20 bytes a document, whatever their lengths."""

from __future__ import annotations

import contextlib
import os
from array import array
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import numpy as np

from xlam_jax.shards.pack import Document
from xlam_jax.shards.preference import PairDocument

AnyDocument = TypeVar("AnyDocument", Document, PairDocument)


class Spool(Generic[AnyDocument]):
    """Append documents, then read them in any order; the file vanishes on `close`.

    Layout of one document of n positions: its fields, int32 [n] each but float32 loss_weights, then its
    record id in UTF-8.

    Args:
      kind: the class of the documents, a NamedTuple of arrays.
    """

    def __init__(self, path: Path, kind: type[AnyDocument] = Document):
        self._kind = kind
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file: BinaryIO = path.open("w+b")
        self._complete = False
        self._offsets = array("q", [0])
        self.lengths = array("i")

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, doc: AnyDocument, record_id: str) -> None:
        """Appends one document."""
        name = record_id.encode("utf-8")
        for field, part in zip(doc._fields, doc, strict=True):
            self._file.write(np.ascontiguousarray(part, _dtype(field)).tobytes())
        self._file.write(name)
        self.lengths.append(len(doc.tokens))
        self._offsets.append(self._offsets[-1] + 4 * len(doc) * len(doc.tokens) + len(name))

    def __getitem__(self, i: int) -> tuple[AnyDocument, str]:
        """Document `i` and its record id; no document may be added afterwards."""
        if not self._complete:
            self._file.flush()
            self._complete = True
        start, end, n = self._offsets[i], self._offsets[i + 1], self.lengths[i]
        # Not a memory map: its pages would count as memory of this process, all of the file in the end.
        blob = os.pread(self._file.fileno(), end - start, start)
        fields = self._kind._fields
        arrays = (np.frombuffer(blob, _dtype(name), n, 4 * n * k) for k, name in enumerate(fields))
        return self._kind(*arrays), blob[4 * n * len(fields) :].decode("utf-8")

    def close(self) -> None:
        """Forgets everything."""
        with contextlib.suppress(OSError):  # a full disk: what is left to write is thrown away anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Spool[AnyDocument]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _dtype(field: str) -> type:
    return np.float32 if field == "loss_weights" else np.int32
