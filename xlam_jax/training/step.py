"""The train step: one jit over the mesh.

Gradients and losses of the micro-batches are summed and divided once by the global weight. Nothing here
waits for the device; the loop reads metrics one step late.

Axes: A micro-batches, B rows, S positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import with_dropout
from xlam_jax.models.params import Params
from xlam_jax.models.spec import path_name, shapes, shardings
from xlam_jax.parallel import target
from xlam_jax.parallel.rules import ShardingRules, batch_sharding
from xlam_jax.parallel.xla_flags import step_options
from xlam_jax.shards.batch import Batch
from xlam_jax.training import norms, optimizer, partition
from xlam_jax.training.objectives import Objective
from xlam_jax.training.partition import Frozen
from xlam_jax.training.rounding import salted

Metrics = dict[str, Any]
# Of a step's metrics those that are no averages: `tokens` are not padding, `row_finite` is [A, B], `grad_squares`
# see `norms.squares`, `applied` is False when the update was refused, `params_finite` is of the updated parameters,
# `pairs` are counted by the loop (`efficiency`).
COUNTS = (
    "weight", "tokens", "targets", "finite", "applied", "params_finite", "row_finite", "grad_squares", "param_squares",
    "pairs",
)  # fmt: skip


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
    """Shapes and `NamedSharding`s of a state, at every leaf; moments lie where their parameters lie.

    Args:
      dtype: of the parameters.
      freeze, freeze_layers: what is not trained, see `partition.split`.

    Returns:
      the state's `jax.ShapeDtypeStruct`s, and its shardings.
    """

    def make(params: Params) -> TrainState:
        trained, frozen = partition.split(params, cfg, freeze, freeze_layers)
        return TrainState(jnp.zeros((), jnp.int32), trained, tx.init(trained), frozen)

    state = jax.eval_shape(make, shapes(cfg, dtype))
    trained, frozen = partition.split_like(shardings(cfg, mesh), cfg, freeze, freeze_layers)
    everywhere = NamedSharding(mesh, P())
    opt_state = opt_state_shardings(state, trained, everywhere)
    return state, TrainState(everywhere, trained, opt_state, frozen)


def opt_state_shardings(state: TrainState, trained: Any, everywhere: NamedSharding) -> Any:
    """A leaf of the optimizer's state whose path ends with a parameter's lies where that lies, but is whole
    along axes on which it is smaller (factored moments)."""
    params = {
        path_name(path): (p.shape, place.spec)
        for (path, p), place in zip(
            jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(trained), strict=True
        )
    }

    def place(path: tuple, x: Any) -> NamedSharding:
        names = path_name(path).split(".")
        ends = (".".join(names[start:]) for start in range(len(names)))
        shape, spec = next((params[end] for end in ends if end in params), ((), P()))
        if len(shape) != x.ndim:
            return everywhere
        axes = (*spec, *[None] * (len(shape) - len(spec)))
        kept = [axis if n == m else None for axis, n, m in zip(axes, shape, x.shape, strict=True)]
        return NamedSharding(everywhere.mesh, P(*kept))

    return jax.tree_util.tree_map_with_path(place, state.opt_state)


def init_state(
    params: Params,
    cfg: ModelConfig,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    freeze: Sequence[str] = (),
    freeze_layers: int = 0,
) -> tuple[TrainState, TrainState]:
    """A fresh state from whole parameters (whose buffers it takes over), and its shardings.

    Args:
      tx: its `init` gives the optimizer's part.
      freeze, freeze_layers: what is not trained, see `partition.split`.
    """
    dtype = jax.tree.leaves(params)[0].dtype
    _, state_shardings = state_spec(cfg, tx, mesh, dtype, freeze, freeze_layers)

    def make(params: Params) -> TrainState:
        trained, frozen = partition.split(params, cfg, freeze, freeze_layers)
        return TrainState(jnp.zeros((), jnp.int32), trained, tx.init(trained), frozen)

    params = jax.tree.map(jax.device_put, params, shardings(cfg, mesh))
    # Split stacks are new arrays, so there is nothing to reuse then.
    donate = () if freeze_layers else 0
    return jax.jit(make, out_shardings=state_shardings, donate_argnums=donate)(params), state_shardings


def micro_sharding(mesh: Mesh, rules: ShardingRules | None = None) -> NamedSharding:
    """Sharding of `[A, B, S]` fields: micro-batches follow each other in time, rows lie over the mesh."""
    rows = batch_sharding(mesh, rules) if rules else batch_sharding(mesh)
    return NamedSharding(mesh, P(None, *rows.spec))


NO_LIMIT = np.full(2, np.inf, np.float32)


def make_step(
    objective: Objective,
    tx: optax.GradientTransformation,
    state_shardings: TrainState,
    rounding: optimizer.Rounding = "stochastic",
    seed: int = 0,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The jitted step `(state, batch_ABS, lr, limits=NO_LIMIT) -> (state, metrics)`; the state is donated.

    `limits` float32 [2]: largest loss and gradient norm. A step beyond them, or not finite, leaves parameters
    and moments as they were, so that bad rows never enter the model, whatever is decided about them later.

    Args:
      seed: of dropout masks and stochastic rounding.

    Metrics (replicated): `loss` and the objective's other averages (`accuracy`, ...), `grad_norm` (before
    clipping), and `COUNTS`.
    """

    def step(
        state: TrainState, batch: Batch, lr: jax.Array, limits: Any = NO_LIMIT
    ) -> tuple[TrainState, Metrics]:
        grads, sums, row_finite = accumulate(objective, state, batch, seed)
        weight = jnp.maximum(sums["weight_sum"], 1e-6)
        grads = jax.tree.map(lambda g: g / weight.astype(g.dtype), grads)
        loss = sums["loss_sum"] / weight
        grad_squares = norms.squares(grads)
        norm = norms.total(grad_squares)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        applied = finite & (loss <= limits[0]) & (norm <= limits[1])
        with jax.named_scope("optimizer"):
            direction, opt_state = tx.update(grads, state.opt_state, state.params)
            params = optimizer.apply(state.params, direction, lr, salted(state.step, seed), rounding)
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(applied, new, old),
                (params, opt_state),
                (state.params, state.opt_state),
            )
            # Read where it is written: a finite gradient may still carry a parameter beyond what its dtype holds.
            params_finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()
        new = dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state)
        metrics = {
            **averages(sums),
            "grad_norm": norm,
            "grad_squares": grad_squares,
            "weight": sums["weight_sum"],
            "tokens": (batch.segment_ids > 0).sum(),
            "targets": (batch.loss_weights > 0).sum(),
            "finite": finite,
            "applied": applied,
            "params_finite": params_finite,
            "row_finite": row_finite,
        }
        return new, metrics

    everywhere = jax.tree.leaves(state_shardings.step)[0]
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(state_shardings, everywhere),
        compiler_options=step_options(target.platform()) or None,
    )


