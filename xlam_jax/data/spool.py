"""Tokenised documents on disk: memory holds 20 bytes a document, whatever their lengths."""

from __future__ import annotations

import contextlib
import os
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xlam_jax.data.pack import Document


class Spool:
    """Append documents, then read them in any order; the file vanishes on `close`.

    Layout of one document of n positions: tokens int32 [n], targets int32 [n], loss_weights float32 [n],
    then its record id in UTF-8.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file: BinaryIO = path.open("w+b")
        self._complete = False
        self._offsets = array("q", [0])
        self.lengths = array("i")

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, doc: Document, record_id: str) -> None:
        """Appends one document."""
        name = record_id.encode("utf-8")
        for part in (doc.tokens, doc.targets, doc.loss_weights):
            self._file.write(np.ascontiguousarray(part).tobytes())
        self._file.write(name)
        self.lengths.append(len(doc.tokens))
        self._offsets.append(self._offsets[-1] + 12 * len(doc.tokens) + len(name))

    def __getitem__(self, i: int) -> tuple[Document, str]:
        """Document `i` and its record id; no document may be added afterwards."""
        if not self._complete:
            self._file.flush()
            self._complete = True
        start, end, n = self._offsets[i], self._offsets[i + 1], self.lengths[i]
        # Not a memory map: its pages would count as memory of this process, all of the file in the end.
        blob = os.pread(self._file.fileno(), end - start, start)
        tokens, targets = np.frombuffer(blob, np.int32, n), np.frombuffer(blob, np.int32, n, 4 * n)
        weights = np.frombuffer(blob, np.float32, n, 8 * n)
        return Document(tokens, targets, weights), blob[12 * n :].decode("utf-8")

    def close(self) -> None:
        """Forgets everything."""
        with contextlib.suppress(OSError):  # a full disk: what is left to write is thrown away anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
