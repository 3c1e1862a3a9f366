"""The train step: one jit over the mesh.

Gradients and losses of the micro-batches are summed and divided once by the global weight. Nothing here
waits for the device; the loop reads metrics one step late.

Axes: A micro-batches, B rows, S positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xlam_jax.data.batch import Batch
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import with_dropout
from xlam_jax.models.params import Params
from xlam_jax.models.spec import shapes, shardings
from xlam_jax.parallel.rules import ShardingRules, batch_sharding
from xlam_jax.training import optimizer, partition
from xlam_jax.training.objectives import Objective
from xlam_jax.training.partition import Frozen

Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """`step` int32, done so far; `params` the trained leaves; `opt_state` of these; `frozen` the others."""

    step: Any
    params: Any
    opt_state: Any
    frozen: Frozen


def state_spec(
    cfg: ModelConfig,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    dtype: Any = jnp.float32,
    freeze: Sequence[str] = (),
    freeze_layers: int = 0,
) -> tuple[TrainState, TrainState]:
    """Shapes and `NamedSharding`s of a state, at every leaf; moments lie where their parameters lie."""

    def make(params: Params) -> TrainState:
        trained, frozen = partition.split(params, cfg, freeze, freeze_layers)
        return TrainState(jnp.zeros((), jnp.int32), trained, tx.init(trained), frozen)

    state = jax.eval_shape(make, shapes(cfg, dtype))
    trained, frozen = partition.split_like(shardings(cfg, mesh), cfg, freeze, freeze_layers)
    everywhere = NamedSharding(mesh, P())
    opt_state = optax.tree_map_params(
        tx, lambda _, s: s, state.opt_state, trained, transform_non_params=lambda _: everywhere
    )
    return state, TrainState(everywhere, trained, opt_state, frozen)


def init_state(
    params: Params,
    cfg: ModelConfig,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    freeze: Sequence[str] = (),
    freeze_layers: int = 0,
) -> tuple[TrainState, TrainState]:
    """A fresh state from whole parameters (whose buffers it takes over), and its shardings."""
    dtype = jax.tree.leaves(params)[0].dtype
    _, places = state_spec(cfg, tx, mesh, dtype, freeze, freeze_layers)

    def make(params: Params) -> TrainState:
        trained, frozen = partition.split(params, cfg, freeze, freeze_layers)
        return TrainState(jnp.zeros((), jnp.int32), trained, tx.init(trained), frozen)

    params = jax.tree.map(jax.device_put, params, shardings(cfg, mesh))
    # Split stacks are new arrays, so there is nothing to reuse then.
    donate = () if freeze_layers else 0
    return jax.jit(make, out_shardings=places, donate_argnums=donate)(params), places


def micro_sharding(mesh: Mesh, rules: ShardingRules | None = None) -> NamedSharding:
    """Sharding of `[A, B, S]` fields: micro-batches follow each other in time, rows lie over the mesh."""
    rows = batch_sharding(mesh, rules) if rules else batch_sharding(mesh)
    return NamedSharding(mesh, P(None, *rows.spec))


def make_step(
    objective: Objective, tx: optax.GradientTransformation, places: TrainState
) -> Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]:
    """The jitted step `(state, batch_ABS, lr) -> (state, metrics)`; the state given is donated.

    Metrics (replicated): `loss`, `accuracy`, `grad_norm` (before clipping), `weight`, `tokens` (not padding),
    `targets`, `finite`, `row_finite` [A, B].
    """

    def step(state: TrainState, batch: Batch, lr: jax.Array) -> tuple[TrainState, Metrics]:
        grads, sums, row_finite = accumulate(objective, state, batch)
        weight = jnp.maximum(sums["weight_sum"], 1e-6)
        grads = jax.tree.map(lambda g: g / weight.astype(g.dtype), grads)
        norm = optax.global_norm(grads)
        direction, opt_state = tx.update(grads, state.opt_state, state.params)
        new = dataclasses.replace(
            state,
            step=state.step + 1,
            params=optimizer.apply(state.params, direction, lr),
            opt_state=opt_state,
        )
        loss = sums["loss_sum"] / weight
        metrics = {
            "loss": loss,
            "accuracy": sums["correct_sum"] / weight,
            "grad_norm": norm,
            "weight": sums["weight_sum"],
            "tokens": (batch.segment_ids > 0).sum(),
            "targets": (batch.loss_weights > 0).sum(),
            "finite": jnp.isfinite(loss) & jnp.isfinite(norm),
            "row_finite": row_finite,
        }
        return new, metrics

    everywhere = jax.tree.leaves(places.step)[0]
    return jax.jit(step, donate_argnums=0, out_shardings=(places, everywhere))


def accumulate(
    objective: Objective, state: TrainState, batch: Batch
) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """(gradient of the loss sum, sums by name, row_finite [A, B]) over the micro-batches of `[A, B, S]`."""

    def loss(params: Any, micro: Batch) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        whole = with_dropout(partition.combine(params, state.frozen), state.step, micro.tokens)
        loss_sum, weight_sum, metrics = objective(whole, micro, state.frozen.below)
        sums = {k: v for k, v in metrics.items() if k.endswith("_sum")}
        return loss_sum, ({"loss_sum": loss_sum, "weight_sum": weight_sum, **sums}, metrics["row_finite"])

    grad = jax.grad(loss, has_aux=True)
    if batch.tokens.shape[0] == 1:  # no second copy of the gradients
        grads, (sums, finite) = grad(state.params, jax.tree.map(lambda x: x[0], batch))
        return grads, sums, finite[None]

    def add(carry: tuple, micro: Batch) -> tuple[tuple, jax.Array]:
        grads, (sums, finite) = grad(state.params, micro)
        return jax.tree.map(jnp.add, carry, (grads, sums)), finite

    shapes = jax.eval_shape(lambda m: grad(state.params, m), jax.tree.map(lambda x: x[0], batch))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[1][0]))
    (grads, sums), finite = jax.lax.scan(add, zeros, batch)
    return grads, sums, finite


def make_eval(objective: Objective) -> Callable[[Params, Batch], dict[str, jax.Array]]:
    """The jitted `(whole params, batch_BS) -> {loss_sum, weight_sum, correct_sum}`."""

    def evaluate(params: Params, batch: Batch) -> dict[str, jax.Array]:
        loss_sum, weight_sum, metrics = objective(params, batch)
        return {"loss_sum": loss_sum, "weight_sum": weight_sum, "correct_sum": metrics["correct_sum"]}

    return jax.jit(evaluate)