def accumulate(
    objective: Objective, state: TrainState, batch: Batch, seed: int = 0
) -> tuple[Any, dict[str, jax.Array], jax.Array]:
    """(gradient of the loss sum, sums by name, row_finite [A, B]) over the micro-batches of `[A, B, S]`.

    Args:
      state: `state.step` and `seed` decide which weights a dropout leaves out.
    """

    def loss(params: Any, micro: Batch) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        whole = with_dropout(partition.combine(params, state.frozen), state.step, micro.tokens, seed)
        loss_sum, weight_sum, metrics = objective(whole, micro, state.frozen.below)
        sums = {k: v for k, v in metrics.items() if k.endswith("_sum")}
        return loss_sum, ({"loss_sum": loss_sum, "weight_sum": weight_sum, **sums}, metrics["row_finite"])

    grad = jax.grad(loss, has_aux=True)
    if batch.tokens.shape[0] == 1:  # no second copy of the gradients
        grads, (sums, finite) = grad(state.params, jax.tree.map(lambda x: x[0], batch))
        return grads, sums, finite[None]

    def add(n: jax.Array, carry: tuple) -> tuple:
        total, all_finite = carry
        micro = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, n, keepdims=False), batch)
        grads, (sums, finite) = grad(state.params, micro)
        all_finite = jax.lax.dynamic_update_index_in_dim(all_finite, finite, n, axis=0)
        return jax.tree.map(jnp.add, total, (grads, sums)), all_finite

    shapes = jax.eval_shape(lambda m: grad(state.params, m), jax.tree.map(lambda x: x[0], batch))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[1]))
    zeros = (zeros[0], zeros[1][0]), jnp.zeros((batch.tokens.shape[0], *zeros[1][1].shape), bool)
    # A number of turns that the compiler does not know (a step is never below 0): it would unroll the loop, which holds
    # a whole forward and backward pass, to overlap what in its turns there is nothing to overlap of.
    count = batch.tokens.shape[0] + jnp.minimum(state.step, 0)
    (grads, sums), finite = jax.lax.fori_loop(0, count, add, zeros)
    return grads, sums, finite


def averages(sums: Mapping[str, Any]) -> dict[str, Any]:
    """`X_sum` divided by the weight, as `X`; the loss first."""
    weight = jnp.maximum(sums["weight_sum"], 1e-6)
    return {name.removesuffix("_sum"): x / weight for name, x in sums.items() if name != "weight_sum"}


def make_eval(objective: Objective) -> Callable[[Params, Any], dict[str, jax.Array]]:
    """The jitted `(whole params, batch_BS) -> sums by name`, `loss_sum` and `weight_sum` among them."""

    def evaluate(params: Params, batch: Any) -> dict[str, jax.Array]:
        loss_sum, weight_sum, metrics = objective(params, batch)
        sums = {k: v for k, v in metrics.items() if k.endswith("_sum")}
        return {"loss_sum": loss_sum, "weight_sum": weight_sum, **sums}

    return jax.jit(evaluate)
