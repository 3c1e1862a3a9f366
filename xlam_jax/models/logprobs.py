"""Log-probabilities of given tokens, in chunks: [B, S, V] never exists, forward or backward.

Unlike a cross-entropy, whose gradient is known but for one factor when its softmax is at hand, each position
here gets a cotangent of its own; so a chunk's logits are computed again in the backward pass.

Shape legend: B rows, N positions, C positions of a chunk, D hidden, V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def token_logprobs(
    hidden_BND: jax.Array, head_DV: jax.Array, targets_BN: jax.Array, chunk: int = 256
) -> jax.Array:
    """log softmax(hidden @ head)[target] of every position, float32 [B, N].

    Differentiable in `hidden_BND` and `head_DV`.

    Args:
      hidden_BND: hidden states after the final norm; products run in its dtype, the softmax in float32.
      targets_BN: int32 in [0, V).
      chunk: positions of each row per step; a step holds float32 [B, chunk, V].
    """
    B, N = targets_BN.shape
    size = min(chunk, N)
    pad = -N % size
    hidden = jnp.pad(hidden_BND, ((0, 0), (0, pad), (0, 0)))
    targets = jnp.pad(targets_BN, ((0, 0), (0, pad)))

    @jax.checkpoint
    def of_chunk(hidden_BCD: jax.Array, targets_BC: jax.Array) -> jax.Array:
        # The cast stands inside, so that the head's gradient is added up in the head's own dtype.
        head = head_DV.astype(hidden_BCD.dtype)
        # Two dimensions: the weight gradient of a three-dimensional product makes XLA transpose its operands.
        rows = hidden_BCD.reshape(-1, hidden_BCD.shape[-1])
        logits = jnp.matmul(rows, head, preferred_element_type=jnp.float32)
        of_target = jnp.take_along_axis(logits, targets_BC.reshape(-1, 1), axis=-1)[:, 0]
        return (of_target - jax.nn.logsumexp(logits, axis=-1)).reshape(targets_BC.shape)

    if size == N:
        return of_chunk(hidden, targets)
    parts = (_chunks(hidden, size), _chunks(targets, size))
    _, found = jax.lax.scan(lambda _, part: (None, of_chunk(*part)), None, parts)
    return found.swapaxes(0, 1).reshape(B, -1)[:, :N]


def _chunks(x: jax.Array, size: int) -> jax.Array:
    """[B, N, ...] -> [N / size, B, size, ...]."""
    return x.reshape(x.shape[0], -1, size, *x.shape[2:]).swapaxes(0, 1)
