"""The training run from top to bottom: set up or resume, fix the number of steps, step, log, save, stop."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from xlam_jax.data.batch import DTYPES, Batch
from xlam_jax.data.loader import PackedSource, Steps, batches, eval_batches, to_device
from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params
from xlam_jax.models.spec import decay_mask, shapes
from xlam_jax.parallel.mesh import make_mesh
from xlam_jax.parallel.rules import batch_sharding
from xlam_jax.training import partition, run_folder
from xlam_jax.training.checkpoint import Store, complete_steps, model_to_json, open_store, state_bytes
from xlam_jax.training.checks import check_batch, check_context, check_data, no_length, not_finite
from xlam_jax.training.config import TrainConfig, binding
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.optimizer import learning_rate, make_optimizer
from xlam_jax.training.progress import Display, Meter, display, memory
from xlam_jax.training.signals import Interrupts
from xlam_jax.training.step import (
    Metrics,
    TrainState,
    init_state,
    make_eval,
    make_step,
    micro_sharding,
    state_spec,
)

Evaluator = Callable[[Params, int], Mapping[str, float]]
Resume = Literal["auto", "never", "must"]
_CALIBRATION_STEPS = 3


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Where a run stands when `train` returns. Rates exclude compilation and calibration."""

    run: str
    step: int
    total_steps: int
    finished: bool
    stopped: str  # "", "stop_at", "SIGTERM" or "SIGINT"
    resumed_from: int
    loss: float | None
    accuracy: float | None
    eval: dict[str, float]
    tokens_per_second: float
    target_tokens_per_second: float
    padded_tokens_per_second: float
    seconds_per_step: float
    seconds: float
    peak_rss_gib: float


def train(
    config: TrainConfig,
    *,
    evaluators: Sequence[Evaluator] = (),
    console: Console | None = None,
    resume: Resume = "auto",
) -> TrainResult:
    """Trains until the last step, `stop_at`, or a signal; saves whenever it stops.

    Args:
      evaluators: called with (whole parameters, step) every `log.eval_every` steps and at the end; what they
        return is logged.
      resume: "auto" goes on from the newest checkpoint in `out` if there is one, "must" refuses to start
        without, "never" refuses to start with one.

    Raises:
      InputError: bad config, data or model; a checkpoint that does not fit.
      WorkError: a loss or gradient that is not finite, with the step and the record ids.
    """
    began = time.monotonic()
    console = console or Console(stderr=True)
    run = Path(config.out)
    exists = bool(complete_steps(run))
    if resume == "never" and exists:
        raise InputError(
            "the run folder holds checkpoints", where=str(run), hint="--resume auto, or another `out`"
        )
    if resume == "must" and not exists:
        raise InputError("no checkpoint to resume from", where=str(run), hint="--resume auto starts afresh")
    work = _Work(config, console, began)
    with Interrupts() as interrupts, jax.set_mesh(work.mesh):
        run_folder.prepare(run, config)
        work.describe_model(run)
        with open_store(run, config.checkpoint.keep) as store:
            return work.run(store, evaluators, interrupts)


