"""Duplicates, exact and near, in one pass: memory is 1.4 kilobytes a kept row, whatever its length."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record

# 10 bands of 6: a pair of similarity 0.85 shares a band with probability 0.99.
PERMUTATIONS, BANDS, BAND_ROWS = 64, 10, 6
SHINGLE_WORDS = 3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fingerprint:
    """What the pass needs to know of a row.

    Attributes:
      exact: hash of the words of its query and calls.
      signature: MinHash of their shingles, uint32 [PERMUTATIONS]; None where near duplicates are no matter.
    """

    exact: int
    signature: np.ndarray | None = None


def texts_of(record: Record) -> tuple[str, str]:
    """What rows are compared by, as words in lower case: what the user said, and the calls."""
    said = [record.query, *(step.user_input for step in record.steps)]
    calls = [
        f"{call.name} {json.dumps(call.arguments, sort_keys=True, ensure_ascii=False)}"
        for step in record.steps
        for call in step.tool_calls
    ]
    return _words(said), _words(calls)


def _words(texts: list[str]) -> str:
    return " ".join(_WORD.findall(" ".join(texts).lower()))


def fingerprint(record: Record, near: bool) -> Fingerprint:
    """The fingerprint of a row; equal on every machine.

    Raises:
      InputError: near duplicates are asked for, and datasketch is not installed.
    """
    texts = texts_of(record)
    digest = hashlib.blake2b("\n".join(texts).encode(), digest_size=8).digest()
    return Fingerprint(int.from_bytes(digest, "big"), _signature(texts) if near else None)


def _signature(texts: tuple[str, str]) -> np.ndarray:
    # No shingle spans both texts: a word of thanks would else change three.
    shingles = {shingle for text in texts for shingle in _shingles(text.split(" "))}
    # A copy, because making the permutations anew costs more than all the rest.
    made = _empty_signature().copy()
    made.update_batch(shingles)
    return made.hashvalues.astype(np.uint32)


def _shingles(words: list[str]) -> Iterator[bytes]:
    for i in range(max(1, len(words) - SHINGLE_WORDS + 1)):
        yield " ".join(words[i : i + SHINGLE_WORDS]).encode()


@functools.cache
def _empty_signature() -> Any:
    try:
        from datasketch import MinHash
    except ImportError as e:
        hint = "pip install 'xlam-jax[data]', or rules.actions.near_duplicate=off"
        raise InputError("near duplicates need datasketch", where="near_duplicate", hint=hint) from e
    return MinHash(PERMUTATIONS, hashfunc=_hash32)


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")


@dataclass
class Seen:
    """The rows kept so far.

    datasketch's own index keeps sets of keys for each band, several kilobytes a row; here a band is one entry
    of a dictionary, and the signature tells whether a candidate is near.

    Attributes:
      threshold: estimated Jaccard similarity from which rows are near duplicates.
    """

    threshold: float
    _ids: list[str] = field(default_factory=list)
    _exact: dict[int, int] = field(default_factory=dict)
    _bands: dict[int, int] = field(default_factory=dict)
    _signatures: array = field(default_factory=lambda: array("I"))

    def check(self, row_id: str, print_: Fingerprint) -> tuple[str, str] | None:
        """`(code, id of the earlier row)` of a duplicate; None for a new row, which is then remembered."""
        if (first := self._exact.get(print_.exact)) is not None:
            return "duplicate", self._ids[first]
        signature = print_.signature
        keys = [] if signature is None else list(_band_keys(signature))
        for row in sorted({self._bands[key] for key in keys if key in self._bands}):
            other = np.frombuffer(self._signatures, np.uint32, PERMUTATIONS, 4 * PERMUTATIONS * row)
            similarity = float((other == signature).mean())
            del other  # a buffer in use cannot grow
            if similarity >= self.threshold:
                return "near_duplicate", f"{self._ids[row]} ({similarity:.2f})"
        row = len(self._ids)
        self._ids.append(row_id)
        self._exact[print_.exact] = row
        for key in keys:
            self._bands.setdefault(key, row)
        if signature is not None:
            self._signatures.frombytes(signature.tobytes())
        return None


def _band_keys(signature: np.ndarray) -> Iterable[int]:
    for band in range(BANDS):
        yield hash((band, signature[band * BAND_ROWS : (band + 1) * BAND_ROWS].tobytes()))
