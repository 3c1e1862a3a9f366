"""Vocabulary projection and cross-entropy in chunks: [B, S, V] never exists, forward or backward.

Two things make it cheap. The gradient is computed in the forward pass, chunk by chunk, because the softmax is
at hand there: three products with the head instead of the four of recomputation. And each row's weighted
positions are moved to its front, so that the loop ends where the weights end: prompts cost no projection.

Shape legend: B rows, S positions, C positions of a chunk, R = B * C, D hidden, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


def chunked_cross_entropy(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    targets_BS: jax.Array,
    weights_BS: jax.Array,
    chunk: int = 256,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Weighted sum of token cross-entropies.

    Differentiable once, in reverse mode, with respect to `hidden_BSD` and `head_DV`; weights are constants.

    Args:
      hidden_BSD: hidden states after the final norm; products run in its dtype, the softmax in float32.
      head_DV: output projection.
      targets_BS: int32 in [0, V).
      weights_BS: weight of each position's loss; 0 for positions that do not count.
      chunk: positions of each row per step; a step holds float32 [B, chunk, V].

    Returns:
      (loss_sum, weight_sum, {"correct_sum": weight of positions whose arg-max is the target}), all float32.
    """
    weights_BS = jax.lax.stop_gradient(weights_BS.astype(jnp.float32))
    with jax.named_scope("loss"):
        # [V, D] is the layout of a tied embedding table, so its transposition here undoes the caller's for free.
        loss_sum, correct_sum = _loss(  # pyright: ignore[reportGeneralTypeIssues]
            hidden_BSD, head_DV.T, targets_BS, weights_BS, min(chunk, targets_BS.shape[1])
        )
    return loss_sum, weights_BS.sum(), {"correct_sum": correct_sum}


class _Rows(NamedTuple):
    """Rows with their weighted positions in front, padded to whole chunks."""

    hidden_BSD: jax.Array
    targets_BS: jax.Array
    weights_BS: jax.Array
    back_BS: jax.Array  # where each original position went
    chunks: jax.Array  # how many chunks hold any weight

    def chunk(self, i: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        return tuple(
            _flat(jax.lax.dynamic_slice_in_dim(x, i * size, size, axis=1))
            for x in (self.hidden_BSD, self.targets_BS, self.weights_BS)
        )  # type: ignore[return-value]


def _gather_weighted(hidden_BSD, targets_BS, weights_BS, size: int) -> _Rows:
    order = jnp.argsort(weights_BS == 0, axis=1, stable=True)
    pad = -weights_BS.shape[1] % size

    def move(x: jax.Array) -> jax.Array:
        index = order if x.ndim == 2 else order[..., None]
        return jnp.pad(jnp.take_along_axis(x, index, axis=1), [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))

    longest = (weights_BS != 0).sum(axis=1).max()
    return _Rows(
        move(hidden_BSD), move(targets_BS), move(weights_BS), jnp.argsort(order, axis=1), -(-longest // size)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(hidden_BSD, head_VD, targets_BS, weights_BS, size):
    rows = _gather_weighted(hidden_BSD, targets_BS, weights_BS, size)
    head = head_VD.astype(hidden_BSD.dtype)

    def step(i, sums):
        loss, correct, *_ = _chunk(head, *rows.chunk(i, size))
        return sums[0] + loss, sums[1] + correct

    zero = jnp.zeros((), jnp.float32)
    return jax.lax.fori_loop(0, rows.chunks, step, (zero, zero))


def _loss_fwd(hidden_BSD, head_VD, targets_BS, weights_BS, size):
    asked = head_VD.perturbed  # a frozen head costs no gradient
    hidden_BSD, head_VD, targets_BS, weights_BS = (
        x.value for x in (hidden_BSD, head_VD, targets_BS, weights_BS)
    )
    rows = _gather_weighted(hidden_BSD, targets_BS, weights_BS, size)
    head = head_VD.astype(hidden_BSD.dtype)

    def step(i, carry):
        loss_sum, correct_sum, d_hidden, d_head = carry
        hidden, targets, weights = rows.chunk(i, size)
        loss, correct, shifted, total = _chunk(head, hidden, targets, weights)
        hit = jax.lax.broadcasted_iota(targets.dtype, shifted.shape, 1) == targets[:, None]
        d_logits = jnp.exp(shifted) * (weights / total)[:, None] - jnp.where(hit, weights[:, None], 0.0)
        d_logits = d_logits.astype(head.dtype)
        d_rows = jnp.einsum("rv,vd->rd", d_logits, head).reshape(d_hidden.shape[0], size, -1)
        d_hidden = jax.lax.dynamic_update_slice_in_dim(d_hidden, d_rows, i * size, axis=1)
        if asked:
            d_head += jnp.einsum("rv,rd->vd", d_logits, hidden, preferred_element_type=jnp.float32)
        return loss_sum + loss, correct_sum + correct, d_hidden, d_head

    zero = jnp.zeros((), jnp.float32)
    d_head = jnp.zeros(head_VD.shape, jnp.float32) if asked else None
    start = (zero, zero, jnp.zeros_like(rows.hidden_BSD), d_head)
    loss_sum, correct_sum, d_hidden, d_head = jax.lax.fori_loop(0, rows.chunks, step, start)
    d_hidden_BSD = jnp.take_along_axis(d_hidden, rows.back_BS[..., None], axis=1)
    return (loss_sum, correct_sum), (d_hidden_BSD, d_head.astype(head_VD.dtype) if asked else None)


def _loss_bwd(size, saved, cotangents):
    d_hidden_BSD, d_head = saved
    g = cotangents[0]
    if isinstance(g, SymbolicZero):
        return None, None, None, None
    d_head = None if d_head is None else d_head * g.astype(d_head.dtype)
    return d_hidden_BSD * g.astype(d_hidden_BSD.dtype), d_head, None, None


_loss.defvjp(_loss_fwd, _loss_bwd, symbolic_zeros=True)


def _chunk(head_VD, hidden_RD, targets_R, weights_R):
    """(loss sum, correct sum, logits minus their maximum [R, V], sums of their exponentials [R])."""
    logits = jnp.einsum("rd,vd->rv", hidden_RD, head_VD, preferred_element_type=jnp.float32)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    total = jnp.exp(shifted).sum(axis=-1)
    of_target = jnp.take_along_axis(shifted, targets_R[:, None], axis=-1)[:, 0]
    loss = ((jnp.log(total) - of_target) * weights_R).sum()
    # The target is the arg-max when it reaches the maximum; a tie counts, which real logits do not have.
    correct = ((of_target >= 0) * weights_R).sum()
    return loss, correct, shifted, total


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])
