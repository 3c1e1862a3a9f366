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
from xlam_jax.training.config import TrainConfig, binding
from xlam_jax.training.efficiency import Efficiency
from xlam_jax.training.evaluating import Evaluation, Evaluator
from xlam_jax.training.kept import complete_steps, lost, room_for
from xlam_jax.training.length import fix_steps, total_on_resume
from xlam_jax.training.optimizer import check_warmup, learning_rate
from xlam_jax.training.profiling import StepProfiler
from xlam_jax.training.progress import StepClock, display, peak_rss
from xlam_jax.training.readings import Readings
from xlam_jax.training.report import write_report
from xlam_jax.training.setup import ChooseRemat, Setup, describe_model, set_up
from xlam_jax.training.shared import all_agree, check_shared
from xlam_jax.training.signals import Interrupts
from xlam_jax.training.spikes import SpikeRule
from xlam_jax.training.step import TrainState
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
    choose_remat: ChooseRemat | None = None,
) -> TrainResult:
    """Trains until the last step, `stop_at`, or a signal; saves whenever it stops.

    Args:
      evaluators: called with (whole parameters, step) every `log.eval_every` steps (or their own `every`) and
        at the end; what they return is logged.
      resume: "auto" goes on from the newest checkpoint in `out` if there is one, "must" refuses to start
        without, "never" refuses to start with one.
      choose_remat: see `set_up`.

    Raises:
      InputError: bad config, data or model; a checkpoint that does not fit.
      WorkError: a loss or gradient that is not finite or stands out, with the step and the record ids.
    """
    began = time.monotonic()
    console = console or Console(stderr=True)
    say = functools.partial(console.print, highlight=False, markup=False)
    out = Path(config.out)
    _check_resume(out, resume)
    need_packages(config.track)
    profiler = StepProfiler(config.log.profile, out)
    run = set_up(config, console, began, choose_remat)  # bad input ends here, before anything is written
    config = run.config
    with (
        room_for(out),
        Interrupts() as interrupts,
        jax.set_mesh(run.mesh),
        _alone(out, say) as lease,
        Watchdog(config.watchdog, out / f"hang-{jax.process_index()}.txt") as watchdog,
        contextlib.closing(profiler),
        _told(out, say),
        open_store(out, config.checkpoint.keep, say) as store,
    ):
        check_shared(out)
        begun = _begin(run, store)
        state, total, done = begun.state, begun.total, begun.step
        steps, rate = run.steps(total), learning_rate(config.optim, total)
        end = min(total, config.stop_at or total)
        clock = StepClock(begun.before.get("productive_seconds", 0.0), run_folder.first_start(out))
        rule = SpikeRule(config.spikes, begun.before.get("spikes"))
        evaluation, efficiency = Evaluation(run, evaluators), Efficiency(config, run.cfg, run.mesh)
        log = _log(run, begun, efficiency, lambda: done)
        saved, evaluated, stopped = done, dict[str, float](), ""

        def save() -> None:
            nonlocal saved
            if lease:
                lease.check()
            progress = {"spikes": rule.state(), "productive_seconds": clock.productive}
            store.save(state, done, {**begun.meta, "total_steps": total, **progress})
            saved = done
            run_folder.note(out, "saved", done)

        def look() -> None:
            """Evaluates, and keeps the run when it is the best so far."""
            metrics = evaluation.run(state, done, end)
            readings.window.restart()
            if not metrics:
                return
            evaluated.update(metrics)
            log.add({"step": done, **metrics})
            shown.say(f"step {done}  " + "  ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
            best = config.checkpoint.best
            value = metrics.get(best) if best else None
            if value is not None and store.beats_best(str(best), value, config.checkpoint.best_mode):
                if saved != done:
                    save()
                store.mark_best(done, str(best), value)
                run_folder.note(out, "best", done, **{str(best): value})

        try:
            with display(console, total, done) as shown:
                readings = Readings(
                    run, steps, rule, rate, end, clock, watchdog, store, log, shown, efficiency
                )
                waiting = None
                due = done and evaluation.due(done, end)
                if due and not all_agree(run_folder.evaluated_at(out, done)):
                    with watchdog.busy():  # due when the run ended before
                        look()
                clock.mark()
                for number, host_batch in batches(steps, done):
                    if number >= end or (stopped := interrupts.agreed()):
                        break
                    profiler.before(number + 1)
                    batch = run.put(host_batch, state)
                    state, metrics = run.step_fn(state, batch, np.float32(rate(number)), rule.limits(number))
                    metrics["pairs"] = efficiency.pairs(host_batch)
                    if config.log.norms_every and (number + 1) % config.log.norms_every == 0:
                        metrics["param_squares"] = norms.param_squares(state.params)
                    else:
                        del metrics["grad_squares"]
                    if waiting:
                        readings.take(*waiting, state, saved)
                    waiting, done = (number, metrics), number + 1
                    every = config.checkpoint.every
                    due_save = done == end or bool(every and done % every == 0)
                    due_look = evaluation.due(done, end)
                    if due_save or due_look:
                        readings.take(*waiting, state, saved)
                        waiting = None
                        with watchdog.busy():
                            if due_save:
                                save()
                            if due_look:
                                look()
                        clock.mark()
                    if profiler.after(done, lambda metrics=metrics: jax.block_until_ready(metrics)):
                        clock.mark()
                if waiting:
                    readings.take(*waiting, state, saved)
                with watchdog.busy():
                    if done > saved:
                        save()
                    store.wait()
        finally:
            with watchdog.busy():  # a tracker may wait for its upload
                log.close()
        stopped = stopped or ("stop_at" if done < total else "")
        run_folder.note(out, "stopped" if stopped else "finished", done, why=stopped or "last step")
        if jax.process_index() == 0:
            run_folder.plot_loss(out, run.task.loss_label)
        speed = efficiency.overall()
        return TrainResult(
            run=str(out), step=done, total_steps=total, finished=done == total, stopped=stopped,
            resumed_from=begun.step, loss=readings.last.get("loss"), accuracy=readings.last.get("accuracy"),
            eval=evaluated, best=store.best, skipped=readings.skipped, **readings.rates,
            seconds_per_step=round(clock.mean, 4), goodput=clock.goodput,
            tflops_per_device=speed.get("tflops_per_device", 0.0), mfu=speed.get("mfu"),
            seconds=run.seconds(), peak_rss_gib=peak_rss(),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Begun:
    """Where a session begins.

    Attributes:
      meta: what its checkpoints say of the run.
      before: what the checkpoint that it goes on from said; empty for a fresh run.
    """

    state: TrainState
    step: int
    total: int
    meta: dict[str, Any]
    before: dict[str, Any]


def _begin(run: Setup, store: Store) -> _Begun:
    """Starts, or goes on where the newest checkpoint ended; the run folder is written once that is allowed."""
    config = run.config
    meta: dict[str, Any] = {
        "config": binding(config) | run.task.facts(),
        "model": model_to_json(run.cfg),
        "data": run.data.fingerprint,
        "codec": run.data.manifest.get("codec"),
        "tokenizer": (run.data.manifest.get("tokenizer") or {}).get("sha256"),
        "versions": run_folder.versions(),
    }
    meta |= run.trained.open()
    restored = store.restore(run.shapes, run.shardings, run.cfg, meta, config.resume_changed)
    if restored:
        state, before = run.trained.restored(restored[0]), restored[1]
        step, total = before["step"], total_on_resume(run, before)
        run.say(f"resumed at step {step} of {total}")
    else:
        step, before = 0, {}
        state, total = fix_steps(run, run.fresh())
    check_warmup(config.optim, total)
    run_folder.prepare(run.out, config, run.data.manifest)
    describe_model(run)
    store.forget_best_after(step)
    return _Begun(state, step, total, meta, before)


def _log(run: Setup, begun: _Begun, efficiency: Efficiency, done: Callable[[], int]) -> run_folder.MetricsLog:
    """metrics.jsonl and the trackers; what they and the report are told of the run is written first.

    Args:
      done: steps so far, for a tracker that fails.
    """
    out, id = run.out, run_folder.tracked_as(run.out, begun.step)
    if jax.process_index() == 0:
        facts = {"total_steps": begun.total, "started": run_folder.first_start(out), "tracked_as": id}
        write_text(out / run_folder.RUN, json.dumps(facts | {"flops": efficiency.formula}) + "\n")
    run_folder.note(out, "resumed" if begun.before else "started", begun.step)

    def failed(name: str, error: str) -> None:
        run_folder.note(out, "tracker_failed", done(), tracker=name, error=error)

    def trackers() -> Trackers:
        config = run.config
        return Trackers(
            config.track, out, id=id, start=begun.step, project=config.track_project,
            config=config.model_dump(mode="json"), say=run.say, failed=failed,
        )  # fmt: skip

    return run_folder.MetricsLog(out, begun.step, trackers)


@contextlib.contextmanager
def _told(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """A failure is noted in the run folder, and its report is written, however the session ends."""
    try:
        yield
    except Exception as e:
        if not isinstance(e, InputError):  # a start that is refused leaves the run as it was
            with contextlib.suppress(OSError):  # the error may be that the disk is full
                run_folder.note(out, "failed", None, error=str(e)[:2000])
        raise
    finally:
        if jax.process_index() == 0 and (out / run_folder.CONFIG).is_file():
            _report(out, say)


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
