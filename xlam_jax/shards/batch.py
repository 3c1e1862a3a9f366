"""The batch every objective reads. NumPy on the host, jax arrays after the loader's last step.

Axes: A micro-batches of one step, B rows of a micro-batch, S positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

Array = Any  # numpy.ndarray or jax.Array; this module must not import jax


class Batch(NamedTuple):
    """Packed rows, `[B, S]` each (`[A, B, S]` when a step accumulates over A micro-batches).

    Attributes:
      tokens: int32 inputs, 0 where padded.
      targets: int32, already shifted: `targets[t]` is the token that follows `tokens[t]` in its document.
      loss_weights: float32 weight of predicting `targets[t]`; 0 on prompts and padding.
      segment_ids: int32, 1, 2, ... by document within the row, 0 on padding.
      positions: int32, from 0 in every document.
    """

    tokens: Array
    targets: Array
    loss_weights: Array
    segment_ids: Array
    positions: Array


DTYPES = Batch(np.int32, np.int32, np.float32, np.int32, np.int32)


class ForkBatch(NamedTuple):
    """Packed rows whose records share the beginnings of their prompts: the fields of `Batch`, and one more.

    `positions` count from 0 in every record, the shared beginning included; see `shards.forks`.

    Attributes:
      segment_ids: int32, 1, 2, ... by group of records within the row, 0 on padding.
      forks: int32, 0 for what a whole group shares (and padding), 1, 2, ... for the rest of each record.
    """

    tokens: Array
    targets: Array
    loss_weights: Array
    segment_ids: Array
    positions: Array
    forks: Array


FORK_DTYPES = ForkBatch(*DTYPES, np.int32)  # type: ignore[misc]


class PairBatch(NamedTuple):
    """Packed preference pairs: the fields of `Batch`, and two more, each `[B, S]`.

    A pair is one segment and lies in one row. `positions` are those of the answer's own document. Where the
    tokens that both answers begin with are there once, they come first; see `shards.preference`.

    Attributes:
      segment_ids: int32, 1, 2, ... by pair within the row, 0 on padding.
      branches: int32, what a position's target belongs to:
        0 both answers, computed once;
        1, 2 the chosen, the rejected answer (or the prompt's copy before it), the other has the same token;
        3, 4 the chosen, the rejected answer, from the first token on that differs.
      reference: float32, log-probability of `targets` under the reference; 0 where it is not known.
    """

    tokens: Array
    targets: Array
    loss_weights: Array
    segment_ids: Array
    positions: Array
    branches: Array
    reference: Array


PAIR_DTYPES = PairBatch(*DTYPES, np.int32, np.float32)  # type: ignore[misc]
AnyBatch = TypeVar("AnyBatch", Batch, ForkBatch, PairBatch)


def stack(rows: list[AnyBatch]) -> AnyBatch:
    """Rows of shape `[S]` -> one batch `[B, S]`."""
    return type(rows[0])(*(np.stack(column) for column in zip(*rows, strict=True)))
