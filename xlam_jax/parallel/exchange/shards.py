"""What every exchange knows, and the parts that several of them use; all of it inside `jax.shard_map`.

Shape legend: T tokens of this device, K choices of a token, D hidden, E experts in all, P peers on the expert
axis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xlam_jax.parallel.dispatch import DispatchPlan, Slots, dispatch, make_plan


class Output(NamedTuple):
    """Of an expert network, or of an exchange around it, on one device."""

    y_TD: jax.Array  # the weighted sums; float32 from a network, in the dtype of x from an exchange
    windows: jax.Array  # float32, turns the network took
    computed: jax.Array  # float32, assignments (token, expert) it computed
    rounds: Any = 1.0  # float32, turns the exchange took


# (x_TD, ids_TK, weights_TK, experts, num_experts, capacity) -> Output
FeedForward = Callable[..., Output]


@dataclasses.dataclass(frozen=True)
class Setting:
    """The mesh as one exchange sees it.

    Attributes:
      ffn: the expert network on one device.
      num_experts: experts in all.
      expert_axes: mesh axes that split the experts, none of size 1.
      peers: how many ways that is.
      split: the tokens are split over the expert axes too (else every peer holds the same ones).
      manual_axes: all mesh axes that this layer's work is split over.
      slack: see `moe_ffn`.
    """

    ffn: FeedForward
    num_experts: int
    expert_axes: tuple[str, ...]
    peers: int
    split: bool
    manual_axes: tuple[str, ...]
    slack: float

    @property
    def local_experts(self) -> int:
        return self.num_experts // self.peers


def rows_to_hold(expected: float, most: int, slack: float) -> int:
    """`slack` times the expected number of rows, a multiple of 8, at most `most`."""
    return max(1, min(most, 8 * math.ceil(slack * expected / 8)))


def run_local(
    setting: Setting, tokens: int, x_TD: jax.Array, ids_TK: jax.Array, weights_TK: jax.Array, experts: Any
) -> Output:
    """The network of this device's experts on rows whose global expert ids are given.

    Args:
      tokens: of how many tokens the rows are the selection that concerns this device.
      x_TD: the rows; unused slots may be among them.
      ids_TK: of experts over all devices; one that is not here is not computed.
      experts: those of this device, as `setting.ffn` takes them.
    """
    count, K = setting.local_experts, ids_TK.shape[1]
    capacity = rows_to_hold(tokens * K / setting.num_experts, x_TD.shape[0], setting.slack)
    first = jax.lax.axis_index(setting.expert_axes) * count if setting.peers > 1 else 0
    local_TK = ids_TK - first
    local_TK = jnp.where((local_TK >= 0) & (local_TK < count), local_TK, count)
    return setting.ffn(x_TD, local_TK, weights_TK, experts, count, capacity)


def peer_plan(setting: Setting, ids_TK: jax.Array) -> DispatchPlan:
    """Which token goes to which peer. One that has several experts at a peer goes there once."""
    peer_TK = ids_TK // setting.local_experts
    again_TK = [(peer_TK[:, :k] == peer_TK[:, k : k + 1]).any(axis=1) for k in range(ids_TK.shape[1])]
    return make_plan(jnp.where(jnp.stack(again_TK, axis=1), setting.peers, peer_TK), setting.peers)


def rows_for_peers(
    x_TD: jax.Array, ids_TK: jax.Array, weights_TK: jax.Array, slots: Slots, nobody: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a peer needs of each row: hidden state, ids (`nobody` in unused slots), weights.

    Args:
      slots: of `peer_plan`, by `window` or `packed_window`.
      nobody: an id that is no expert's.
    """
    K = ids_TK.shape[1]
    ids_RK = jnp.where(slots.used_R[:, None], ids_TK[slots.assignment_R // K], nobody)
    return dispatch(x_TD, slots), ids_RK, dispatch(weights_TK, slots)


def vary(tree: Any, axes: tuple[str, ...]) -> Any:
    """Marks arrays as different on each device along `axes`, at the head of the body.

    An array that is equal along an axis becomes varying where it meets one that is not. If that place is inside a
    loop or a branch whose turn differs between devices, the transposed operation, a sum over devices, stands
    inside it as well and the program hangs. Done here, that sum stands outside.
    """

    def one(x):
        missing = tuple(a for a in axes if a not in jax.typeof(x).manual_axis_type.varying)
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(one, tree)
