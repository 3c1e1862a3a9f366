"""Duplicates, exact and near, in one pass: memory is about a kilobyte a kept row, whatever its length."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record

PERMUTATIONS, BANDS = 64, 8
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


def words_of(record: Record) -> list[str]:
    """The words a row is compared by: what the user said, then the calls, in lower case."""
    said = [record.query, *(step.user_input for step in record.steps)]
    calls = [
        f"{call.name} {json.dumps(call.arguments, sort_keys=True, ensure_ascii=False)}"
        for step in record.steps
        for call in step.tool_calls
    ]
    return _WORD.findall(" ".join([*said, *calls]).lower())


def fingerprint(record: Record, near: bool) -> Fingerprint:
    """The fingerprint of a row; equal on every machine.

    Raises:
      InputError: near duplicates are asked for, and datasketch is not installed.
    """
    words = words_of(record)
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
    return Fingerprint(int.from_bytes(digest, "big"), _signature(words) if near else None)


def _signature(words: list[str]) -> np.ndarray:
    runs = max(1, len(words) - SHINGLE_WORDS + 1)
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(runs)}
    # A copy, because making the permutations anew costs more than all the rest.
    made = _empty_signature().copy()
    made.update_batch(list(shingles))
    return made.hashvalues.astype(np.uint32)


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
    rows = PERMUTATIONS // BANDS
    for band in range(BANDS):
        yield hash((band, signature[band * rows : (band + 1) * rows].tobytes()))
