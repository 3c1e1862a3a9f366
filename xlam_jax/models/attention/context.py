"""Attention over a mesh: a kernel per shard of rows and heads, and three ways to split the sequence.

over_heads  every device runs a kernel on whole rows of its own heads. Over a `context` axis the sequence is
            regrouped by heads first, an all-to-all each way (Jacobs et al. 2023, arXiv:2309.14509); heads
            must divide by context x tensor, and the load is even.
gather      every device gathers all keys and values of its rows and keeps its own queries: one all-gather
            forward, one more and a reduce-scatter backward. Memory holds the keys of the whole row.
ring        keys and values travel from device to device and partial results are joined by their log-sum-exp
            (Liu et al. 2023, arXiv:2310.01889): memory holds the keys of one shard, and a sliding window ends
            the journey early.

Shard i of C holds positions [i * S / C, (i + 1) * S / C) of every row. With `gather` and `ring` every shard
multiplies with keys that causality hides from it, the first one most; dealing each device one early and one
late piece of the row would halve that work, at the price of permuted batches. The arithmetic of `gather` and `ring` is
that of `blocked`.

Shape legend: B rows, S positions (L = S / C of one shard), N query heads, K key/value heads, H width of
queries and keys, J width of values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from xlam_jax.models.attention import blocked
from xlam_jax.parallel.active import CONTEXT, context_ways
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules

Array = jax.Array


def heads_divide(mesh: AbstractMesh, num_heads: int) -> bool:
    """Whether `over_heads` can regroup the sequence by heads on this mesh."""
    return num_heads % (context_ways(mesh) * mesh.shape.get("tensor", 1)) == 0


def over_heads(
    kernel: Callable[[Array, Array, Array, Array], Array],
    q_BSNH: Array,
    k_BSKH: Array,
    v_BSKJ: Array,
    segment_ids_BS: Array,
    mesh: AbstractMesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> Array:
    """`kernel(q, k, v, segment_ids)` on whole rows, its rows and heads split over the mesh.

    Rows or heads that do not divide are not split. Key heads that do not divide are repeated until they do.

    Args:
      kernel: of one device, see `backends.kernel`.
      q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS: global arrays, as in `models.attention.attend`.
      rules: only the mesh axes of `batch` are read; heads lie over `tensor` and `context`.
    """
    rows = _split_rows(mesh, q_BSNH.shape[0], rules)
    heads, k_BSKH, v_BSKJ = _split_heads(mesh, ("tensor", CONTEXT), q_BSNH, k_BSKH, v_BSKJ)
    whole = P(rows, None, heads, None)
    # Pallas kernels do not say over which mesh axes their results vary.
    run = jax.shard_map(
        kernel, mesh=mesh, in_specs=(whole, whole, whole, P(rows, None)), out_specs=whole, check_vma=False
    )
    return run(q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS)


def over_context(
    kind: str,
    q_BSNH: Array,
    k_BSKH: Array,
    v_BSKJ: Array,
    segment_ids_BS: Array,
    mesh: AbstractMesh,
    *,
    window: int | None,
    scale: float,
    rules: ShardingRules = DEFAULT_RULES,
) -> Array:
    """Attention with positions split over `context`; S must divide.

    Args:
      kind: "gather" or "ring".
      q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS: global arrays, as in `models.attention.attend`.
      window: a position sees itself and the `window - 1` before it; None for no limit.
      scale: of the scores.
      rules: only the mesh axes of `batch` are read; heads lie over `tensor`.
    """
    rows = _split_rows(mesh, q_BSNH.shape[0], rules)
    heads, k_BSKH, v_BSKJ = _split_heads(mesh, ("tensor",), q_BSNH, k_BSKH, v_BSKJ)
    local = {"gather": _gather, "ring": _ring}[kind]
    by_shard = P(rows, CONTEXT, heads, None)
    run = jax.shard_map(
        functools.partial(local, window=window, scale=scale),
        mesh=mesh,
        in_specs=(by_shard, by_shard, by_shard, P(rows, CONTEXT)),
        out_specs=by_shard,
        check_vma=False,
    )
    return run(q_BSNH, k_BSKH, v_BSKJ, segment_ids_BS)


def _split_rows(mesh: AbstractMesh, rows: int, rules: ShardingRules) -> tuple[str, ...] | None:
    names = (rules.batch,) if isinstance(rules.batch, str) else rules.batch or ()
    names, ways = _axes(mesh, names)
    return names if names and rows % ways == 0 else None


def _split_heads(
    mesh: AbstractMesh, names: tuple[str, ...], q_BSNH: Array, k_BSKH: Array, v_BSKJ: Array
) -> tuple[tuple[str, ...] | None, Array, Array]:
    """(mesh axes of the heads, k, v): key heads repeated as often as their number asks for."""
    names, ways = _axes(mesh, names)
    if not names or q_BSNH.shape[2] % ways:
        return None, k_BSKH, v_BSKJ
    repeats = math.lcm(k_BSKH.shape[2], ways) // k_BSKH.shape[2]
    if repeats > 1:
        k_BSKH, v_BSKJ = (jnp.repeat(x, repeats, axis=2) for x in (k_BSKH, v_BSKJ))
    return names, k_BSKH, v_BSKJ


def _axes(mesh: AbstractMesh, names: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    axes = tuple(name for name in names if mesh.shape.get(name, 1) > 1)
    return axes, math.prod(mesh.shape[name] for name in axes)


def _named(out: Array, lse: Array) -> tuple[Array, Array]:
    """What the backward pass wants, under the name by which a policy of `jax.checkpoint` keeps it."""
    return checkpoint_name(out, "attn_out"), checkpoint_name(lse, "attn_out")


# -- gather: all keys to every device ----


def _gather(q, k, v, seg, *, window: int | None, scale: float) -> Array:
    S = q.shape[1] * jax.lax.axis_size(CONTEXT)

    def heads(q, k, v, seg):
        """This shard's queries with the keys they may see, and where in the row the first of these stands."""
        start = jax.lax.axis_index(CONTEXT) * q.shape[1]
        k, v, k_seg = (jax.lax.all_gather(x, CONTEXT, axis=1, tiled=True) for x in (k, v, seg))
        first = jnp.zeros_like(start)
        seen = S if window is None else min(S, q.shape[1] + window - 1)
        if seen < S:
            first = jnp.clip(start - window + 1, 0, S - seen)
            k, v, k_seg = (jax.lax.dynamic_slice_in_dim(x, first, seen, axis=1) for x in (k, v, k_seg))
        return blocked.by_head(q, k, v, seg, k_seg, start - first), first

    @jax.custom_vjp
    def attend(q, k, v, seg):
        return attend_fwd(q, k, v, seg)[0]

    def attend_fwd(q, k, v, seg):
        out, lse = blocked.forward(heads(q, k, v, seg)[0], window, scale, q.dtype)
        out, lse = _named(blocked.by_position(out, q), lse)
        return out, (q, k, v, seg, out, lse)

    def attend_bwd(saved, d_out):
        q, k, v, seg, out, lse = saved
        parts, first = heads(q, k, v, seg)
        d_out, delta = blocked.output_gradient(d_out, out, k)
        d_q, d_k, d_v = blocked.backward(parts, d_out, lse, delta, window, scale)
        return (blocked.by_position(d_q, q), _home(d_k, k, first, S), _home(d_v, v, first, S), None)

    def _home(d_x, like, first, S):
        whole = blocked.by_position(d_x, jax.ShapeDtypeStruct((1, d_x.shape[2]), jnp.float32))
        if whole.shape[1] < S:
            empty = jnp.zeros((whole.shape[0], S, *whole.shape[2:]), whole.dtype)
            whole = jax.lax.dynamic_update_slice_in_dim(empty, whole, first, axis=1)
        mine = jax.lax.psum_scatter(whole, CONTEXT, scatter_dimension=1, tiled=True)
        return mine.astype(like.dtype)

    attend.defvjp(attend_fwd, attend_bwd)
    return attend(q, k, v, seg)


