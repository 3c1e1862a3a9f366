"""Each peer is sent the tokens it has an expert for, in buffers of fixed size and as many rounds as it takes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xlam_jax.parallel.dispatch import combine, sum_windows, window
from xlam_jax.parallel.exchange.shards import (
    Output,
    Setting,
    peer_plan,
    rows_for_peers,
    rows_to_hold,
    run_local,
)


def all_to_all(setting: Setting, x_TD, ids_TK, weights_TK, experts) -> Output:
    """A peer is sent C = slack * T * min(1, K / P) rows a round; what does not fit goes in the next one.

    A round holds collectives, so the number of rounds is the largest that any device of the whole mesh needs.

    Args:
      x_TD, ids_TK, weights_TK: tokens of this device and their choices; an id of `setting.num_experts` is no expert.
      experts: those of this device, as `setting.ffn` takes them.
    """
    (T, K), peers, axes = ids_TK.shape, setting.peers, setting.expert_axes
    plan = peer_plan(setting, ids_TK)
    capacity = rows_to_hold(T * min(1.0, K / peers), T, setting.slack)
    rounds = jax.lax.pmax(-(-plan.count_E.max() // capacity), setting.manual_axes)

    def one(index, diff, plain):
        x_TD, weights_TK, experts = diff
        plan, ids_TK = plain
        slots = window(plan, index, capacity)
        sent = rows_for_peers(x_TD, ids_TK, weights_TK, slots, setting.num_experts)
        x_RD, ids_RK, weights_RK = (jax.lax.all_to_all(a, axes, 0, 0, tiled=True) for a in sent)
        out = run_local(setting, T * peers, x_RD, ids_RK, weights_RK, experts)
        y_RD = jax.lax.all_to_all(out.y_TD.astype(x_TD.dtype), axes, 0, 0, tiled=True)
        # The rows come back weighted.
        y_TD = combine(y_RD, jnp.ones_like(weights_TK), slots)
        return y_TD, (out.windows, out.computed, jnp.ones(()))

    y_TD, counts = sum_windows(one, rounds, -(-T // capacity), (x_TD, weights_TK, experts), (plan, ids_TK))
    return Output(y_TD.astype(x_TD.dtype), *counts)
