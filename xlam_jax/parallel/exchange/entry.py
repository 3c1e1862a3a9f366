"""From sharded arrays to one device's share and back: the one `jax.shard_map` of the expert layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec as P

from xlam_jax.parallel.exchange.all_to_all import all_to_all
from xlam_jax.parallel.exchange.gather import gather
from xlam_jax.parallel.exchange.none import none
from xlam_jax.parallel.exchange.ragged import ragged
from xlam_jax.parallel.exchange.shards import FeedForward, Output, Setting, rows_to_hold, vary
from xlam_jax.parallel.rules import ShardingRules, to_sharding, to_spec

EXCHANGES: dict[str, Callable[..., Output]] = {
    "none": none,
    "gather": gather,
    "all_to_all": all_to_all,
    "ragged": ragged,
}

# Each layer's gathered matrices are gathered again in the backward pass, not kept.
_GATHERED = "moe_gathered"


def choose_exchange(tokens: int, experts_per_token: int, peers: int, slack: float) -> str:
    """The exchange for `tokens` a device: none for one peer; else the one that moves fewer rows.

    `gather` brings T rows from each peer, `all_to_all` about slack * T * K / P, with more collectives. It is taken
    when it brings half as many or less.

    Args:
      tokens: T, of one device.
      experts_per_token: K.
      peers: P, devices that the experts are split over.
      slack: see `models.experts.moe_ffn`.
    """
    if peers == 1:
        return "none"
    rows = rows_to_hold(tokens * experts_per_token / peers, tokens, slack)
    return "all_to_all" if 2 * rows <= tokens else "gather"


def exchange_tokens(
    x_BSD: jax.Array,
    ids_BSK: jax.Array,
    weights_BSK: jax.Array,
    experts: Any,
    ffn: FeedForward,
    *,
    exchange: str,
    axes: Any,
    dtypes: Any,
    num_experts: int,
    rules: ShardingRules,
    slack: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of expert networks for every token, on whatever mesh `jax.set_mesh` has set.

    Args:
      x_BSD, ids_BSK, weights_BSK: tokens and their choices; an id of `num_experts` is no expert.
      experts: tree of arrays that `ffn` takes.
      ffn: the network on one device, see `FeedForward`.
      exchange: a key of `EXCHANGES`, or "auto".
      axes: tree like `experts` with the logical axis names of each array; "experts", "mlp" (stays split; sums are
        reduced) and anything else (gathered before use).
      dtypes: tree like `experts` with the dtype each array is gathered and used in.
      rules: logical axis -> mesh axes.
      slack: see `models.experts.moe_ffn`.

    Returns:
      y_BSD in the dtype of x; float32 scalars: the most `windows` and `rounds` of any device, and the number of
      assignments `computed` on all together.
    """
    mesh = jax.sharding.get_abstract_mesh()
    sizes = {} if mesh.empty else {name: size for name, size in mesh.shape.items() if size > 1}
    leaves, tree = jax.tree.flatten(experts)
    leaf_axes, leaf_dtypes = tree.flatten_up_to(axes), tree.flatten_up_to(dtypes)
    if not sizes:
        return _on_one(x_BSD, ids_BSK, weights_BSK, experts, ffn, num_experts, slack)

    def names(axis: str) -> tuple[str, ...]:
        part = to_spec((axis,), mesh, rules)[0]
        return tuple(n for n in ((part,) if isinstance(part, str) else part or ()) if n in sizes)

    # A batch that does not split over an axis is repeated along it, as in generation from one prompt.
    rows, length = (
        _dividing(names("batch"), x_BSD.shape[0], sizes),
        _dividing(names("length"), x_BSD.shape[1], sizes),
    )
    token_axes, expert_axes, width_axes = rows + length, names("experts"), names("mlp")
    split = bool(expert_axes) and set(expert_axes) <= set(token_axes)
    peers = math.prod(sizes[a] for a in expert_axes)
    tokens = x_BSD.shape[0] * x_BSD.shape[1] // math.prod(sizes[a] for a in token_axes)
    if exchange == "auto":
        exchange = choose_exchange(tokens, ids_BSK.shape[-1], peers, slack)
    if peers == 1:
        exchange = "none"
    elif exchange != "none" and not split:
        exchange = "gather"
        token_axes = tuple(a for a in token_axes if a not in expert_axes)
        rows, length = (tuple(a for a in part if a in token_axes) for part in (rows, length))
    gather_experts = exchange == "none"
    manual = tuple(dict.fromkeys((*token_axes, *width_axes, *(() if gather_experts else expert_axes))))
    copies = math.prod(sizes[a] for a in width_axes)
    setting = Setting(
        ffn,
        num_experts,
        () if gather_experts else expert_axes,
        1 if gather_experts else peers,
        split,
        manual,
        slack,
    )
    weight_specs = [_spec(x, a, mesh, rules, sizes) for x, a in zip(leaves, leaf_axes, strict=True)]

    def body(x_bsD, ids_bsK, weights_bsK, leaves):
        b, s, D = x_bsD.shape
        whole = [
            # Varying before it is gathered, so that the gradient is scattered before it is summed over the rest.
            _whole(vary(x.astype(dtype), manual), spec, leaf, token_axes, gather_experts)
            for x, dtype, spec, leaf in zip(leaves, leaf_dtypes, weight_specs, leaf_axes, strict=True)
        ]
        x_TD, ids_TK, weights_TK, whole = vary(
            (x_bsD.reshape(-1, D), *(a.reshape(b * s, -1) for a in (ids_bsK, weights_bsK)), whole), manual
        )
        out = EXCHANGES[exchange](setting, x_TD, ids_TK, weights_TK, jax.tree.unflatten(tree, whole))
        y_TD = jax.lax.psum(out.y_TD, width_axes) if width_axes else out.y_TD
        counts = jax.lax.stop_gradient((jnp.stack([out.windows, out.rounds]), out.computed))
        counts = vary(counts, manual)
        # The axes that split the experts' width compute parts of the same assignments.
        most, computed = jax.lax.pmax(counts[0], manual), jax.lax.psum(counts[1], manual) / copies
        turns = {"windows": most[0], "rounds": most[1], "computed": computed}
        return y_TD.reshape(b, s, D), turns

    if any(_gathered_axes(s, a, gather_experts) for s, a in zip(weight_specs, leaf_axes, strict=True)):
        policy = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
        body = jax.checkpoint(body, policy=policy, prevent_cse=False)
    token_spec = P(rows or None, length or None, None)
    return jax.shard_map(
        body,
        in_specs=(token_spec, token_spec, token_spec, weight_specs),
        out_specs=(token_spec, {"windows": P(), "rounds": P(), "computed": P()}),
    )(x_BSD, ids_BSK, weights_BSK, leaves)