# -- ring: keys travel ----


def _ring(q, k, v, seg, *, window: int | None, scale: float) -> Array:
    C, L = jax.lax.axis_size(CONTEXT), q.shape[1]
    # The shard a window cannot reach back to is never asked for.
    steps = C if window is None else min(C, 1 + -(-(window - 1) // L))

    def travel(x, by: int = 1):
        return jax.lax.ppermute(x, CONTEXT, [(i, (i + by) % C) for i in range(C)])

    def heads(q, k, v, seg, k_seg, step):
        # A shard ahead in the row has a negative offset: causality hides all of it.
        me = jax.lax.axis_index(CONTEXT)
        return blocked.by_head(q, k, v, seg, k_seg, (me - (me - step) % C) * L)

    @jax.custom_vjp
    def attend(q, k, v, seg):
        return attend_fwd(q, k, v, seg)[0]

    def attend_fwd(q, k, v, seg):
        def join(carry, step, moved):
            out, lse = carry
            k_now, v_now, k_seg = moved
            parts = heads(q, k_now, v_now, seg, k_seg, step)
            more, more_lse = blocked.forward(parts, window, scale, jnp.float32)
            both = jnp.logaddexp(lse, more_lse)
            return out * jnp.exp(lse - both) + more * jnp.exp(more_lse - both), both

        moved = (k, v, seg)
        carry = blocked.forward(heads(q, k, v, seg, seg, 0), window, scale, jnp.float32)

        def step(state, i):
            carry, moved = state
            moved = travel(moved)
            return (join(carry, i, moved), moved), None

        (carry, _), _ = jax.lax.scan(step, (carry, moved), jnp.arange(1, steps))
        out, lse = _named(blocked.by_position(carry[0], q), carry[1])
        return out, (q, k, v, seg, out, lse)

    def attend_bwd(saved, d_out):
        q, k, v, seg, out, lse = saved
        d_out, delta = blocked.output_gradient(d_out, out, k)

        def step(state, i):
            (k_now, v_now, k_seg), d_q, d_kv = state
            parts = heads(q, k_now, v_now, seg, k_seg, i)
            more_q, *more_kv = blocked.backward(parts, d_out, lse, delta, window, scale)
            d_kv = jax.tree.map(jnp.add, d_kv, tuple(more_kv))
            # Gradients of keys travel with the keys.
            return (travel((k_now, v_now, k_seg)), d_q + more_q, travel(d_kv)), None

        parts = heads(q, k, v, seg, seg, 0)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (parts.q, parts.k, parts.v))
        start = ((k, v, seg), zeros[0], zeros[1:])
        (_, d_q, (d_k, d_v)), _ = jax.lax.scan(step, start, jnp.arange(steps))
        if steps < C:
            d_k, d_v = travel((d_k, d_v), C - steps)
        return blocked.by_position(d_q, q), blocked.by_position(d_k, k), blocked.by_position(d_v, v), None

    attend.defvjp(attend_fwd, attend_bwd)
    return attend(q, k, v, seg)