class _Work:
    """One run's objects. Built before anything is written, so that bad input leaves no trace."""

    def __init__(self, config: TrainConfig, console: Console, began: float):
        from xlam_jax.release.folders import check_space
        from xlam_jax.release.hf_in import read_config

        self.config, self.console, self.began = config, console, began
        self.out = Path(config.out)
        self.cfg: ModelConfig = read_config(config.model)
        self.data = PackedSource(config.data.train, verify=config.data.verify)
        self.eval_data = (
            PackedSource(config.data.eval, verify=config.data.verify) if config.data.eval else None
        )
        for source in filter(None, (self.data, self.eval_data)):
            check_data(source, self.cfg, config.model)
        self.mesh = make_mesh(config.mesh)
        micro = check_batch(config, self.mesh)
        check_context(self.data.seq_len, self.mesh)
        partition.check(self.cfg, config.freeze, config.freeze_layers)
        cut = (self.cfg, config.freeze, config.freeze_layers)
        mask, _ = partition.split_like(decay_mask(self.cfg), *cut)
        self.tx = make_optimizer(config.optim, mask)
        self.shapes, self.places = state_spec(
            self.cfg, self.tx, self.mesh, config.precision.param_dtype, *cut[1:]
        )
        self.objective = self._objective(self.data)
        self.step_fn = make_step(self.objective, self.tx, self.places)
        self.sharding = micro_sharding(self.mesh)
        self.micro = micro
        self._trace()
        check_space(self.out, state_bytes(self.shapes))
        self._merge = jax.jit(partition.merge) if config.freeze_layers else partition.merge
        self._eval_fn: Any = None

    def _objective(self, source: PackedSource) -> Any:
        # Rounded up, so that data that differs a little compiles to the same program.
        most = -(-source.manifest["max_row_targets"] // 64) * 64
        return sft_objective(
            self.cfg,
            remat=self.config.remat,
            compute_dtype=self.config.precision.compute_dtype,
            attention=self.config.attention,
            max_targets=most,
        )

    def _trace(self) -> None:
        """Traces the objective, so that a bad `remat` or `attention` is found before anything is written."""
        fields = (jax.ShapeDtypeStruct((self.micro, self.data.seq_len), dtype) for dtype in DTYPES)
        with jax.set_mesh(self.mesh):
            jax.eval_shape(self.objective, shapes(self.cfg), Batch(*fields))

    def describe_model(self, run: Path) -> None:
        """config.json and tokenizer of the model, so that the run folder explains its parameters."""
        from xlam_jax.release.hf_out import write_configs
        from xlam_jax.release.tokenizer_files import copy_tokenizer

        if jax.process_index() == 0:
            write_configs(run, self.cfg, self.config.precision.param_dtype)
            if (Path(self.config.model) / "tokenizer.json").is_file():
                copy_tokenizer(self.config.model, run)

    def steps(self, num_steps: int) -> Steps:
        batch = self.config.batch
        hosts = (jax.process_index(), jax.process_count())
        return Steps(self.data, batch.rows, batch.accumulation, self.config.seed, num_steps, *hosts)

    # -- the run ----

    def run(self, store: Store, evaluators: Sequence[Evaluator], interrupts: Interrupts) -> TrainResult:
        config = self.config
        meta: dict[str, Any] = {
            "config": binding(config),
            "model": model_to_json(self.cfg),
            "data": self.data.fingerprint,
            "codec": self.data.manifest.get("codec"),
            "tokenizer": (self.data.manifest.get("tokenizer") or {}).get("sha256"),
            "versions": run_folder.versions(),
        }
        restored = store.restore(self.shapes, self.places, self.cfg, meta, config.resume_changed)
        if restored:
            state, found = restored
            start = found["step"]
            total = config.steps if config.steps != "auto" else found["total_steps"]
            self.console.print(f"resumed at step {start} of {total}", highlight=False)
        else:
            start, state = 0, self._fresh()
            state, total = self._fix_steps(state)
        meta["total_steps"] = total
        if jax.process_index() == 0:
            run_folder.write(self.out / "run.json", f'{{"total_steps": {total}}}\n')
        end = min(total, config.stop_at or total)
        log = run_folder.MetricsLog(self.out, start, config.track)
        try:
            with display(self.console, total, start) as shown:
                return self._steps(state, start, end, total, store, meta, log, shown, evaluators, interrupts)
        finally:
            log.close()

    def _fresh(self) -> TrainState:
        from xlam_jax.release import load_model

        cfg, params = load_model(self.config.model, dtype=self.config.precision.param_dtype, mesh=self.mesh)
        assert cfg == self.cfg, "config.json changed while it was read"
        state, _ = init_state(params, cfg, self.tx, self.mesh, self.config.freeze, self.config.freeze_layers)
        return state

    def _steps(
        self, state: TrainState, start: int, end: int, total: int, store: Store, meta: dict,
        log: run_folder.MetricsLog, shown: Display, evaluators: Sequence[Evaluator], interrupts: Interrupts,
    ) -> TrainResult:  # fmt: skip
        config, rate, steps = self.config, learning_rate(self.config.optim, total), self.steps(total)
        window, overall = Meter(), Meter()
        last: dict[str, Any] = {}
        evaluated: dict[str, float] = {}
        saved = done = start
        rates, finished = overall.rates(), list[float]()  # as of the last step read, saving not counted
        stopped = ""
        waiting: tuple[int, Metrics] | None = None

        def finish(number: int, metrics: Metrics) -> None:
            """Reads the metrics of a step, which waits for the device; stops on what is not finite."""
            nonlocal last, rates
            values = jax.device_get(metrics)
            if not values["finite"]:
                store.wait()
                raise not_finite(number, values, steps, saved)
            counts = (int(values["tokens"]), int(values["targets"]), config.batch.rows * self.data.seq_len)
            window.add(*counts)
            if not finished:
                overall.restart()  # the first step compiles
            else:
                overall.add(*counts)
            finished.append(time.monotonic())
            rates = overall.rates()
            scalars = {k: float(values[k]) for k in ("loss", "accuracy", "grad_norm")}
            last = {"step": number + 1, **scalars, "lr": rate(number)}
            if (number + 1) % config.log.every == 0 or number + 1 == end:
                row = {**last, **window.rates(), "seconds": self._seconds(), **memory()}
                log.add(row)
                shown.show(row)
                window.restart()

        for number, host_batch in batches(steps, start):
            if number >= end:
                break
            if stopped := interrupts.agreed():
                break
            batch = to_device(host_batch, self.sharding)
            state, metrics = self.step_fn(state, batch, np.float32(rate(number)))
            if waiting:
                finish(*waiting)
            waiting, done = (number, metrics), number + 1
            save = done == end or (config.checkpoint.every and done % config.checkpoint.every == 0)
            look = done == end or (config.log.eval_every and done % config.log.eval_every == 0)
            if save or look:
                finish(*waiting)
                waiting = None
            if save:
                store.save(state, done, meta)
                saved = done
            if look:
                if evaluated := self._evaluate(state, done, evaluators):
                    log.add({"step": done, **evaluated})
                    shown.say(f"step {done}  " + "  ".join(f"{k} {v:.4f}" for k, v in evaluated.items()))
                window.restart()
        if waiting:
            finish(*waiting)
        seconds_per_step = (finished[-1] - finished[0]) / max(1, len(finished) - 1) if finished else 0.0
        if done > saved:
            store.save(state, done, meta)
        store.wait()
        if jax.process_index() == 0:
            run_folder.plot_loss(self.out)
        return TrainResult(
            run=str(self.out), step=done, total_steps=total, finished=done == total,
            stopped=stopped or ("stop_at" if done < total else ""), resumed_from=start,
            loss=last.get("loss"), accuracy=last.get("accuracy"), eval=evaluated, **rates,
            seconds_per_step=round(seconds_per_step, 4), seconds=self._seconds(), peak_rss_gib=_peak_rss(),
        )  # fmt: skip

    def _seconds(self) -> float:
        return round(time.monotonic() - self.began, 2)

    # -- how many steps ----

    def _fix_steps(self, state: TrainState) -> tuple[TrainState, int]:
        """The number of steps; with `max_minutes` from measured times. The state stays as it was."""
        config = self.config
        if config.steps != "auto":
            return state, config.steps
        if config.max_minutes is None and config.max_epochs is None:
            raise no_length()
        total = math.inf
        if config.max_epochs is not None:
            total = max(1, math.ceil(config.max_epochs * len(self.data) / config.batch.rows))
        if config.max_minutes is not None:
            state, seconds = self._calibrate(state)
            left = config.max_minutes * 60 - (time.monotonic() - self.began) - self._closing_seconds(seconds)
            total = min(total, max(1, math.floor(left / seconds)))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            total = int(multihost_utils.broadcast_one_to_all(np.int32(total)))
        epochs = total * config.batch.rows / len(self.data)
        self.console.print(f"{total} steps, {epochs:.2f} epochs", highlight=False)
        return state, int(total)

    def _calibrate(self, state: TrainState) -> tuple[TrainState, float]:
        """Median seconds of a step. A learning rate of 0 keeps the parameters; the moments are made anew."""
        times = []
        for number, host_batch in batches(self.steps(1 + _CALIBRATION_STEPS)):
            batch = to_device(host_batch, self.sharding)
            start = time.monotonic()
            state, metrics = self.step_fn(state, batch, np.float32(0))
            values = jax.device_get(metrics)
            times.append(time.monotonic() - start)
            if not values["finite"]:
                raise not_finite(number, values, self.steps(number + 1), 0)
        opt_state = jax.jit(self.tx.init, out_shardings=self.places.opt_state)(state.params)
        step = jax.device_put(np.int32(0), self.places.step)
        return dataclasses.replace(state, step=step, opt_state=opt_state), statistics.median(times[1:])

    def _closing_seconds(self, step_seconds: float) -> float:
        """A generous guess at the last checkpoint and the evaluations."""
        saving = 2 + state_bytes(self.shapes) / 100e6
        if not self.eval_data:
            return saving
        forward = step_seconds / self.config.batch.rows / 2
        return saving + len(self.eval_data) * forward

    # -- evaluation ----

    def _evaluate(self, state: TrainState, step: int, evaluators: Sequence[Evaluator]) -> dict[str, float]:
        if not self.eval_data and not evaluators:
            return {}
        params = self._merge(state.params, state.frozen)
        found: dict[str, float] = {}
        if self.eval_data:
            self._eval_fn = self._eval_fn or make_eval(self._objective(self.eval_data))
            sums = {"loss_sum": 0.0, "weight_sum": 0.0, "correct_sum": 0.0}
            place = batch_sharding(self.mesh)
            for batch in eval_batches(self.eval_data, self.micro, jax.process_index(), jax.process_count()):
                rows = Batch(*(field[0] for field in batch))
                values = jax.device_get(self._eval_fn(params, to_device(rows, place)))
                sums = {k: sums[k] + float(values[k]) for k in sums}
            found["eval_loss"] = sums["loss_sum"] / sums["weight_sum"]
            found["eval_accuracy"] = sums["correct_sum"] / sums["weight_sum"]
        for evaluator in evaluators:
            found.update(evaluator(params, step))
        return found


def _peak_rss() -> float:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 3)