def _on_one(x_BSD, ids_BSK, weights_BSK, experts, ffn, num_experts, slack):
    B, S, D = x_BSD.shape
    setting = Setting(ffn, num_experts, (), 1, False, (), slack)
    ids_TK, weights_TK = ids_BSK.reshape(B * S, -1), weights_BSK.reshape(B * S, -1)
    out = none(setting, x_BSD.reshape(B * S, D), ids_TK, weights_TK, experts)
    return out.y_TD.reshape(B, S, D), {
        "windows": out.windows,
        "rounds": jnp.ones(()),
        "computed": out.computed,
    }


def _dividing(names: tuple[str, ...], size: int, sizes: dict[str, int]) -> tuple[str, ...]:
    kept: list[str] = []
    for name in names:
        if size % math.prod(sizes[n] for n in (*kept, name)) == 0:
            kept.append(name)
    return tuple(kept)


def _spec(
    x: jax.Array, axes: tuple[str | None, ...], mesh: Any, rules: ShardingRules, sizes: dict[str, int]
) -> P:
    parts = to_sharding(axes, mesh, rules, x.shape).spec
    kept = [tuple(n for n in ((p,) if isinstance(p, str) else p or ()) if n in sizes) for p in parts]
    return P(*(names or None for names in kept))


def _gathered_axes(
    spec: P, axes: tuple[str | None, ...], gather_experts: bool
) -> list[tuple[int, tuple[str, ...]]]:
    stay = {"mlp"} if gather_experts else {"mlp", "experts"}
    return [
        (dim, (part,) if isinstance(part, str) else tuple(part))
        for dim, (part, axis) in enumerate(zip(spec, axes, strict=True))
        if part and axis not in stay
    ]


def _whole(x, spec, axes, token_axes, gather_experts):
    """This device's part of a matrix, with the dimensions gathered that are used whole."""
    for dim, names in _gathered_axes(spec, axes, gather_experts):
        for name in reversed(names):
            # Gradients are summed over the devices that hold different tokens, and equal on the others.
            to = "varying" if name in token_axes else "invarying"
            x = jax.lax.all_gather(x, name, axis=dim, tiled=True, to=to)
        x = checkpoint_name(x, _GATHERED)
    return x
