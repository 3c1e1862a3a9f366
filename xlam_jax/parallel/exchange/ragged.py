"""Each peer is sent exactly the tokens it has an expert for, by `jax.lax.ragged_all_to_all` (GPU and TPU).

XLA has no such operation for the CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xlam_jax.errors import InputError
from xlam_jax.parallel import target
from xlam_jax.parallel.dispatch import combine, packed_window
from xlam_jax.parallel.exchange.shards import Output, Setting, peer_plan, rows_for_peers, run_local, vary


def ragged(setting: Setting, x_TD, ids_TK, weights_TK, experts) -> Output:
    """One round whatever the routing; the receiving buffer holds the worst case, P * T rows.

    Args:
      x_TD, ids_TK, weights_TK: tokens of this device and their choices; an id of `setting.num_experts` is no expert.
      experts: those of this device, as `setting.ffn` takes them.

    Raises:
      InputError: on the CPU.
    """
    _need_accelerator()
    (T, K), peers, axes = ids_TK.shape, setting.peers, setting.expert_axes
    plan = peer_plan(setting, ids_TK)
    most = T * min(K, peers)
    slots, _ = packed_window(plan, 0, most)

    # counts[i, j]: rows that i sends to j. Peer i's rows for j start where those for the peers before j end, and
    # arrive behind the rows of the peers before i.
    counts_PP = jax.lax.all_gather(plan.count_E, axes)
    sent_from_PP = jnp.cumsum(counts_PP, axis=1) - counts_PP
    arrive_at_PP = jnp.cumsum(counts_PP, axis=0) - counts_PP
    me = jax.lax.axis_index(axes)
    there = (sent_from_PP[me], counts_PP[me], arrive_at_PP[me], counts_PP[:, me])
    back = (arrive_at_PP[:, me], counts_PP[:, me], sent_from_PP[:, me], counts_PP[me])

    def move(rows, size, fill, route):
        empty = vary(jnp.full((size, *rows.shape[1:]), fill, rows.dtype), setting.manual_axes)
        return _ragged_all_to_all(rows, empty, *route, axis_name=axes)

    x_RD, ids_RK, weights_RK = rows_for_peers(x_TD, ids_TK, weights_TK, slots, setting.num_experts)
    x_RD = move(x_RD, peers * T, 0, there)
    ids_RK = move(ids_RK, peers * T, setting.num_experts, there)
    weights_RK = move(weights_RK, peers * T, 0, there)
    out = run_local(setting, T * peers, x_RD, ids_RK, weights_RK, experts)
    y_RD = move(out.y_TD.astype(x_TD.dtype), most, 0, back)
    y_TD = combine(y_RD, jnp.ones_like(weights_TK), slots).astype(x_TD.dtype)
    return out._replace(y_TD=y_TD)


def _ragged_all_to_all(rows, empty, *route, axis_name):
    (axis,) = axis_name  # the operation takes one axis
    return jax.lax.ragged_all_to_all(rows, empty, *route, axis_name=axis)


def _need_accelerator() -> None:
    if target.platform() == "cpu":
        raise InputError(
            "the exchange ragged needs a GPU or TPU: XLA does not implement it on the CPU",
            where="moe.exchange",
            hint="moe.exchange=all_to_all, which moves nearly as little",
        )
