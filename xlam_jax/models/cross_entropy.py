"""Vocabulary projection and cross-entropy in chunks of positions: [B, S, V] never exists, forward or backward."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def chunked_cross_entropy(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    targets_BS: jax.Array,
    weights_BS: jax.Array,
    chunk: int = 256,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Weighted sum of token cross-entropies.

    The gradient is computed in the forward pass, chunk by chunk, because the softmax is at hand there: three
    products with the head instead of the four of recomputation, and nothing of size V is kept but the head's own
    gradient. It flows to `hidden_BSD` and `head_DV`; weights are constants.

    Args:
      hidden_BSD: hidden states after the final norm; products run in its dtype, the softmax in float32.
      head_DV: output projection.
      targets_BS: int32 in [0, V).
      weights_BS: weight of each position's loss; 0 for positions that do not count.
      chunk: positions of each row per step; a step holds float32 [B, chunk, V].

    Returns:
      (loss_sum, weight_sum, {"correct_sum": weighted count of positions whose arg-max is the target}), float32 scalars.
    """
    weights_BS = jax.lax.stop_gradient(weights_BS.astype(jnp.float32))
    loss_sum, correct_sum = _loss(hidden_BSD, head_DV, targets_BS, weights_BS, chunk)
    return loss_sum, weights_BS.sum(), {"correct_sum": correct_sum}


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(hidden_BSD, head_DV, targets_BS, weights_BS, chunk):
    head = head_DV.astype(hidden_BSD.dtype)

    def step(sums, xs):
        loss, correct, _ = _chunk(head, *xs)
        return (sums[0] + loss, sums[1] + correct), None

    zero = jnp.zeros((), jnp.float32)
    sums, _ = jax.lax.scan(step, (zero, zero), _split(chunk, hidden_BSD, targets_BS, weights_BS))
    return sums


def _loss_fwd(hidden_BSD, head_DV, targets_BS, weights_BS, chunk):
    head = head_DV.astype(hidden_BSD.dtype)

    def step(carry, xs):
        loss_sum, correct_sum, d_head = carry
        hidden, targets, weights = xs
        loss, correct, (shifted, total) = _chunk(head, hidden, targets, weights)
        scale = (weights / total)[..., None]
        hit = jax.lax.broadcasted_iota(targets.dtype, shifted.shape, 2) == targets[..., None]
        d_logits = (jnp.exp(shifted) * scale - jnp.where(hit, weights[..., None], 0.0)).astype(hidden.dtype)
        d_hidden = jnp.einsum("bcv,dv->bcd", d_logits, head)
        d_head += jnp.einsum("bcd,bcv->dv", hidden, d_logits, preferred_element_type=jnp.float32)
        return (loss_sum + loss, correct_sum + correct, d_head), d_hidden

    zero = jnp.zeros((), jnp.float32)
    start = (zero, zero, jnp.zeros(head_DV.shape, jnp.float32))
    (loss_sum, correct_sum, d_head), d_hidden = jax.lax.scan(
        step, start, _split(chunk, hidden_BSD, targets_BS, weights_BS)
    )
    B, S, D = hidden_BSD.shape
    d_hidden_BSD = d_hidden.swapaxes(0, 1).reshape(B, -1, D)[:, :S]
    return (loss_sum, correct_sum), (d_hidden_BSD, d_head.astype(head_DV.dtype))


def _loss_bwd(chunk, saved, cotangents):
    d_hidden_BSD, d_head = saved
    g = cotangents[0]
    return (d_hidden_BSD * g.astype(d_hidden_BSD.dtype), d_head * g.astype(d_head.dtype), None, None)


_loss.defvjp(_loss_fwd, _loss_bwd)


def _chunk(head_DV, hidden_BCD, targets_BC, weights_BC):
    """Sums of one chunk, and (logits minus their maximum, sum of their exponentials)."""
    logits = jnp.einsum("bcd,dv->bcv", hidden_BCD, head_DV, preferred_element_type=jnp.float32)
    top = logits.max(axis=-1)
    shifted = logits - top[..., None]
    total = jnp.exp(shifted).sum(axis=-1)
    of_target = jnp.take_along_axis(shifted, targets_BC[..., None], axis=-1)[..., 0]
    loss = ((jnp.log(total) - of_target) * weights_BC).sum()
    # The target is the arg-max when it reaches the maximum; a tie counts, which real logits do not have.
    correct = ((of_target >= 0) * weights_BC).sum()
    return loss, correct, (shifted, total)


def _split(chunk: int, *arrays_BS: jax.Array) -> tuple[jax.Array, ...]:
    """[B, S, ...] -> [S / chunk, B, chunk, ...], padded with zeros (weight 0)."""
    out = []
    for x in arrays_BS:
        B, S = x.shape[:2]
        size = min(chunk, S)
        x = jnp.pad(x, [(0, 0), (0, -S % size)] + [(0, 0)] * (x.ndim - 2))
        out.append(x.reshape(B, -1, size, *x.shape[2:]).swapaxes(0, 1))
    return tuple(out)
