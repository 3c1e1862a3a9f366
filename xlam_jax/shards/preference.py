"""Preference pairs as packed rows.

Both answers are tokenised with their prompt, each in one piece, so a seam cannot differ from what the model
sees when it serves. Two layouts, of equal losses and gradients:

`separate` writes both documents, one after the other; every attention backend computes it.

`shared` writes the tokens that both documents begin with (the prompt, and the answer until it differs) once,
then what follows of the chosen and of the rejected one. Each sees the beginning and not the other, so the
prompt is computed once. The last common token predicts two different next ones; it opens both branches.

    tokens     p1 p2 p3 a1 | a2 c1 c2 | a2 r1      (p prompt, a both answers, c chosen, r rejected)
    targets    p2 p3 a1 a2 | c1 c2 .  | r1 .
    positions  0  1  2  3  | 4  5  6  | 4  5
    branches   0  0  0  0  | 3  3  3  | 4  4

A pair that is refused raises an `EncodeError`; codes beside those of `shards.tokenize`:

| code | meaning |
|---|---|
| `prompt_differs` | the answers do not stand after the same tokens |
| `no_difference` | no token of the answers differs: nothing can be learned from it |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from xlam_jax.shards.batch import PAIR_DTYPES, PairBatch
from xlam_jax.shards.tokenize import Encoded, EncodeError, one_row_per_turn

PairLayout = Literal["separate", "shared"]
BOTH, CHOSEN_SAME, REJECTED_SAME, CHOSEN, REJECTED = range(5)


class PairDocument(NamedTuple):
    """Shifted inputs and targets of one pair, `[n]` each; see `PairBatch`."""

    tokens: np.ndarray
    targets: np.ndarray
    loss_weights: np.ndarray
    positions: np.ndarray
    branches: np.ndarray


def pair_document(
    chosen: Encoded,
    rejected: Encoded,
    layout: PairLayout = "separate",
    *,
    max_len: int | None = None,
    where: str = "",
) -> PairDocument:
    """One pair; only the last assistant turn of each side has weight, end token included.

    Args:
      chosen, rejected: each with its prompt.
      max_len: positions of a row; None for no limit.
      where: names the pair in an error.

    Raises:
      EncodeError: `prompt_differs`, `no_difference`, or `too_long` when more than `max_len` positions are
        needed (nothing is ever cut).
    """
    # What the model said in earlier turns is prompt to both.
    chosen, rejected = one_row_per_turn(chosen)[-1], one_row_per_turn(rejected)[-1]
    prompt = int(np.flatnonzero(chosen.weights)[0])
    if prompt != np.flatnonzero(rejected.weights)[0] or not np.array_equal(
        chosen.ids[:prompt], rejected.ids[:prompt]
    ):
        raise EncodeError("prompt_differs", "the two answers follow different prompts", where=where)
    shorter = min(len(chosen.ids), len(rejected.ids))
    different = np.flatnonzero(chosen.ids[:shorter] != rejected.ids[:shorter])
    if not len(different):
        raise EncodeError("no_difference", "no token of the two answers differs", where=where)
    fork = int(different[0])  # index of the first differing token, at least `prompt`
    ends = [_part(chosen, fork - 1, None, CHOSEN), _part(rejected, fork - 1, None, REJECTED)]
    if layout == "shared":
        parts = [_part(chosen, 0, fork - 1, BOTH), *ends]
    else:
        begins = [_part(chosen, 0, fork - 1, CHOSEN_SAME), _part(rejected, 0, fork - 1, REJECTED_SAME)]
        parts = [begins[0], ends[0], begins[1], ends[1]]
    made = PairDocument(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    if max_len is not None and len(made.tokens) > max_len:
        raise EncodeError(
            "too_long",
            f"the pair needs {len(made.tokens)} positions, a row has {max_len}",
            where=where,
            hint="raise seq_len" + ("" if layout == "shared" else ", or set layout: shared"),
        )
    return made


def _part(encoded: Encoded, start: int, stop: int | None, branch: int) -> PairDocument:
    """Inputs [start, stop) of a document, with the targets one later."""
    stop = len(encoded.ids) - 1 if stop is None else stop
    positions = np.arange(start, stop, dtype=np.int32)
    return PairDocument(
        encoded.ids[start:stop],
        encoded.ids[start + 1 : stop + 1],
        encoded.weights[start + 1 : stop + 1],
        positions,
        np.full_like(positions, branch),
    )


def fill_pairs(documents: Sequence[PairDocument], seq_len: int) -> PairBatch:
    """One packed row, `[seq_len]` per field; pair k is segment k + 1. The reference is not known yet (0)."""
    row = PairBatch(*(np.zeros(seq_len, dtype) for dtype in PAIR_DTYPES))
    at = 0
    for segment, doc in enumerate(documents, start=1):
        here = slice(at, at + len(doc.tokens))
        for name, values in doc._asdict().items():
            getattr(row, name)[here] = values
        row.segment_ids[here] = segment
        at = here.stop
    return row


def describe_row(row: PairBatch) -> dict[str, int]:
    """Counts of one row: `common` positions that both answers need (prompt and equal beginnings), `repeated`
    ones among those that are there twice, `answer_common` target tokens before the answers differ."""
    shared, copied = row.branches == BOTH, row.branches == CHOSEN_SAME
    real = row.segment_ids > 0
    common = (shared | copied) & real
    return {
        "common": int(common.sum()),
        "repeated": int(copied.sum()),
        "answer_common": int((common & (row.loss_weights > 0)).sum()),
    }
