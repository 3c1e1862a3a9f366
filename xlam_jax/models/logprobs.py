"""Log-probabilities of given tokens, in chunks: [B, S, V] never exists, forward or backward.

Unlike a cross-entropy, whose gradient is known but for one factor when its softmax is at hand, each position
here gets a cotangent of its own; so a chunk's logits are computed again in the backward pass.

Shape legend: B rows, N positions, C positions of a chunk, D hidden, V vocabulary.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from xlam_jax.parallel.embedding import Split, split_of
from xlam_jax.parallel.exchange.shards import vary
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules


def token_logprobs(
    hidden_BND: jax.Array,
    head_DV: jax.Array,
    targets_BN: jax.Array,
    chunk: int = 256,
    rules: ShardingRules = DEFAULT_RULES,
) -> jax.Array:
    """log softmax(hidden @ head)[target] of every position, float32 [B, N].

    Differentiable in `hidden_BND` and `head_DV`. On a mesh every device works on its own positions with the
    whole head, or with its part of a split vocabulary; the head is gathered once, not once a chunk.

    Args:
      hidden_BND: hidden states after the final norm; products run in its dtype, the softmax in float32.
      targets_BN: int32 in [0, V).
      chunk: positions of each row per step; a step holds float32 [B, chunk, V].
      rules: how arrays are split over the mesh of `jax.set_mesh`; what does not divide is left to the compiler.
    """
    split = split_of(head_DV.shape[::-1], targets_BN.shape, rules)
    if split is None:
        return _logprobs(hidden_BND, head_DV.T, targets_BN, chunk, Split(None, (), (), (), ()))
    tokens = P(split.rows, split.length)
    return jax.shard_map(
        functools.partial(_logprobs, chunk=chunk, split=split),
        mesh=split.mesh,
        in_specs=(P(split.rows, split.length, None), P(split.vocab, split.width), tokens),
        out_specs=tokens,
    )(hidden_BND, head_DV.T, targets_BN)


def _logprobs(
    hidden_BND: jax.Array, head_VD: jax.Array, targets_BN: jax.Array, chunk: int, split: Split
) -> jax.Array:
    B, N = targets_BN.shape
    size = min(chunk, N)
    pad = -N % size
    first = 0
    if split.mesh:
        # Here, so that the sums over devices which the gradients need stand outside the loop.
        hidden_BND, head_VD = vary(hidden_BND, split.vocab), vary(head_VD, split.others)
    if split.width:
        head_VD = jax.lax.all_gather(head_VD, split.width, axis=1, tiled=True)
    if split.vocab:
        first = jax.lax.axis_index(split.vocab) * head_VD.shape[0]
    hidden = jnp.pad(hidden_BND, ((0, 0), (0, pad), (0, 0)))
    targets = jnp.pad(targets_BN, ((0, 0), (0, pad)))

    @jax.checkpoint
    def of_chunk(hidden_BCD: jax.Array, targets_BC: jax.Array) -> jax.Array:
        # The cast stands inside, so that the head's gradient is added up in the head's own dtype.
        head = head_VD.astype(hidden_BCD.dtype)
        # Two dimensions: the weight gradient of a three-dimensional product makes XLA transpose its operands.
        rows = hidden_BCD.reshape(-1, hidden_BCD.shape[-1])
        logits = jnp.einsum("rd,vd->rv", rows, head, preferred_element_type=jnp.float32)
        targets_R = targets_BC.reshape(-1) - first
        of_target = jnp.take_along_axis(logits, targets_R[:, None], axis=-1, mode="clip")[:, 0]
        largest = jax.lax.stop_gradient(logits).max(axis=-1)
        if not split.vocab:
            total = jnp.exp(logits - largest[:, None]).sum(axis=-1)
        else:
            largest = jax.lax.pmax(largest, split.vocab)
            here = (targets_R >= 0) & (targets_R < head.shape[0])
            of_target = jax.lax.psum(jnp.where(here, of_target, 0.0), split.vocab)
            total = jax.lax.psum(jnp.exp(logits - largest[:, None]).sum(axis=-1), split.vocab)
        return (of_target - largest - jnp.log(total)).reshape(targets_BC.shape)

    if size == N:
        return of_chunk(hidden, targets)
    parts = (_chunks(hidden, size), _chunks(targets, size))
    _, by_chunk = jax.lax.scan(lambda _, part: (None, of_chunk(*part)), None, parts)
    return by_chunk.swapaxes(0, 1).reshape(B, -1)[:, :N]


def _chunks(x: jax.Array, size: int) -> jax.Array:
    """[B, N, ...] -> [N / size, B, size, ...]."""
    return x.reshape(x.shape[0], -1, size, *x.shape[2:]).swapaxes(0, 1)
