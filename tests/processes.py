"""Real processes of `xlam train` on one machine; each stands for a node with some fake devices."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import yaml

from xlam_jax.parallel.xla_flags import profile_flags
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.weights import load_model

REPO = Path(__file__).resolve().parents[1]
SECONDS = 900  # for a run of a few steps, most of them XLA's; the machine may be busy
QUICK = profile_flags("quick-compilation")
EXACT = ("step", "loss", "accuracy", "grad_norm", "lr")


def prepare(folder: Path, world: Path) -> Path:
    """Writes the config of a run of thirty steps on eight devices into `folder`, and returns the folder."""
    settings = {
        "model": str(world / "model"),
        "data": {"train": str(world / "data"), "eval": str(world / "eval")},
        "out": str(folder / "unused"),
        "steps": 30,
        "batch": {"rows": 8},
        "optim": {"lr": 3e-3, "weight_decay": 0.1},
        "mesh": {"data": 2, "fsdp": 4},
        "checkpoint": {"every": 10},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def environment(base, devices, **variables):
    """The variables of this process, quick compilation among them, without those that place a node."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLAM_", "SLURM_"))}
    return env | {
        "PYTHONPATH": str(REPO),
        "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={devices}",
        # Launch scripts choose the profile of their hardware, whose flags change the last bits on a CPU too.
        "XLAM_XLA_PROFILE": "fake-devices",
        "XLAM_HEARTBEAT_TIMEOUT": "10",
        "XLAM_INIT_TIMEOUT": "120",
        **variables,
    }


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for `condition`; an AssertionError when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def until_step(out: Path, step: int, goes_on=lambda: True) -> None:
    """Returns when the run in `out` has logged `step`; AssertionError when it ended or takes too long."""
    end = time.monotonic() + SECONDS
    while not any(row["step"] >= step for row in read_metrics(out)):
        assert goes_on(), f"ended before step {step}"
        assert time.monotonic() < end, f"step {step} never came"
        time.sleep(0.02)


class Processes:
    """`count` processes of `xlam train`, with `devices` over all, in working `folders`."""

    def __init__(self, base, out, count, *overrides, devices=8, folders=None):
        coordinator = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "xlam_jax.cli.main", "train", str(base / "config.yaml")]
        command += [f"out={out}", *overrides]
        self.out, self.logs, self.all = out, [], []
        for i in range(count):
            variables = {"XLAM_COORDINATOR": coordinator, "XLAM_NUM_PROCESSES": count, "XLAM_PROCESS_ID": i}
            env = environment(base, devices // count, **{k: str(v) for k, v in variables.items()})
            self.logs.append(base / f"{out.name}-{i}-{time.monotonic_ns()}.log")
            with self.logs[-1].open("w") as log:
                process = subprocess.Popen(
                    command, cwd=folders[i] if folders else REPO, env=env, stdout=log, stderr=log
                )
            self.all.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for process in self.all:
            process.kill()
            process.wait()

    def printed(self) -> str:
        return "\n".join(f"-- {log.name}\n{log.read_text()[-20_000:]}" for log in self.logs)

    def until_step(self, step) -> None:
        try:
            until_step(self.out, step, lambda: all(p.poll() is None for p in self.all))
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.printed()}") from e

    def codes(self) -> list[int]:
        return [process.wait(timeout=SECONDS) for process in self.all]


def finish(base, out, count, *overrides, devices=8):
    with Processes(base, out, count, *overrides, devices=devices) as processes:
        assert processes.codes() == [0] * count, processes.printed()
    return processes


def params_of(run):
    return jax.device_get(load_model(run)[1])


def losses(run):
    return [{k: row[k] for k in EXACT} for row in read_metrics(run) if "loss" in row]


def assert_same_run(run, wanted):
    """The same steps, each once, and the same parameters, bit for bit."""
    assert losses(run) == losses(wanted)
    jax.tree.map(np.testing.assert_array_equal, params_of(run), params_of(wanted))
