"""What a backend must know before it can say whether it does a kind of attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp


class Facts(NamedTuple):
    """Attention of a model: heads, widths, dtype of q, k and v, window, and the length of a row."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    seq_len: int
    dtype: Any = jnp.bfloat16
    window: int | None = None
    scale: float | None = None
