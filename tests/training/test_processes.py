"""Runs of several real processes on one machine: joined by `jax.distributed`, collectives over gloo.

Two processes with four fake devices each stand for two nodes. Whatever interrupts them, the run that goes on
must be the run that was never interrupted, bit for bit on this backend.
"""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from xlam_jax.release import load_model
from xlam_jax.training.run_folder import read_metrics

REPO = Path(__file__).resolve().parents[2]
SECONDS = 240  # for a run of a few steps, most of them XLA's; this machine may be busy
EXACT = ("step", "loss", "accuracy", "grad_norm", "lr")


@pytest.fixture(scope="module")
def base(world, tmp_path_factory):
    """Settings of a run of nine steps on eight devices, and a cache of compiled programs."""
    folder = tmp_path_factory.mktemp("processes")
    settings = {
        "model": str(world / "model"),
        "data": {"train": str(world / "data"), "eval": str(world / "eval")},
        "out": str(folder / "unused"),
        "steps": 9,
        "batch": {"rows": 8},
        "optim": {"lr": 1e-2, "weight_decay": 0.1},
        "mesh": {"data": 2, "fsdp": 4},
        "checkpoint": {"every": 3},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def environment(base, devices, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLAM_", "SLURM_", "JAX_"))}
    return env | {
        "PYTHONPATH": str(REPO),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(base / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "XLAM_HEARTBEAT_TIMEOUT": "10",
        "XLAM_INIT_TIMEOUT": "120",
        **variables,
    }


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Processes:
    """`count` processes of `xlam train`, started; what each printed is in `logs`."""

    def __init__(self, base, out, count, *overrides):
        coordinator = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "xlam_jax.cli.main", "train", str(base / "config.yaml")]
        command += [f"out={out}", *overrides]
        self.out, self.logs, self.all = out, [], []
        for i in range(count):
            variables = {"XLAM_COORDINATOR": coordinator, "XLAM_NUM_PROCESSES": count, "XLAM_PROCESS_ID": i}
            env = environment(base, 8 // count, **{k: str(v) for k, v in variables.items()})
            self.logs.append(base / f"{out.name}-{i}-{time.monotonic_ns()}.log")
            with self.logs[-1].open("w") as log:
                process = subprocess.Popen(command, cwd=REPO, env=env, stdout=log, stderr=log)
            self.all.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for process in self.all:
            process.kill()
            process.wait()

    def printed(self) -> str:
        return "\n".join(f"-- {log.name}\n{log.read_text()[-3000:]}" for log in self.logs)

    def until_step(self, step) -> None:
        end = time.monotonic() + SECONDS
        while not any(row["step"] >= step for row in read_metrics(self.out)):
            assert all(p.poll() is None for p in self.all), self.printed()
            assert time.monotonic() < end, f"step {step} never came\n{self.printed()}"
            time.sleep(0.02)

    def codes(self) -> list[int]:
        return [process.wait(timeout=SECONDS) for process in self.all]


def finish(base, out, count, *overrides):
    with Processes(base, out, count, *overrides) as processes:
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


@pytest.fixture(scope="module")
def uninterrupted(base):
    """A run of two processes from the first step to the last."""
    out = base / "uninterrupted"
    finish(base, out, 2)
    return out


@pytest.mark.slow
def test_two_processes_train_the_same_steps_as_one(base, uninterrupted):
    one = base / "one"
    finish(base, one, 1)
    rows, wanted = losses(uninterrupted), losses(one)
    assert [row["step"] for row in rows] == [row["step"] for row in wanted] == list(range(1, 10))
    # Not bitwise: gloo adds in another order than one process does, and nine large steps carry it along.
    for key, rtol in (("loss", 1e-5), ("accuracy", 1e-5), ("grad_norm", 1e-3)):
        np.testing.assert_allclose([r[key] for r in rows], [r[key] for r in wanted], rtol=rtol, err_msg=key)
    got, expected = params_of(uninterrupted), params_of(one)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), got, expected)
    ours, theirs = (
        [r["eval_loss"] for r in read_metrics(run) if "eval_loss" in r] for run in (uninterrupted, one)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert len(ours) == 1


@pytest.mark.slow
def test_process_0_speaks_and_all_write_the_checkpoint(uninterrupted, base):
    params = uninterrupted / "checkpoints" / "9" / "params"
    assert {p.name for p in params.glob("ocdbt.process_*")} == {"ocdbt.process_0", "ocdbt.process_1"}
    first, second = (next(base.glob(f"uninterrupted-{i}-*.log")).read_text() for i in (0, 1))
    assert "step 9/9" in first and "eval_loss" in first
    assert "step 9/9" not in second and "run " not in second


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_costs_only_the_steps_since_the_checkpoint(base, uninterrupted, victim):
    out = base / f"killed-{victim}"
    with Processes(base, out, 2, "steps=9", "checkpoint.every=2") as processes:
        processes.until_step(5)
        processes.all[victim].send_signal(signal.SIGKILL)
        codes = processes.codes()  # the other one notices by itself
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, 2), processes.printed()
    assert not (out / "checkpoints" / "9").exists(), "killed too late to prove anything"
    again = finish(base, out, 2, "steps=9", "checkpoint.every=2")
    assert "resumed at step" in again.printed()
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
def test_from_two_processes_to_one_and_back(base, uninterrupted):
    out = base / "two-one-two"
    finish(base, out, 2, "stop_at=3")
    finish(base, out, 1, "stop_at=6")
    last = finish(base, out, 2)
    assert "resumed at step 6 of 9" in last.printed()
    rows, wanted = losses(out), losses(uninterrupted)
    assert rows[:3] == wanted[:3]
    assert [row["step"] for row in rows] == list(range(1, 10))
    np.testing.assert_allclose([r["loss"] for r in rows], [r["loss"] for r in wanted], rtol=1e-5)
    got, expected = params_of(out), params_of(uninterrupted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_process_saves_them_all(base, uninterrupted, number):
    out = base / f"signalled-{number.name}"
    with Processes(base, out, 2, "checkpoint.every=0") as processes:
        processes.until_step(2)
        for _ in range(2):  # schedulers repeat themselves
            processes.all[1].send_signal(number)
        assert processes.codes() == [1, 1], processes.printed()
    (step,) = (int(p.name) for p in (out / "checkpoints").iterdir())
    assert processes.printed().count(f"stopped by {number.name}, saved at step {step} of 9") == 2
    assert 2 <= step < 9
    finish(base, out, 2, "checkpoint.every=0")
    assert_same_run(out, uninterrupted)


# -- launch/slurm.sbatch without Slurm ----

SRUN = """#!/usr/bin/env bash
# A stub of srun, for the test: two tasks as on two nodes; signals are passed on, as srun does.
echo "$@" >> "$CALLS"
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=2 SLURM_LOCALID=0
SLURM_PROCID=0 "$@" & a=$!
SLURM_PROCID=1 "$@" & b=$!
trap 'kill -USR1 $a $b' USR1
status=0
for id in $a $b; do
  while kill -0 $id 2>/dev/null; do wait $id; code=$?; done
  ((code == 0)) || status=$code
done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
# A stub of scontrol: notes what was asked.
echo "scontrol $*" >> "$CALLS"
"""


@pytest.fixture
def fake_slurm(base, tmp_path):
    """Runs launch/slurm.sbatch as slurmd would run it, with stubs of srun and scontrol."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    xlam = f'#!/usr/bin/env bash\nexec {sys.executable} -m xlam_jax.cli.main "$@"\n'
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("xlam", xlam)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    calls = tmp_path / "calls"
    job = str(free_port() - 61440) if free_port() >= 61440 else "7"

    def start(*arguments, **variables):
        env = environment(
            base, 4, CALLS=str(calls), SLURM_JOB_ID=job, PATH=f"{folder}:{os.environ['PATH']}", **variables
        )
        command = ["bash", str(REPO / "launch/slurm.sbatch"), *arguments]
        return subprocess.Popen(
            command, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start, calls


@pytest.mark.slow
def test_the_end_of_an_allocation_saves_and_requeues(base, uninterrupted, fake_slurm):
    start, calls = fake_slurm
    out = base / "requeued"
    arguments = (str(base / "config.yaml"), f"out={out}", "checkpoint.every=0")
    batch = start(*arguments)
    end = time.monotonic() + SECONDS
    while not any(row["step"] >= 3 for row in read_metrics(out)) and time.monotonic() < end:
        time.sleep(0.02)
    batch.send_signal(signal.SIGUSR1)  # to the batch shell alone: --signal=B:USR1
    printed, _ = batch.communicate(timeout=SECONDS)
    assert batch.returncode == 0 and "back into the queue" in printed, printed
    asked = calls.read_text().splitlines()
    assert asked[-1].startswith("scontrol requeue") and len(asked) == 2
    assert "stopped by SIGUSR1" in printed
    # Slurm starts the same script again.
    batch = start(*arguments)
    printed, _ = batch.communicate(timeout=SECONDS)
    assert batch.returncode == 0 and "resumed at step" in printed, printed
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
def test_a_lost_task_is_started_again_within_the_allocation(base, uninterrupted, fake_slurm):
    start, calls = fake_slurm
    out = base / "restarted"
    batch = start(str(base / "config.yaml"), f"out={out}", "checkpoint.every=2")
    end = time.monotonic() + SECONDS
    while not any(row["step"] >= 5 for row in read_metrics(out)) and time.monotonic() < end:
        time.sleep(0.02)
    found = subprocess.run(["pgrep", "-f", f"out={out}"], capture_output=True, text=True).stdout.split()
    tasks = [p for p in found if "SLURM_PROCID=1" in Path(f"/proc/{p}/environ").read_text().split("\0")]
    (task,) = [p for p in tasks if Path(f"/proc/{p}/cmdline").read_text().startswith(sys.executable)]
    os.kill(int(task), signal.SIGKILL)
    printed, _ = batch.communicate(timeout=SECONDS)
    assert batch.returncode == 0, printed
    assert "attempt 1 of 4" in printed and "resumed at step" in printed
    assert len(calls.read_text().splitlines()) == 2
    assert_same_run(out, uninterrupted)


def test_bad_input_is_neither_restarted_nor_requeued(base, fake_slurm):
    start, calls = fake_slurm
    batch = start(str(base / "config.yaml"), "optim.lrr=1", "out=runs/%a", SLURM_ARRAY_TASK_ID="7")
    printed, _ = batch.communicate(timeout=SECONDS)
    assert batch.returncode == 2 and "optim.lrr" in printed
    assert calls.read_text().splitlines()[0].endswith("out=runs/7")
    assert len(calls.read_text().splitlines()) == 1
