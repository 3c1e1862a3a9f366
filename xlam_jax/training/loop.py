"""The training run from top to bottom: set up or resume, step, log, evaluate, save, stop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from xlam_jax.errors import FinalError, InputError, WorkError, XlamError
from xlam_jax.files import write_text
from xlam_jax.lease import Lease
from xlam_jax.shards.loader import batches
from xlam_jax.training import norms, run_folder
from xlam_jax.training.checkpoint import Store, model_to_json, open_store
from xlam_jax.training.checks import broken_update, named_records, not_finite, spiked
from xlam_jax.training.config import TrainConfig, binding
from xlam_jax.training.efficiency import Efficiency
from xlam_jax.training.evaluating import Evaluation, Evaluator
from xlam_jax.training.kept import complete_steps, lost, room_for
from xlam_jax.training.length import fix_steps, total_on_resume
from xlam_jax.training.optimizer import check_warmup, learning_rate
from xlam_jax.training.profiling import Profile
from xlam_jax.training.progress import Meter, StepClock, display, memory, peak_rss
from xlam_jax.training.report import write_report
from xlam_jax.training.setup import Work
from xlam_jax.training.shared import all_agree, check_shared
from xlam_jax.training.signals import Interrupts
from xlam_jax.training.spikes import SpikeRule
from xlam_jax.training.step import COUNTS, Metrics, TrainState
from xlam_jax.training.trackers import Trackers, need_packages
from xlam_jax.training.watchdog import Watchdog

Resume = Literal["auto", "never", "must"]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Where a run stands when `train` returns. Rates exclude compilation and calibration.

    Attributes:
      stopped: "", "stop_at", or the name of a signal.
      best: `{step, metric, value}` of the best checkpoint.
      skipped: steps of this session whose update was refused.
      mfu: see `training.efficiency`; None on devices whose peak is not known.
      goodput: seconds of the steps that led here over seconds since the run was first started.
    """

    run: str
    step: int
    total_steps: int
    finished: bool
    stopped: str
    resumed_from: int
    loss: float | None
    accuracy: float | None
    eval: dict[str, float]
    best: dict[str, Any] | None
    skipped: int
    tokens_per_second: float
    target_tokens_per_second: float
    padded_tokens_per_second: float
    seconds_per_step: float
    tflops_per_device: float
    mfu: float | None
    goodput: float
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
      evaluators: called with (whole parameters, step) every `log.eval_every` steps (or their own `every`) and
        at the end; what they return is logged.
      resume: "auto" goes on from the newest checkpoint in `out` if there is one, "must" refuses to start
        without, "never" refuses to start with one.

    Raises:
      InputError: bad config, data or model; a checkpoint that does not fit.
      WorkError: a loss or gradient that is not finite or stands out, with the step and the record ids.
    """
    began = time.monotonic()
    console = console or Console(stderr=True)
    run = Path(config.out)
    _check_resume(run, resume)
    need_packages(config.track)
    profile = Profile(config.log.profile, run)
    work = Work(config, console, began)
    say = functools.partial(console.print, highlight=False, markup=False)
    dump = run / f"hang-{jax.process_index()}.txt"
    with (
        room_for(run),
        Interrupts() as interrupts,
        jax.set_mesh(work.mesh),
        _alone(run, say) as lease,
        Watchdog(config.watchdog, dump) as watchdog,
        contextlib.closing(profile),
    ):
        check_shared(run)
        try:
            with open_store(run, config.checkpoint.keep, say) as store:
                session = _Session(work, store, interrupts, watchdog, profile, lease)
                return session.run(Evaluation(work, evaluators))
        except Exception as e:
            if not isinstance(e, InputError):  # a start that is refused leaves the run as it was
                with contextlib.suppress(OSError):  # the error may be that the disk is full
                    run_folder.note(run, "failed", None, error=str(e)[:2000])
            raise
        finally:
            if jax.process_index() == 0 and (run / run_folder.CONFIG).is_file():
                _report(run, say)


def _report(run: Path, say: Callable[[str], None]) -> None:
    """Writes report.html; what stands in its way is said, and takes nothing from the run."""
    try:
        write_report(run)
    except Exception as e:
        say(f"report.html was not written: {type(e).__name__}: {e}")


def _check_resume(run: Path, resume: Resume) -> None:
    exists = bool(complete_steps(run))
    if resume == "never" and exists:
        raise InputError(
            "the run folder holds checkpoints", where=str(run), hint="--resume auto, or another `out`"
        )
    if resume == "must" and not exists:
        raise InputError("no checkpoint to resume from", where=str(run), hint="--resume auto starts afresh")
    if resume == "auto" and lost(run):
        raise FinalError(
            "this run saved checkpoints, and none is left",
            where=str(run),
            hint="put them back (checkpoints.unreadable holds what was damaged), or start afresh with --resume never",
        )


@contextlib.contextmanager
def _alone(run: Path, say: Callable[[str], None]) -> Iterator[Lease | None]:
    """Holds the lease of the run folder, in process 0 for all of them; the others see whether it was had."""
    with contextlib.ExitStack() as stack:
        lease = error = None
        try:
            if jax.process_index() == 0:
                lease = stack.enter_context(Lease(run / "lease.json", "run folder", say))
        except (XlamError, OSError) as e:  # the others wait for the verdict, whatever it is
            error = e
        if not all_agree(error is None):
            raise error or WorkError("another process works in this run folder", where=str(run))
        yield lease


class _Session:
    """One process's part of a run: from a start or a checkpoint to a stop."""

    def __init__(
        self,
        work: Work,
        store: Store,
        interrupts: Interrupts,
        watchdog: Watchdog,
        profile: Profile,
        lease: Lease | None,
    ):
        self.work, self.store, self.config, self.out = work, store, work.config, work.out
        self.lease = lease
        self.interrupts, self.watchdog, self.profile = interrupts, watchdog, profile
        self.window, self.overall = Meter(), Meter()
        self.efficiency = Efficiency(work.config, work.cfg, work.mesh)
        self.rates = self.overall.rates()  # as of the last step read, saving not counted
        self.last: dict[str, Any] = {}
        self.evaluated: dict[str, float] = {}
        self.skipped = 0

    def run(self, evaluation: Evaluation) -> TrainResult:
        config, work, store = self.config, self.work, self.store
        self.meta: dict[str, Any] = {
            "config": binding(config) | work.task.facts(),
            "model": model_to_json(work.cfg),
            "data": work.data.fingerprint,
            "codec": work.data.manifest.get("codec"),
            "tokenizer": (work.data.manifest.get("tokenizer") or {}).get("sha256"),
            "versions": run_folder.versions(),
        }
        if work.lora:
            self.meta |= work.lora.load_base()
        restored = store.restore(work.shapes, work.places, work.cfg, self.meta, config.resume_changed)
        self.start, found = 0, {}
        if restored:
            state, found = restored
            state = work.lora.with_base(state) if work.lora else state
            self.start = found["step"]
            self.total = total_on_resume(work, found)
            work.console.print(f"resumed at step {self.start} of {self.total}", highlight=False)
        else:
            state, self.total = fix_steps(work, work.fresh())
        check_warmup(config.optim, self.total)
        run_folder.prepare(self.out, config, work.data.manifest)
        work.describe_model(self.out)
        store.forget_best_after(self.start)
        started = run_folder.first_start(self.out)
        self.clock = StepClock(found.get("productive_seconds", 0.0), started)
        self.rule = SpikeRule(config.spikes, found.get("spikes"))
        self.meta["total_steps"] = self.total
        self.end = min(self.total, config.stop_at or self.total)
        self.rate = learning_rate(config.optim, self.total)
        self.saved = self.done = self.start
        tracked_as = run_folder.tracked_as(self.out, self.start)
        if jax.process_index() == 0:
            facts = {"total_steps": self.total, "started": started, "tracked_as": tracked_as}
            facts["flops"] = self.efficiency.formula
            write_text(self.out / run_folder.RUN, json.dumps(facts) + "\n")
        run_folder.note(self.out, "resumed" if restored else "started", self.start)
        self.log = run_folder.MetricsLog(self.out, self.start, lambda: self._trackers(tracked_as))
        try:
            with display(work.console, self.total, self.start) as self.shown:
                stopped = self._steps(state, evaluation)
        finally:
            with self.watchdog.busy():  # a tracker may wait for its upload
                self.log.close()
        return self._result(stopped)

    def _trackers(self, id: str) -> Trackers:
        return Trackers(
            self.config.track,
            self.out,
            id=id,
            start=self.start,
            project=self.config.track_project,
            config=self.config.model_dump(mode="json"),
            say=functools.partial(self.work.console.print, highlight=False, markup=False),
            failed=lambda name, error: run_folder.note(
                self.out, "tracker_failed", self.done, tracker=name, error=error
            ),
        )

    def _steps(self, state: TrainState, evaluation: Evaluation) -> str:
        """The steps; returns the signal that stopped them, if one did."""
        work, every = self.work, self.config.log.norms_every
        self.steps = work.steps(self.total)
        stopped = ""
        waiting: tuple[int, Metrics] | None = None
        due = self.start and evaluation.due(self.start, self.end)
        if due and not all_agree(run_folder.evaluated_at(self.out, self.start)):
            with self.watchdog.busy():  # due when the run ended before
                self._look(state, evaluation)
        self.clock.mark()
        for number, host_batch in batches(self.steps, self.start):
            if number >= self.end:
                break
            if stopped := self.interrupts.agreed():
                break
            self.profile.before(number + 1)
            batch = work.put(host_batch, work.sharding, state)
            limits = self.rule.limits(number)
            state, metrics = work.step_fn(state, batch, np.float32(self.rate(number)), limits)
            metrics["pairs"] = self.efficiency.pairs(host_batch)
            if every and (number + 1) % every == 0:
                metrics["param_squares"] = norms.param_squares(state.params)
            else:
                del metrics["grad_squares"]
            if waiting:
                self._finish(*waiting, state)
            waiting, self.done = (number, metrics), number + 1
            done = self.done
            save = done == self.end or bool(
                self.config.checkpoint.every and done % self.config.checkpoint.every == 0
            )
            look = evaluation.due(done, self.end)
            if save or look:
                self._finish(*waiting, state)
                waiting = None
                with self.watchdog.busy():
                    if save:
                        self._save(state)
                    if look:
                        self._look(state, evaluation)
                self.clock.mark()
            if self.profile.after(done, lambda metrics=metrics: jax.block_until_ready(metrics)):
                self.clock.mark()
        if waiting:
            self._finish(*waiting, state)
        with self.watchdog.busy():
            if self.done > self.saved:
                self._save(state)
            self.store.wait()
        return stopped

    def _finish(self, number: int, metrics: Metrics, state: TrainState) -> None:
        """Reads the metrics of a step, which waits for the device; stops on what must not go on.

        Args:
          state: after this step or the next; bad updates are in neither.
        """
        config, work = self.config, self.work
        values = jax.device_get(metrics)
        seconds = self.clock.lap()
        self.watchdog.beat(seconds)
        loss, norm, applied = float(values["loss"]), float(values["grad_norm"]), bool(values["applied"])
        limits = self.rule.limits(number)
        if not self.rule.add(number, loss, norm, applied):
            self.store.wait()
            if not values["finite"]:
                raise not_finite(number, values, self.steps, self.saved)
            losses = work.row_losses(state, number)
            raise spiked(number, values, limits, self.steps, losses, self.saved)
        if not values["params_finite"]:
            self.store.wait()
            raise broken_update(number, values, self.steps, self.saved)
        if not applied:
            self._skip(number, values)
        counts = (int(values["tokens"]), int(values["targets"]), config.batch.rows * work.data.seq_len)
        self.window.add(*counts)
        self.efficiency.add(counts[0], values["pairs"], seconds)
        if seconds is None:
            self.overall.restart()  # the first step compiles
        else:
            self.overall.add(*counts)
        self.rates = self.overall.rates()
        scalars = {k: float(v) for k, v in values.items() if k not in COUNTS}
        self.last = {"step": number + 1, **scalars, "lr": self.rate(number)}
        if (number + 1) % config.log.every == 0 or number + 1 == self.end:
            epoch = round((number + 1) * config.batch.rows / len(work.data), 4)
            row = {**self.last, "epoch": epoch, **self.window.rates(), **self.efficiency.recent()}
            row |= {"goodput": self.clock.goodput, "seconds": work.seconds(), **memory()}
            self.log.add(row if applied else {**row, "skipped": True})
            self.shown.show(row)
            for line in work.task.warnings(row):
                self.shown.say(f"warning, step {number + 1}: {line}")
            self.window.restart()
        if "param_squares" in values:
            kinds = ("grad", "param")
            found = {f"{kind}_norms": norms.as_norms(values[f"{kind}_squares"]) for kind in kinds}
            self.log.add({"step": number + 1, **found})

    def _skip(self, number: int, values: dict[str, Any]) -> None:
        self.skipped += 1
        bad = ~values["row_finite"]
        rows = bad if bad.any() else np.ones_like(bad)
        ids = named_records(self.steps.record_ids(number), np.argwhere(rows))
        facts = {"loss": repr(float(values["loss"])), "grad_norm": repr(float(values["grad_norm"]))}
        run_folder.note(self.out, "skipped", number + 1, **facts, records=ids)
        self.shown.say(f"step {number + 1} skipped: loss {facts['loss']}, gradient {facts['grad_norm']}")

    def _save(self, state: TrainState) -> None:
        if self.lease:
            self.lease.check()
        progress = {"spikes": self.rule.state(), "productive_seconds": self.clock.productive}
        self.store.save(state, self.done, {**self.meta, **progress})
        self.saved = self.done
        run_folder.note(self.out, "saved", self.done)

    def _look(self, state: TrainState, evaluation: Evaluation) -> None:
        """Evaluates, and keeps the run when it is the best so far."""
        done, config = self.done, self.config.checkpoint
        found = evaluation.run(state, done, self.end)
        self.window.restart()
        if not found:
            return
        self.evaluated = {**self.evaluated, **found}
        self.log.add({"step": done, **found})
        self.shown.say(f"step {done}  " + "  ".join(f"{k} {v:.4f}" for k, v in found.items()))
        value = found.get(config.best) if config.best else None
        if value is not None and self.store.beats_best(str(config.best), value, config.best_mode):
            if self.saved != done:
                self._save(state)
            self.store.mark_best(done, str(config.best), value)
            run_folder.note(self.out, "best", done, **{str(config.best): value})

    def _result(self, stopped: str) -> TrainResult:
        done, total, speed = self.done, self.total, self.efficiency.overall()
        stopped = stopped or ("stop_at" if done < total else "")
        run_folder.note(self.out, "stopped" if stopped else "finished", done, why=stopped or "last step")
        if jax.process_index() == 0:
            run_folder.plot_loss(self.out, self.work.task.loss_label)
        return TrainResult(
            run=str(self.out), step=done, total_steps=total, finished=done == total, stopped=stopped,
            resumed_from=self.start, loss=self.last.get("loss"), accuracy=self.last.get("accuracy"),
            eval=self.evaluated, best=self.store.best, skipped=self.skipped, **self.rates,
            seconds_per_step=round(self.clock.mean, 4), goodput=self.clock.goodput,
            tflops_per_device=speed.get("tflops_per_device", 0.0), mfu=speed.get("mfu"),
            seconds=self.work.seconds(), peak_rss_gib=peak_rss(),
        )  # fmt: skip
