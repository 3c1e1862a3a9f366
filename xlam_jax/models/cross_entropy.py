"""Vocabulary projection and cross-entropy in chunks: [B, S, V] never exists, forward or backward.

Two things make it cheap. The gradient is computed in the forward pass, chunk by chunk, because the softmax is
at hand there: three products with the head instead of the four of recomputation. And each row's weighted
positions are moved to its front, so that the loop ends where the weights end: prompts cost no projection.

On a mesh every device works on its own positions with the whole head, or with its part of a split vocabulary:
left to the compiler, each chunk would gather the head and reduce its gradient anew.

Shape legend: B rows, S positions, C positions of a chunk, R = B * C, D hidden, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec as P

from xlam_jax.parallel.embedding import Split, split_of
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules


def chunked_cross_entropy(
    hidden_BSD: jax.Array,
    head_DV: jax.Array,
    targets_BS: jax.Array,
    weights_BS: jax.Array,
    chunk: int = 256,
    rules: ShardingRules = DEFAULT_RULES,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Weighted sum of token cross-entropies.

    Differentiable once, in reverse mode, with respect to `hidden_BSD` and `head_DV`; weights are constants.

    Args:
      hidden_BSD: hidden states after the final norm; products run in its dtype, the softmax in float32.
      head_DV: output projection.
      targets_BS: int32 in [0, V).
      weights_BS: weight of each position's loss; 0 for positions that do not count.
      chunk: positions of each row per step; a step holds float32 [B, chunk, V].
      rules: how arrays are split over the mesh of `jax.set_mesh`; what does not divide is left to the compiler.

    Returns:
      (loss_sum, weight_sum, {"correct_sum": weight of positions whose arg-max is the target, alone}), all float32.
    """
    weights_BS = jax.lax.stop_gradient(weights_BS.astype(jnp.float32))
    with jax.named_scope("loss"):
        # [V, D] is the layout of a tied embedding table, so its transposition here undoes the caller's for free.
        head_VD = head_DV.T
        split = split_of(head_VD.shape, targets_BS.shape, rules)
        loss_sum, correct_sum = _loss(  # pyright: ignore[reportGeneralTypeIssues]
            hidden_BSD, head_VD, targets_BS, weights_BS, chunk, split
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _loss(hidden_BSD, head_VD, targets_BS, weights_BS, size, split):
    run = functools.partial(_sums, size=size, split=split, asked=None)
    return _on_shards(run, split)(hidden_BSD, head_VD, targets_BS, weights_BS)[0]


def _loss_fwd(hidden_BSD, head_VD, targets_BS, weights_BS, size, split):
    asked = head_VD.perturbed  # a frozen head costs no gradient
    arrays = (x.value for x in (hidden_BSD, head_VD, targets_BS, weights_BS))
    return _on_shards(functools.partial(_sums, size=size, split=split, asked=asked), split)(*arrays)


def _loss_bwd(size, split, saved, cotangents):
    d_hidden_BSD, d_head = saved
    g = cotangents[0]
    if isinstance(g, SymbolicZero):
        return None, None, None, None
    d_head = None if d_head is None else d_head * g.astype(d_head.dtype)
    return d_hidden_BSD * g.astype(d_hidden_BSD.dtype), d_head, None, None


_loss.defvjp(_loss_fwd, _loss_bwd, symbolic_zeros=True)


def _on_shards(run: Callable, split: Split | None) -> Callable:
    if split is None:
        return run
    hidden, head = P(split.rows, split.length, None), P(split.vocab, split.width)
    tokens = P(split.rows, split.length)
    return jax.shard_map(
        run,
        mesh=split.mesh,
        in_specs=(hidden, head, tokens, tokens),
        out_specs=((P(), P()), (hidden, head)),
        check_vma=False,  # nothing is differentiated through it
    )


def _sums(hidden_BSD, head_VD, targets_BS, weights_BS, *, size, split, asked):
    """((loss sum, correct sum), (d_hidden, d_head)) of one device's positions.

    The head is gathered once before the loop and its gradient reduced once behind it; what the loop does with
    a chunk needs other devices only where the vocabulary is split.

    Args:
      asked: for the gradients: None for none, False for hidden states only.
    """
    split = split or Split(None, (), (), (), ())
    size = min(size, targets_BS.shape[1])
    rows = _gather_weighted(hidden_BSD, targets_BS, weights_BS, size)
    head = head_VD.astype(hidden_BSD.dtype)
    if split.width:
        head = jax.lax.all_gather(head, split.width, axis=1, tiled=True)
    first = jax.lax.axis_index(split.vocab) * head.shape[0] if split.vocab else 0
    chunks = rows.chunks
    if split.vocab:  # a round holds collectives, so every device does as many
        chunks = jax.lax.pmax(chunks, split.axes)

    def step(i, carry):
        loss_sum, correct_sum, d_hidden, d_head = carry
        hidden, targets, weights = rows.chunk(i, size)
        loss, correct, shifted, total = _chunk(head, hidden, targets - first, weights, split.vocab)
        if asked is not None:
            hit = jax.lax.broadcasted_iota(targets.dtype, shifted.shape, 1) == (targets - first)[:, None]
            d_logits = jnp.exp(shifted) * (weights / total)[:, None] - jnp.where(hit, weights[:, None], 0.0)
            d_logits = d_logits.astype(head.dtype)
            d_rows = jnp.einsum("rv,vd->rd", d_logits, head).reshape(d_hidden.shape[0], size, -1)
            d_hidden = jax.lax.dynamic_update_slice_in_dim(d_hidden, d_rows, i * size, axis=1)
        if asked:
            d_head += jnp.einsum("rv,rd->vd", d_logits, hidden, preferred_element_type=jnp.float32)
        return loss_sum + loss, correct_sum + correct, d_hidden, d_head

    zero = jnp.zeros((), jnp.float32)
    d_hidden = None if asked is None else jnp.zeros_like(rows.hidden_BSD)
    d_head = jnp.zeros(head.shape, jnp.float32) if asked else None
    start = (zero, zero, d_hidden, d_head)
    loss_sum, correct_sum, d_hidden, d_head = jax.lax.fori_loop(0, chunks, step, start)
    if d_hidden is not None:
        d_hidden = jnp.take_along_axis(d_hidden, rows.back_BS[..., None], axis=1)
    if d_hidden is not None and split.vocab:
        d_hidden = jax.lax.psum(d_hidden, split.vocab)
    if d_head is not None and split.width:
        d_head = jax.lax.psum_scatter(d_head, split.width, scatter_dimension=1, tiled=True)
    if d_head is not None and split.others:
        d_head = jax.lax.psum(d_head, split.others)
    if split.tokens:
        loss_sum, correct_sum = jax.lax.psum((loss_sum, correct_sum), split.tokens)
    return (loss_sum, correct_sum), (d_hidden, None if d_head is None else d_head.astype(head_VD.dtype))


def _chunk(head_VD, hidden_RD, targets_R, weights_R, vocab):
    """(loss sum, correct sum, logits minus their maximum [R, V], sums of their exponentials [R])."""
    logits = jnp.einsum("rd,vd->rv", hidden_RD, head_VD, preferred_element_type=jnp.float32)
    largest = logits.max(axis=-1, keepdims=True)
    shifted = logits - (jax.lax.pmax(largest, vocab) if vocab else largest)
    total = jnp.exp(shifted).sum(axis=-1)
    largest_R = (shifted >= 0).sum(axis=-1)
    of_target = jnp.take_along_axis(shifted, targets_R[:, None], axis=-1, mode="clip")[:, 0]
    if vocab:  # one of the devices holds the target
        here = (targets_R >= 0) & (targets_R < shifted.shape[1])
        parts = (total, jnp.where(here, of_target, 0.0), largest_R)
        total, of_target, largest_R = jax.lax.psum(parts, vocab)
    loss = ((jnp.log(total) - of_target) * weights_R).sum()
    # The target is the arg-max when it alone reaches the maximum: logits that are all the same predict nothing.
    correct = (((of_target >= 0) & (largest_R == 1)) * weights_R).sum()
    return loss, correct, shifted, total


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])
