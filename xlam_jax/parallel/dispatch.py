"""Moving rows to bins and back: the plan of an assignment, and the three steps that use it.

A bin is an expert, or a peer that holds experts. Each of T tokens names K bins, no real one twice. Rows are
moved by gathers in both directions and in both passes, so no scatter-add is needed: results do not depend on the order
of execution, and the passes are bitwise repeatable on a GPU.

Shape legend: T tokens, K bins a token names, A = T * K assignments, E bins, C slots of a bin, R slots in all,
D width of a row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


class DispatchPlan(NamedTuple):
    """Assignments in the order of their bins; within a bin in the order of tokens."""

    order_A: jax.Array  # int32, assignment numbers t * K + k
    start_E: jax.Array  # int32, where each bin begins in order_A
    count_E: jax.Array  # int32, size of each bin
    bin_TK: jax.Array  # int32, E for none
    rank_TK: jax.Array  # int32, place within the bin


class Slots(NamedTuple):
    """Which assignment stands in which slot, told from both sides."""

    assignment_R: jax.Array  # int32
    used_R: jax.Array  # bool
    slot_TK: jax.Array  # int32, a valid slot number also where not inside
    inside_TK: jax.Array  # bool


def make_plan(bin_TK: jax.Array, num_bins: int) -> DispatchPlan:
    """Sorts assignments into bins; int32 `bin_TK` outside [0, num_bins) means no bin."""
    bin_TK = jnp.where((bin_TK >= 0) & (bin_TK < num_bins), bin_TK, num_bins).astype(jnp.int32)
    bin_A = bin_TK.reshape(-1)
    number_A = jax.lax.iota(jnp.int32, bin_A.size)
    sorted_A, order_A = jax.lax.sort((bin_A, number_A), num_keys=1, is_stable=True)
    start = jnp.searchsorted(sorted_A, jnp.arange(num_bins + 1, dtype=jnp.int32)).astype(jnp.int32)
    place_A = jnp.zeros_like(order_A).at[order_A].set(number_A, unique_indices=True)
    rank_A = place_A - start[bin_A]
    return DispatchPlan(order_A, start[:-1], start[1:] - start[:-1], bin_TK, rank_A.reshape(bin_TK.shape))


def window(plan: DispatchPlan, index: Any, capacity: int) -> Slots:
    """Window `index` takes places [index * C, (index + 1) * C) of every bin: R = E * C slots, bin by bin."""
    E = plan.start_E.size
    place_EC = index * capacity + jnp.zeros((E, 1), jnp.int32) + jax.lax.iota(jnp.int32, capacity)
    used_EC = place_EC < plan.count_E[:, None]
    slot_TK = plan.bin_TK * capacity + plan.rank_TK - index * capacity
    inside_TK = (plan.bin_TK < E) & (plan.rank_TK // capacity == index)
    return _slots(plan, plan.start_E[:, None] + place_EC, used_EC, slot_TK, inside_TK)


def packed_window(plan: DispatchPlan, index: Any, rows: int) -> tuple[Slots, jax.Array]:
    """Window `index` takes assignments [index * R, (index + 1) * R) of the sorted order.

    Returns:
      the slots, and int32 [E]: how many consecutive slots belong to each bin.
    """
    place_R = index * rows + jax.lax.iota(jnp.int32, rows)
    start_E, end_E = plan.start_E - index * rows, plan.start_E + plan.count_E - index * rows
    size_E = jnp.clip(end_E, 0, rows) - jnp.clip(start_E, 0, rows)
    E = size_E.size
    slot_TK = start_E[jnp.minimum(plan.bin_TK, E - 1)] + plan.rank_TK
    inside_TK = (plan.bin_TK < E) & (slot_TK >= 0) & (slot_TK < rows)
    return _slots(plan, place_R, place_R < plan.count_E.sum(), slot_TK, inside_TK), size_E


def _slots(
    plan: DispatchPlan, place: jax.Array, used: jax.Array, slot_TK: jax.Array, inside_TK: jax.Array
) -> Slots:
    place_R = jnp.minimum(place.reshape(-1), plan.order_A.size - 1)
    return Slots(plan.order_A[place_R], used.reshape(-1), jnp.where(inside_TK, slot_TK, 0), inside_TK)


@jax.custom_vjp
def dispatch(x_TD: jax.Array, slots: Slots) -> jax.Array:
    """Rows of tokens into slots, [R, D]; zeros in unused slots."""
    K = slots.slot_TK.shape[1]
    return jnp.where(slots.used_R[:, None], x_TD[slots.assignment_R // K], 0)


def _dispatch_fwd(x_TD, slots):
    return dispatch(x_TD, slots), slots


def _dispatch_bwd(slots, d_rows_RD):
    return _pick(d_rows_RD, None, slots).astype(d_rows_RD.dtype), None


dispatch.defvjp(_dispatch_fwd, _dispatch_bwd)


@jax.custom_vjp
def combine(rows_RD: jax.Array, weights_TK: jax.Array, slots: Slots) -> jax.Array:
    """float32 [T, D]: of each token the weighted sum of its slots' rows, in the order of its choices."""
    return _pick(rows_RD, weights_TK, slots)


