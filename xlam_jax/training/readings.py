"""What the steps of a run measured: read, judged, logged and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from xlam_jax.shards.loader import Steps
from xlam_jax.training import norms, run_folder
from xlam_jax.training.checkpoint import Store
from xlam_jax.training.checks import broken_update, named_records, not_finite, spiked
from xlam_jax.training.efficiency import Efficiency
from xlam_jax.training.progress import Meter, StepClock, memory
from xlam_jax.training.setup import Setup, row_losses
from xlam_jax.training.spikes import SpikeRule
from xlam_jax.training.step import COUNTS, Metrics, TrainState
from xlam_jax.training.watchdog import Watchdog


class Readings:
    """Takes the metrics of each step, one step late, so that the device never waits for the host.

    Args:
      steps: the rows of each step.
      rate: of a step, the learning rate.
      end: number of steps after which the session ends.
      log, shown: metrics.jsonl and the screen.

    Attributes:
      last: the newest scalars, the learning rate among them.
      rates: tokens per second and the like, as of the last step that was read; saving is not counted.
      skipped: steps whose update was refused.
    """

    def __init__(
        self,
        run: Setup,
        steps: Steps,
        rule: SpikeRule,
        rate: Callable[[int], float],
        end: int,
        clock: StepClock,
        watchdog: Watchdog,
        store: Store,
        log: run_folder.MetricsLog,
        shown: Any,
        efficiency: Efficiency,
    ):
        self._run, self._steps, self._rule, self._rate, self._end = run, steps, rule, rate, end
        self._clock, self._watchdog, self._store = clock, watchdog, store
        self._log, self._shown, self.efficiency = log, shown, efficiency
        self.window, self._overall = Meter(), Meter()
        self.rates = self._overall.rates()
        self.last: dict[str, Any] = {}
        self.skipped = 0

    def take(self, number: int, metrics: Metrics, state: TrainState, saved: int) -> None:
        """Reads the metrics of a step, which waits for the device; raises on what must not go on.

        Args:
          state: after this step or the next; bad updates are in neither.
          saved: step of the newest checkpoint.
        """
        run, config = self._run, self._run.config
        values = jax.device_get(metrics)
        seconds = self._clock.lap()
        self._watchdog.beat(seconds)
        self._judge(number, values, state, saved)
        counts = (int(values["tokens"]), int(values["targets"]), config.batch.rows * run.data.seq_len)
        self.window.add(*counts)
        self.efficiency.add(counts[0], values["pairs"], seconds)
        if seconds is None:
            self._overall.restart()  # the first step compiles
        else:
            self._overall.add(*counts)
        self.rates = self._overall.rates()
        scalars = {k: float(v) for k, v in values.items() if k not in COUNTS}
        self.last = {"step": number + 1, **scalars, "lr": self._rate(number)}
        if (number + 1) % config.log.every == 0 or number + 1 == self._end:
            self._show(number, applied=bool(values["applied"]))
        if "param_squares" in values:
            kinds = ("grad", "param")
            row = {f"{kind}_norms": norms.as_norms(values[f"{kind}_squares"]) for kind in kinds}
            self._log.add({"step": number + 1, **row})

    def _judge(self, number: int, values: dict[str, Any], state: TrainState, saved: int) -> None:
        loss, norm, applied = float(values["loss"]), float(values["grad_norm"]), bool(values["applied"])
        limits = self._rule.limits(number)
        if not self._rule.add(number, loss, norm, applied):
            self._store.wait()
            if not values["finite"]:
                raise not_finite(number, values, self._steps, saved)
            raise spiked(number, values, limits, self._steps, row_losses(self._run, state, number), saved)
        if not values["params_finite"]:
            self._store.wait()
            raise broken_update(number, values, self._steps, saved)
        if not applied:
            self.skipped += 1
            bad = ~values["row_finite"]
            rows = bad if bad.any() else np.ones_like(bad)
            ids = named_records(self._steps.record_ids(number), np.argwhere(rows))
            facts = {"loss": repr(loss), "grad_norm": repr(norm)}
            run_folder.note(self._run.out, "skipped", number + 1, **facts, records=ids)
            self._shown.say(f"step {number + 1} skipped: loss {facts['loss']}, gradient {facts['grad_norm']}")

    def _show(self, number: int, *, applied: bool) -> None:
        run = self._run
        epoch = round((number + 1) * run.config.batch.rows / len(run.data), 4)
        row = {**self.last, "epoch": epoch, **self.window.rates(), **self.efficiency.recent()}
        row |= {"goodput": self._clock.goodput, "seconds": run.seconds(), **memory()}
        self._log.add(row if applied else {**row, "skipped": True})
        self._shown.show(row)
        for line in run.task.warnings(row):
            self._shown.say(f"warning, step {number + 1}: {line}")
        self.window.restart()
