"""Evaluation while training: the loss of held-out rows, and whatever evaluators are handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from xlam_jax.models.params import Params
from xlam_jax.parallel.mesh import batch_share
from xlam_jax.parallel.rules import batch_sharding
from xlam_jax.shards.loader import PackedSource, eval_batches
from xlam_jax.training.setup import Setup
from xlam_jax.training.step import TrainState, averages, make_eval

# An evaluator may have an attribute `every`: it is then called every so many steps instead of every
# `log.eval_every`, and at the end.
Evaluator = Callable[[Params, int], Mapping[str, float]]


class Evaluation:
    """All that is evaluated, and when."""

    def __init__(self, run: Setup, evaluators: Sequence[Evaluator]):
        self._run, self._evaluators = run, evaluators
        self._every = run.config.log.eval_every
        self._loss_fn: Any = None

    def due(self, step: int, end: int) -> bool:
        """Whether anything is evaluated after `step` steps."""
        return self._loss_due(step, end) or any(self._is_due(e, step, end) for e in self._evaluators)

    def run(self, state: TrainState, step: int, end: int) -> dict[str, float]:
        """What is due after `step` steps, by name."""
        params = self._run.trained.whole(state)
        metrics: dict[str, float] = {}
        if self._run.eval_data and self._loss_due(step, end):
            metrics.update(self._loss(state, params, self._run.eval_data))
        for evaluator in self._evaluators:
            if self._is_due(evaluator, step, end):
                metrics.update(evaluator(params, step))
        return metrics

    def _loss_due(self, step: int, end: int) -> bool:
        return bool(self._run.eval_data) and (step == end or bool(self._every and step % self._every == 0))

    def _is_due(self, evaluator: Evaluator, step: int, end: int) -> bool:
        every = getattr(evaluator, "every", 0) or self._every
        return step == end or bool(every and step % every == 0)

    def _loss(self, state: TrainState, params: Params, data: PackedSource) -> dict[str, float]:
        run = self._run
        self._loss_fn = self._loss_fn or make_eval(run.task.objective(data))
        sums: dict[str, float] = {}
        place = batch_sharding(run.mesh)
        for batch in eval_batches(data, run.micro, *batch_share(run.mesh)):
            part = type(batch)(*(field[0] for field in batch))
            values = jax.device_get(self._loss_fn(params, run.put(part, state, place)))
            sums = {k: sums.get(k, 0.0) + float(v) for k, v in values.items()}
        return {f"eval_{k}": float(v) for k, v in averages(sums).items()}
