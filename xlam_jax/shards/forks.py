"""Records that ask about the same tools, packed so that what their prompts share is computed once.

Prompts carry the tools before the question, so questions on one list of tools begin alike, often for most of
their length. Such records become one segment of a row: the common beginning, then what is left of each record.
Every record sees the beginning and itself, at the positions it would have alone, so losses and gradients are those
of records that are packed one by one (a test holds this).

    tokens     p1 p2 p3 | q1 a1 a2 | q2 a3      (p common prompt, q the rest of a prompt, a an answer)
    targets    p2 p3 .  | a1 a2 .  | a3 .
    positions  0  1  2  | 3  4  5  | 3  4
    forks      0  0  0  | 1  1  1  | 2  2
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlam_jax.shards.batch import FORK_DTYPES, ForkBatch
from xlam_jax.shards.pack import Document


def group(documents: Sequence[Document], seq_len: int) -> list[list[int]]:
    """Which documents share their beginning: lists of indices, every index exactly once, in an order that the
    documents alone decide.

    A document joins where at least half of its prompt is common to the whole group, and as long as the group fits
    a row. Holds the prompts in memory, four bytes a token.
    """
    prompts = [_prompt(doc) for doc in documents]
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].astype(">i4").tobytes(), i))
    groups: list[list[int]] = []
    common = alone = 0  # positions that the last group shares, and those that it does not
    for i in order:
        length = len(documents[i].tokens)
        if groups:
            first = groups[-1][0]
            shared = min(common, _equal(prompts[first], prompts[i]))
            # What the group no longer shares stands once in each member.
            apart = alone + (common - shared) * len(groups[-1]) + length - shared
            half = 2 * shared >= max(len(prompts[i]), len(prompts[first]))
            if shared and half and shared + apart <= seq_len:
                groups[-1].append(i)
                common, alone = shared, apart
                continue
        groups.append([i])
        common, alone = len(prompts[i]), length - len(prompts[i])
    return groups


def common_prompt(documents: Sequence[Document]) -> int:
    """Positions at the beginning that all documents share and none is trained on; 0 for a single one."""
    if len(documents) == 1:
        return 0
    first, *others = map(_prompt, documents)
    return min(_equal(first, other) for other in others)


def length_of(documents: Sequence[Document]) -> int:
    """Positions that a group needs."""
    common = common_prompt(documents)
    return common + sum(len(doc.tokens) - common for doc in documents)


def fill_forks(groups: Sequence[Sequence[Document]], seq_len: int) -> ForkBatch:
    """One packed row, `[seq_len]` per field; group k is segment k + 1, its common beginning fork 0."""
    row = ForkBatch(*(np.zeros(seq_len, dtype) for dtype in FORK_DTYPES))
    at = 0
    for segment, documents in enumerate(groups, start=1):
        common, start = common_prompt(documents), at
        parts = [(documents[0], 0, common, 0)] if common else []
        parts += [(doc, common, len(doc.tokens), k) for k, doc in enumerate(documents, start=1)]
        for doc, begin, end, fork in parts:
            here, there = slice(at, at + end - begin), slice(begin, end)
            row.tokens[here], row.targets[here] = doc.tokens[there], doc.targets[there]
            row.loss_weights[here] = doc.loss_weights[there]
            row.positions[here] = np.arange(begin, end)
            row.forks[here] = fork
            at = here.stop
        row.segment_ids[start:at] = segment
    return row


def _prompt(doc: Document) -> np.ndarray:
    """The tokens before the first that predicts a trained one: it opens the document's own part."""
    return doc.tokens[: int(np.flatnonzero(doc.loss_weights)[0])]


def _equal(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
