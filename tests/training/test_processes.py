"""Runs of several real processes on one machine: joined by `jax.distributed`, collectives over gloo.

Two processes with four fake devices each stand for two nodes. Whatever interrupts them, the run that goes on
must be the run that was never interrupted, bit for bit on this backend.
"""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.processes import (
    REPO,
    SECONDS,
    Processes,
    assert_same_run,
    environment,
    finish,
    free_port,
    losses,
    params_of,
    prepare,
    until_step,
)
from xlam_jax.training.run_folder import read_metrics

pytestmark = pytest.mark.timeout(3600)  # several runs each, most of them XLA's compilation


@pytest.fixture(scope="module")
def base(world, tmp_path_factory):
    """A folder with the config; what is compiled and printed lies there too."""
    return prepare(tmp_path_factory.mktemp("processes"), world)


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
    assert [row["step"] for row in rows] == [row["step"] for row in wanted] == list(range(1, 31))
    # Not bitwise: gloo adds in another order than one process does, and thirty steps carry it along.
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
def test_processes_that_share_rows_of_the_batch(base):
    """Heads split over both processes: each needs every row, as one process does."""
    mesh = ("mesh.data=1", "mesh.fsdp=1", "mesh.tensor=4", "steps=4")
    two, one = base / "shared-two", base / "shared-one"
    finish(base, two, 2, *mesh, devices=4)
    finish(base, one, 1, *mesh, devices=4)
    got, wanted = losses(two), losses(one)
    assert len(got) == 4
    np.testing.assert_allclose([r["loss"] for r in got], [r["loss"] for r in wanted], rtol=1e-5)


@pytest.mark.slow
def test_process_0_speaks_and_all_write_the_checkpoint(uninterrupted, base):
    params = uninterrupted / "checkpoints" / "30" / "params"
    assert {p.name for p in params.glob("ocdbt.process_*")} == {"ocdbt.process_0", "ocdbt.process_1"}
    first, second = (next(base.glob(f"uninterrupted-{i}-*.log")).read_text() for i in (0, 1))
    assert "step 30/30" in first and "eval_loss" in first
    assert "step 30/30" not in second and "run " not in second


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_costs_only_the_steps_since_the_checkpoint(base, uninterrupted, victim):
    out = base / f"killed-{victim}"
    with Processes(base, out, 2, "checkpoint.every=6") as processes:
        processes.until_step(14)
        processes.all[victim].send_signal(signal.SIGKILL)
        codes = processes.codes()  # the other one notices by itself
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, 2), processes.printed()
    assert not (out / "checkpoints" / "30").exists(), "killed too late to prove anything"
    again = finish(base, out, 2, "checkpoint.every=6")
    assert "resumed at step" in again.printed()
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
def test_a_checkpoint_that_one_process_cannot_read_is_passed_over_by_all(base, uninterrupted):
    out = base / "unreadable"
    finish(base, out, 2, "stop_at=20")
    damaged = out / "checkpoints" / "20" / "params" / "ocdbt.process_1"
    for file in damaged.rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0" * 10)
    again = finish(base, out, 2)
    assert "checkpoint 20 is damaged" in again.printed() and "resumed at step 10 of 30" in again.printed()
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
def test_from_two_processes_to_one_and_back(base, uninterrupted):
    out = base / "two-one-two"
    finish(base, out, 2, "stop_at=10")
    finish(base, out, 1, "stop_at=20")
    last = finish(base, out, 2)
    assert "resumed at step 20 of 30" in last.printed()
    rows, wanted = losses(out), losses(uninterrupted)
    assert rows[:10] == wanted[:10]
    assert [row["step"] for row in rows] == list(range(1, 31))
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
        assert processes.codes() == [75, 75], processes.printed()
    (step,) = (int(p.name) for p in (out / "checkpoints").iterdir())
    assert processes.printed().count(f"stopped by {number.name}, saved at step {step} of 30") == 2
    assert 2 <= step < 30
    finish(base, out, 2, "checkpoint.every=0")
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
def test_a_run_folder_that_is_not_shared_is_refused(base, tmp_path):
    """Two working folders and a relative `out`: as on two hosts with disks of their own."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with Processes(base, Path("run"), 2, folders=folders) as processes:
        assert processes.codes() == [2, 2], processes.printed()
    assert processes.printed().count("process 1 sees another folder than process 0") == 2
    assert not list((folders[0] / "run").glob(".seen*"))


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

    def start(*arguments, **variables):
        env = environment(
            base,
            4,
            CALLS=str(calls),
            SLURM_JOB_ID=str(free_port() % 4096),
            PATH=f"{folder}:{os.environ['PATH']}",
            **variables,
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
    until_step(out, 3, lambda: batch.poll() is None)
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
    batch = start(str(base / "config.yaml"), f"out={out}", "checkpoint.every=6")
    until_step(out, 14, lambda: batch.poll() is None)
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
