"""Documents -> rows of `seq_len`, deterministically and without ever cutting one.

Best fit decreasing: documents are shuffled with the seed, sorted by length (stable, so the shuffle orders
equal lengths), and each goes into the fullest row that still has room. The rows then get a seeded order of
their own, because the packing leaves the long documents in front.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.shards.batch import DTYPES, Batch
from xlam_jax.shards.tokenize import Encoded


class Document(NamedTuple):
    """Shifted inputs and targets of one record, `[n]` each; ends at its last trained target."""

    tokens: np.ndarray
    targets: np.ndarray
    loss_weights: np.ndarray


def document(encoded: Encoded) -> Document:
    """Shifts by one, and drops what follows the last trained token: it would cost and teach nothing."""
    n = int(np.flatnonzero(encoded.weights)[-1])
    return Document(encoded.ids[:n], encoded.ids[1 : n + 1], encoded.weights[1 : n + 1])


def plan(lengths: Sequence[int] | np.ndarray, seq_len: int, seed: int) -> list[list[int]]:
    """Which documents share a row: lists of indices into `lengths`, every index exactly once.

    Raises:
      InputError: a length above `seq_len`.
    """
    if len(lengths) and max(lengths) > seq_len:
        raise InputError(f"a document of {max(lengths)} positions does not fit rows of {seq_len}")
    rng = np.random.default_rng([seed, 0])
    order = rng.permutation(len(lengths))
    order = order[np.argsort(-np.asarray(lengths, np.int64)[order], kind="stable")]

    rows: list[list[int]] = []
    rooms: list[int] = []  # the distinct free sizes, ascending
    by_room: dict[int, deque[int]] = {}  # free size -> rows, oldest first
    for i in order:
        need = int(lengths[i])
        at = bisect.bisect_left(rooms, need)
        if at == len(rooms):
            row, room = len(rows), seq_len
            rows.append([])
        else:
            room = rooms[at]
            row = by_room[room].popleft()
            if not by_room[room]:
                del by_room[room], rooms[at]
        rows[row].append(int(i))
        left = room - need
        if left:
            if left not in by_room:
                bisect.insort(rooms, left)
            by_room.setdefault(left, deque()).append(row)
    return [rows[k] for k in np.random.default_rng([seed, 1]).permutation(len(rows))]


def fill(documents: Sequence[Document], seq_len: int) -> Batch:
    """One packed row, `[seq_len]` per field: segment ids count from 1, positions restart, 0 is padding."""
    row = Batch(*(np.zeros(seq_len, dtype) for dtype in DTYPES))
    at = 0
    for segment, doc in enumerate(documents, start=1):
        here = slice(at, at + len(doc.tokens))
        row.tokens[here], row.targets[here] = doc.tokens, doc.targets
        row.loss_weights[here] = doc.loss_weights
        row.segment_ids[here] = segment
        row.positions[here] = np.arange(len(doc.tokens))
        at = here.stop
    return row
