"""One mixture-of-experts layer after its router: exchange of tokens, expert networks, weighted sum.

Nothing is ever dropped: the experts' own capacity (`slack`) decides how many turns uneven routing takes, not
what is computed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xlam_jax.errors import InputError, unknown
from xlam_jax.models.config import MoeConfig
from xlam_jax.models.experts.batched import batched
from xlam_jax.models.experts.dense import dense
from xlam_jax.models.experts.grouped import grouped
from xlam_jax.models.experts.product import Experts, compute_dtypes, logical_axes
from xlam_jax.models.routing import Routing
from xlam_jax.parallel.exchange import EXCHANGES, FeedForward, exchange_tokens
from xlam_jax.parallel.rules import DEFAULT_RULES, ShardingRules

# A backend is a `FeedForward`: (x_TD, ids_TK, weights_TK, experts, num_experts, capacity) -> Output.
# It sees the experts of one device; an id of `num_experts` is an expert elsewhere, or padding. `capacity` is the
# number of rows of each expert to hold at a time.
BACKENDS: dict[str, FeedForward] = {"batched": batched, "dense": dense, "grouped": grouped}

DEFAULT_SLACK = 1.25


def moe_ffn(
    x_BSD: jax.Array,
    routing: Routing,
    experts: Any,
    cfg: MoeConfig,
    *,
    backend: str = "batched",
    exchange: str = "auto",
    rules: ShardingRules = DEFAULT_RULES,
    mask_BS: jax.Array | None = None,
    slack: float = DEFAULT_SLACK,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """sum_k weight_k * expert_k(x) of every token, expert(x) = (silu(x gate) * (x up)) down.

    Matrices are cast to the dtype of x, the weighted sum on one device is float32, sums over devices are in the
    dtype of x. Under `jax.set_mesh` the work is split as the rules say.

    Args:
      x_BSD: normed hidden states. Rows of padding (no expert in `routing`) are not read, so may hold anything.
      routing: of `models.routing.route`, for the same tokens.
      experts: has attributes gate [E, D, F], up [E, D, F], down [E, F, D]: arrays, or matrices with a LoRA adapter.
      backend: a key of `BACKENDS`.
      exchange: a key of `parallel.exchange.EXCHANGES`, or "auto".
      mask_BS: nonzero for real tokens; only needed when `route` was not given it.
      slack: rows held at a time, in units of what a perfectly balanced router would need.

    Returns:
      y_BSD in the dtype of x (zeros for padding), and float32 scalars: `max_load` (most loaded expert / mean),
      `cv` (standard deviation of the loads / mean), `windows` (most turns any device took, 1 unless routing is
      uneven), `rounds` (turns of the exchange), `dropped` (assignments that nobody computed; 0 by design).

    Raises:
      InputError: unknown backend or exchange, or sizes that do not divide by the mesh.
    """
    for kind, name, known in (("backend", backend, BACKENDS), ("exchange", exchange, ("auto", *EXCHANGES))):
        if name not in known:
            raise unknown(f"expert {kind}", name, known, where=f"moe.{kind}")
    if not slack > 0:
        raise InputError(f"slack must be positive, found {slack}", where="moe.slack")
    E = cfg.num_experts
    ids_BSK, weights_BSK = routing.ids_BSK, routing.weights_BSK
    if mask_BS is not None:
        ids_BSK = jnp.where((mask_BS != 0)[..., None], ids_BSK, E)
    x_BSD = jnp.where((ids_BSK < E).any(axis=-1, keepdims=True), x_BSD, 0)
    own = Experts(experts.gate, experts.up, experts.down)
    with jax.named_scope("experts"):
        y_BSD, turns = exchange_tokens(
            x_BSD,
            ids_BSK,
            weights_BSK,
            own,
            BACKENDS[backend],
            exchange=exchange,
            axes=logical_axes(own),
            dtypes=compute_dtypes(own, x_BSD.dtype),
            num_experts=E,
            rules=rules,
            slack=slack,
        )
    mean = jnp.maximum(routing.count_E.mean(), 1e-9)
    stats = {
        "max_load": routing.count_E.max() / mean,
        "cv": routing.count_E.std() / mean,
        "windows": turns["windows"],
        "rounds": turns["rounds"],
        "dropped": (ids_BSK < E).sum(dtype=jnp.float32) - turns["computed"],
    }
    return y_BSD, jax.lax.stop_gradient(stats)
