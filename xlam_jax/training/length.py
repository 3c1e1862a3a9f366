"""How many steps a run has, when a clock or a number of epochs says so."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import Any

import jax
import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.shards.loader import batches
from xlam_jax.training.checkpoint import state_bytes
from xlam_jax.training.checks import no_length, not_finite
from xlam_jax.training.config import LENGTH
from xlam_jax.training.setup import Setup
from xlam_jax.training.step import TrainState

_CALIBRATION_STEPS = 3


def fix_steps(run: Setup, state: TrainState) -> tuple[TrainState, int]:
    """The number of steps; with `max_minutes` from measured times. The state stays as it was."""
    config = run.config
    if config.steps != "auto":
        return state, config.steps
    if config.max_minutes is None and config.max_epochs is None:
        raise no_length()
    total = math.inf
    if config.max_epochs is not None:
        total = max(1, math.ceil(config.max_epochs * len(run.data) / config.batch.rows))
    if config.max_minutes is not None:
        state, seconds = _calibrate(run, state)
        left = config.max_minutes * 60 - (time.monotonic() - run.began) - _closing_seconds(run, seconds)
        total = min(total, max(1, math.floor(left / seconds)))
    total = _from_first(int(total))
    epochs = total * config.batch.rows / len(run.data)
    run.say(f"{total} steps, {epochs:.2f} epochs")
    return state, total


def total_on_resume(run: Setup, meta: dict[str, Any]) -> int:
    """The number of steps of a run that goes on from a checkpoint with `meta`.

    It stays what it was; where `max_epochs` or `max_minutes` were changed (and `resume_changed` allows that), it
    is reckoned anew, the minutes from now on by the time that the steps so far took.
    """
    config, before = run.config, meta["config"]
    if config.steps != "auto":
        if config.steps < meta["step"]:
            raise InputError(
                f"the run has made {meta['step']} steps already",
                where=f"steps: {config.steps}",
                hint="as many or more, or another `out`",
            )
        return config.steps
    if all(before.get(key) == getattr(config, key) for key in LENGTH):
        return meta["total_steps"]
    total, done = math.inf, meta["step"]
    if config.max_epochs is not None:
        total = max(1, math.ceil(config.max_epochs * len(run.data) / config.batch.rows))
    if config.max_minutes is not None:
        seconds = meta["productive_seconds"] / done
        left = config.max_minutes * 60 - (time.monotonic() - run.began) - _closing_seconds(run, seconds)
        total = min(total, done + max(0, math.floor(left / seconds)))
    total = _from_first(max(done, int(total)))
    run.say(f"{total} steps, by {' and '.join(LENGTH)} as they are now")
    return total


def _from_first(total: int) -> int:
    """What process 0 says, whose clock counts."""
    if jax.process_count() == 1:
        return total
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(total)))


def _calibrate(run: Setup, state: TrainState) -> tuple[TrainState, float]:
    """Median seconds of a step. A learning rate of 0 keeps the parameters; the moments are made anew."""
    times = []
    for number, host_batch in batches(run.steps(1 + _CALIBRATION_STEPS)):
        batch = run.put(host_batch, state)
        start = time.monotonic()
        state, metrics = run.step_fn(state, batch, np.float32(0))
        values = jax.device_get(metrics)
        times.append(time.monotonic() - start)
        if not values["finite"]:
            raise not_finite(number, values, run.steps(number + 1), 0)
    opt_state = jax.jit(run.tx.init, out_shardings=run.shardings.opt_state)(state.params)
    step = jax.device_put(np.int32(0), run.shardings.step)
    return dataclasses.replace(state, step=step, opt_state=opt_state), statistics.median(times[1:])


def _closing_seconds(run: Setup, step_seconds: float) -> float:
    """A generous guess at the last checkpoint and the evaluations."""
    saving = 2 + state_bytes(run.shapes) / 100e6
    if not run.eval_data:
        return saving
    forward = step_seconds / run.config.batch.rows / 2
    return saving + len(run.eval_data) * forward