def _combine_fwd(rows_RD, weights_TK, slots):
    return combine(rows_RD, weights_TK, slots), (rows_RD, weights_TK, slots)


def _combine_bwd(saved, d_y_TD):
    rows_RD, weights_TK, slots = saved
    K = weights_TK.shape[1]
    weight_R = jnp.where(slots.used_R, weights_TK.reshape(-1)[slots.assignment_R], 0)
    d_rows_RD = jnp.where(
        slots.used_R[:, None], weight_R[:, None] * d_y_TD[slots.assignment_R // K], 0
    ).astype(rows_RD.dtype)
    # One choice at a time: [T, K, D] is never held.
    d_weights_TK = jnp.stack(
        [(d_y_TD * rows_RD[slots.slot_TK[:, k]].astype(jnp.float32)).sum(axis=-1) for k in range(K)], axis=1
    )
    return d_rows_RD, jnp.where(slots.inside_TK, d_weights_TK, 0).astype(weights_TK.dtype), None


combine.defvjp(_combine_fwd, _combine_bwd)


def _pick(rows_RD: jax.Array, weights_TK: jax.Array | None, slots: Slots) -> jax.Array:
    total_TD = jnp.zeros((), jnp.float32)
    for k in range(slots.slot_TK.shape[1]):
        row_TD = rows_RD[slots.slot_TK[:, k]].astype(jnp.float32)
        if weights_TK is not None:
            row_TD = row_TD * weights_TK[:, k, None].astype(jnp.float32)
        # A choice, not a product with zero: the slot read in vain may hold another token's infinity.
        total_TD = total_TD + jnp.where(slots.inside_TK[:, k, None], row_TD, 0)
    return total_TD


def sum_windows(
    fn: Callable[[Any, Any, Any], tuple[jax.Array, Any]], used: jax.Array, most: int, diff: Any, plain: Any
) -> tuple[jax.Array, Any]:
    """Sums of `fn(index, diff, plain)` over `index < max(used, 1)`, where `used` is known at run time only.

    Window 0 is ordinary code whose intermediate values are kept for the backward pass (or not: the caller's
    `jax.checkpoint` decides). Later windows run in a loop of as many turns as needed, forwards and backwards,
    and are recomputed in the latter, so memory is that of one window however uneven the bins are.

    Args:
      fn: gives (y, counts). It must not close over traced values, and may hold collectives only if `used` is equal
        on all devices.
      used: int32 scalar.
      most: the largest `used` there can be; 1 leaves no loop in the program.
      diff: arrays that gradients may be asked of; only those asked of are computed.
      plain: other arrays.

    Returns:
      the sum of y, and the sums of the counts, which have no gradient.
    """
    if most == 1:
        y, counts = fn(0, diff, plain)
        return y, jax.lax.stop_gradient(counts)
    return _sum_windows(fn, used, diff, plain)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_windows(fn, used, diff, plain):
    return _more_windows(used, lambda index: fn(index, diff, plain), fn(0, diff, plain))


def _more_windows(used: jax.Array, fn: Callable[[Any], Any], first: Any) -> Any:
    return jax.lax.fori_loop(1, used, lambda index, total: jax.tree.map(jnp.add, total, fn(index)), first)


def _sum_windows_fwd(fn, used, diff, plain):
    used, plain = jax.tree.map(lambda primal: primal.value, (used, plain))
    asked = jax.tree.map(lambda primal: primal.value if primal.perturbed else None, diff)
    fixed = jax.tree.map(lambda primal: None if primal.perturbed else primal.value, diff)
    y, pull, counts = jax.vjp(lambda asked: fn(0, _merged(asked, fixed), plain), asked, has_aux=True)
    out = _more_windows(used, lambda index: fn(index, _merged(asked, fixed), plain), (y, counts))
    return out, (used, pull, asked, fixed, plain)


def _sum_windows_bwd(fn, saved, d_out):
    used, pull, asked, fixed, plain = saved
    d_y, _ = d_out
    if isinstance(d_y, SymbolicZero):
        return None, None, None

    def again(index):
        pull = jax.vjp(lambda asked: fn(index, _merged(asked, fixed), plain), asked, has_aux=True)[1]
        return pull(d_y)

    (d_asked,) = _more_windows(used, again, pull(d_y))
    return None, d_asked, None


def _merged(asked: Any, fixed: Any) -> Any:
    return jax.tree.map(lambda a, f: f if a is None else a, asked, fixed, is_leaf=lambda x: x is None)


_sum_windows.defvjp(_sum_windows_fwd, _sum_windows_bwd, symbolic_zeros=True)
