"""launch/slurm.sbatch under bash, with programs named `srun` and `scontrol` that note what they are asked.

What Slurm itself does is in test_real_slurm.py.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import until

SCRIPT = Path(__file__).resolve().parents[2] / "launch/slurm.sbatch"

# Ends with the statuses of $STATUSES, one for each start; "wait" ends with $SAVED once it was sent USR1, as a run
# that saves. TERM kills it, as the real one kills its tasks.
SRUN = """#!/usr/bin/env bash
echo "$*" >> srun.log
env | grep -E '^(XLAM|NCCL|XLA)_' > env.log
read -r -a all <<< "$STATUSES"
now=${all[$(($(wc -l < srun.log) - 1))]}
if [[ $now == wait ]]; then
  trap 'sleep 0.3; exit "$SAVED"' USR1
  touch running
  while :; do sleep 0.05; done
fi
exit "$now"
"""
SCONTROL = """#!/usr/bin/env bash
echo "$*" >> scontrol.log
[[ $1 != show ]] || echo "   SuspendTime=None PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=$PREEMPTED"
"""


@pytest.fixture
def batch(tmp_path):
    """Starts the script in a folder of its own and returns it; what it does is in files there."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    started = []

    def start(statuses, *arguments, **variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XLAM_", "SLURM_", "NCCL_"))}
        env = {
            **kept, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "XLAM_BACKOFF": "0",
            "STATUSES": statuses, "SAVED": "75", "PREEMPTED": "None", **variables,
        }  # fmt: skip
        with (tmp_path / "job.log").open("w") as log:
            script = subprocess.Popen(
                ["bash", SCRIPT, *arguments], cwd=tmp_path, env=env, stdout=log, stderr=log
            )
        started.append(script)
        return script

    yield start
    for script in started:
        script.kill()
        script.wait()


def starts(folder):
    return (folder / "srun.log").read_text().splitlines()


def requeued(folder):
    log = folder / "scontrol.log"
    return (
        [line for line in log.read_text().splitlines() if line.startswith("requeue")] if log.exists() else []
    )


@pytest.mark.parametrize(
    ("statuses", "code", "count"),
    [
        ("0", 0, 1),
        ("2", 2, 1),
        ("3", 3, 1),
        ("4", 4, 1),
        ("1 0", 0, 2),
        ("137 1 2", 2, 3),  # a killed process, then a failure, then input that was spoilt meanwhile
        ("1 1 1 1", 1, 4),
        ("75", 75, 1),  # someone signalled the tasks themselves
    ],
)
def test_statuses(batch, tmp_path, statuses, code, count):
    assert batch(statuses, "c.yaml", "out=a b").wait(20) == code
    assert starts(tmp_path) == ["--label --kill-on-bad-exit=1 xlam train c.yaml out=a b"] * count
    assert not requeued(tmp_path)


@pytest.mark.parametrize(
    ("name", "preempted", "code", "back"),
    [
        ("USR1", "None", 0, ["requeue 7"]),  # the end of the allocation
        ("TERM", "None", 75, []),  # scancel
        ("TERM", "2026-01-01T00:00:05", 0, ["requeue 7"]),  # a partition with GraceTime
    ],
)
def test_a_signal_lets_the_run_save_and_only_an_end_of_slurms_own_requeues(
    batch, tmp_path, name, preempted, code, back
):
    script = batch("wait", "c.yaml", PREEMPTED=preempted)
    until((tmp_path / "running").exists)
    script.send_signal(signal.Signals[f"SIG{name}"])
    time.sleep(0.1)  # bash can lose one of two signals that come in the same instant
    script.send_signal(signal.SIGTERM)  # Slurm may send it after the notice, while the run still saves
    assert script.wait(20) == code  # scontrol's, where the script hands over to it
    assert len(starts(tmp_path)) == 1 and requeued(tmp_path) == back


def test_tasks_that_slurm_preempts_with_a_grace_time_go_back_into_the_queue(batch, tmp_path):
    """The signal went to the tasks alone."""
    batch("75", "c.yaml", PREEMPTED="2026-01-01T00:00:05").wait(20)
    assert requeued(tmp_path) == ["requeue 7"]


def test_a_run_that_finishes_or_fails_for_good_at_the_notice_is_not_requeued(batch, tmp_path):
    for saved in ("0", "3", "4"):
        (tmp_path / "running").unlink(missing_ok=True)
        (tmp_path / "srun.log").unlink(missing_ok=True)
        script = batch("wait", "c.yaml", SAVED=saved)
        until((tmp_path / "running").exists)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(20) == int(saved) and not requeued(tmp_path)


@pytest.mark.parametrize(("name", "code", "back"), [("TERM", 75, []), ("USR1", 0, ["requeue 7"])])
def test_a_signal_between_two_attempts_ends_the_wait(batch, tmp_path, name, code, back):
    script = batch("1 0", "c.yaml", XLAM_BACKOFF="60")
    until(lambda: "the next in 60 s" in (tmp_path / "job.log").read_text())
    script.send_signal(signal.Signals[f"SIG{name}"])
    assert script.wait(20) == code
    assert len(starts(tmp_path)) == 1 and requeued(tmp_path) == back


def test_waits_grow_to_five_minutes(batch, tmp_path):
    (tmp_path / "sleep").write_text("#!/bin/sh\necho $1 >> sleep.log\n")
    (tmp_path / "sleep").chmod(0o755)
    batch("1 " * 8, "c.yaml", XLAM_BACKOFF="10", XLAM_RESTARTS="7").wait(20)
    assert (tmp_path / "sleep.log").read_text().split() == ["10", "20", "40", "80", "160", "300", "300"]


def test_a_task_of_an_array_is_requeued_alone(batch, tmp_path):
    """The array's last task has the number of the array."""
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    script = batch("wait", "c.yaml", "seed=%a", **array)
    until((tmp_path / "running").exists)
    script.send_signal(signal.SIGUSR1)
    script.wait(20)
    assert requeued(tmp_path) == ["requeue 7_2"] and starts(tmp_path)[0].endswith("seed=2")


def test_flags_and_a_sight_of_the_network_are_set_unless_they_are_given(batch, tmp_path):
    batch("0", "c.yaml").wait(20)
    env = dict(line.split("=", 1) for line in (tmp_path / "env.log").read_text().splitlines())
    assert (env["XLAM_XLA_PROFILE"], env["NCCL_DEBUG"], env["NCCL_DEBUG_SUBSYS"]) == (
        "h100",
        "INFO",
        "INIT,NET",
    )
    batch("0 0", "c.yaml", XLAM_XLA_PROFILE="none", NCCL_DEBUG="WARN").wait(20)
    assert "XLAM_XLA_PROFILE=none\n" in (tmp_path / "env.log").read_text()
