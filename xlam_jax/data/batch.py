"""The batch every objective reads. NumPy on the host, jax arrays after the loader's last step.

Axes: A micro-batches of one step, B rows of a micro-batch, S positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


def stack(rows: list[Batch]) -> Batch:
    """Rows of shape `[S]` -> one batch `[B, S]`."""
    return Batch(*(np.stack(column) for column in zip(*rows, strict=True)))
