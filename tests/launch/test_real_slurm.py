"""launch/slurm.sbatch under a real Slurm: one node, of the daemons installed here, started for the test.

Debian: `apt-get install slurm-wlm munge`. It needs root, as slurmd does to start jobs; the daemons live in a
folder of their own, on ports of their own, and are stopped by their process ids.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import tiny_run
from tests.processes import (
    REPO,
    SECONDS,
    assert_same_run,
    environment,
    finish,
    free_port,
    prepare,
    until_step,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
DAEMONS = ("munged", "slurmctld", "slurmd")

CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# No cgroups: they are often read-only in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=here Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=graceful Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A function that runs a Slurm command against the test's own cluster."""
    path = os.environ["PATH"] + ":/usr/sbin"
    if missing := [name for name in (*DAEMONS, "sbatch") if not shutil.which(name, path=path)]:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("slurmd needs root to start jobs")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # munge wants a socket that others can reach
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    conf = CONF.format(folder=folder, host=host, controller_port=free_port(), node_port=free_port())
    (folder / "slurm.conf").write_text(conf)
    env = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{key}={folder}/munge.{key.split('-')[0]}" for key in ("socket", "key-file", "pid-file")]
    munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    commands = (
        ["munged", "--foreground", "--force", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    )
    daemons = []

    def run(*command, check=True, **variables):
        got = subprocess.run(command, env={**env, **variables}, capture_output=True, text=True, timeout=60)
        assert not check or got.returncode == 0, f"{command}: {got.stdout}{got.stderr}"
        return got.stdout.strip()

    try:
        for command in commands:
            with (folder / f"{command[0]}.log").open("w") as log:
                daemons.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
            if command[0] == "munged":
                wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        wait_for(lambda: run("sinfo", "-h", "-o", "%T", check=False) == "idle", "an idle node", folder)
        yield run
    finally:
        run("scancel", "--user=root", "--signal=KILL", check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def wait_for(condition, what, folder=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        logs = "".join(p.read_text()[-800:] for p in folder.glob("*.log")) if folder else ""
        assert time.monotonic() < end, f"{what} did not come\n{logs}"
        time.sleep(0.2)


def task_of(out: Path, number: int) -> int:
    """Process id of a task of the step that trains into `out`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            env = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        is_run = words[0] == sys.executable.encode() and f"out={out}".encode() in words
        if is_run and f"SLURM_PROCID={number}".encode() in env:
            return int(entry.name)
    raise AssertionError(f"no task {number}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    world = tmp_path_factory.mktemp("world")
    tiny_run.make_tokenizer(world / "tokenizer")
    tiny_run.make_model(world / "model", world / "tokenizer")
    tiny_run.make_data(world / "data", world / "tokenizer", seq_len=320)
    tiny_run.make_data(world / "eval", world / "tokenizer", count=10, seq_len=320, seed=9)
    return prepare(tmp_path_factory.mktemp("base"), world)


def test_a_job_survives_a_lost_task_and_the_end_of_its_allocation(slurm, base, tmp_path):
    """One job: a task is killed and started again; the batch shell hears of the end; Slurm requeues."""
    out, wanted, log = base / "job", base / "uninterrupted", tmp_path / "job.log"
    finish(base, wanted, 2, "steps=120", "checkpoint.every=40")
    xlam = tmp_path / "xlam"
    xlam.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m xlam_jax.cli.main "$@"\n')
    xlam.chmod(0o755)
    variables = environment(base, 4, XLAM=str(xlam), HOME=str(tmp_path))
    variables = {k: v for k, v in variables.items() if k not in ("PATH", "SLURM_CONF")}
    options = ["--parsable", "--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=0", f"--output={log}"]
    job = slurm(
        "sbatch", *options, f"--chdir={REPO}", str(REPO / "launch/slurm.sbatch"), str(base / "config.yaml"),
        f"out={out}", "steps=120", "checkpoint.every=40", **variables,
    )  # fmt: skip

    def end_of(job) -> str:
        """What became of the job, "" while it waits or runs; a failure ends the test at once."""
        shown = re.search(r"JobState=(\w+)", slurm("scontrol", "show", "job", job))[1]
        assert shown in ("PENDING", "RUNNING", "COMPLETING", "COMPLETED"), f"{shown}\n{printed()[-2000:]}"
        return shown

    def state():
        return slurm("squeue", "-h", "-j", job, "-o", "%T", check=False)

    def printed():
        return log.read_text() if log.exists() else ""

    until_step(out, 45, lambda: state() in ("PENDING", "RUNNING"))
    os.kill(task_of(out, 1), signal.SIGKILL)
    wait_for(lambda: "attempt 1 of 4" in printed(), "the second attempt", tmp_path, SECONDS)
    wait_for(lambda: "resumed at step" in printed(), "the resumed run", tmp_path, SECONDS)
    slurm("scancel", "--batch", "--signal=USR1", job)  # what --signal=B:USR1@180 sends
    wait_for(lambda: state() == "PENDING", "the requeued job", tmp_path, SECONDS)
    assert "back into the queue" in printed()
    assert "Restarts=1" in slurm("scontrol", "show", "job", job)
    # Two minutes pass first: the node must forget the credential of the job that was stopped.
    wait_for(lambda: "COMPLETED" in end_of(job), "the end", tmp_path, SECONDS)
    assert_same_run(out, wanted)


def test_bad_input_fails_the_job_at_once(slurm, base, tmp_path):
    log = tmp_path / "job.log"
    options = ["--parsable", "--nodes=1", "--gpus-per-node=0", f"--output={log}", f"--chdir={REPO}"]
    variables = environment(base, 4, XLAM=str(Path(sys.executable).with_name("xlam")))
    variables = {k: v for k, v in variables.items() if k not in ("PATH", "SLURM_CONF")}
    script = str(REPO / "launch/slurm.sbatch")
    job = slurm("sbatch", *options, script, str(base / "config.yaml"), "optim.lrr=1", **variables)
    shown = lambda: slurm("scontrol", "show", "job", job)  # noqa: E731
    wait_for(lambda: "JobState=FAILED" in shown(), "the failed job", tmp_path, SECONDS)
    assert "ExitCode=2:0" in shown() and "Restarts=0" in shown()
    assert "optim.lrr" in log.read_text() and "attempt" not in log.read_text()


# -- what Slurm sends, with a program in the place of a run ----

# Saves for two seconds when it is told to end, and says by what; KILL cuts it off.
SAVER = """#!/usr/bin/env bash
ended() { echo "$1 $SLURM_PROCID" >> "$NOTES"; sleep 2; echo "saved $SLURM_PROCID" >> "$NOTES"; exit 75; }
trap 'ended USR1' USR1
trap 'ended TERM' TERM
echo "start $SLURM_PROCID ${SLURM_RESTART_COUNT:-0}" >> "$NOTES"
while :; do sleep 0.1; done
"""


class Job:
    """The batch script in a real job of two tasks that save."""

    def __init__(self, slurm, folder, *options):
        self.slurm, self.log, self.notes = slurm, folder / "job.log", folder / "notes"
        program = folder / "xlam"
        program.write_text(SAVER)
        program.chmod(0o755)
        given = [
            "--parsable",
            "--nodes=1",
            "--ntasks-per-node=2",
            "--gpus-per-node=0",
            f"--output={self.log}",
        ]
        script = str(REPO / "launch/slurm.sbatch")
        self.id = slurm(
            "sbatch", *given, *options, f"--chdir={folder}", script, "c.yaml",
            XLAM=str(program), NOTES=str(self.notes),
        )  # fmt: skip
        wait_for(lambda: self.told().count("start") == 2, "the tasks", folder, 120)

    def told(self):
        return self.notes.read_text() if self.notes.exists() else ""

    def shown(self, key):
        return re.search(rf"\b{key}=(\S+)", self.slurm("scontrol", "show", "job", self.id))[1]

    def wait(self, *states):
        wait_for(lambda: self.shown("JobState") in states, " or ".join(states), self.log.parent, 120)


def test_scancel_lets_the_tasks_save_and_ends_the_job(slurm, tmp_path):
    job = Job(slurm, tmp_path)
    slurm("scancel", job.id)
    job.wait("CANCELLED")
    wait_for(lambda: job.told().count("saved") == 2, "what was saved", tmp_path)
    assert job.shown("Restarts") == "0" and "queue" not in job.log.read_text()


def test_a_term_to_the_batch_shell_has_all_the_time_it_needs(slurm, tmp_path):
    """`scancel --batch --signal=TERM`: no KillWait runs, and the job ends by itself."""
    job = Job(slurm, tmp_path)
    slurm("scancel", "--batch", "--signal=TERM", job.id)
    job.wait("FAILED")
    assert job.told().count("saved") == 2 and job.told().count("USR1") == 2
    assert job.shown("ExitCode") == "75:0" and job.shown("Restarts") == "0"


def test_the_notice_before_the_end_requeues(slurm, tmp_path):
    job = Job(slurm, tmp_path)
    slurm("scancel", "--batch", "--signal=USR1", job.id)
    job.wait("PENDING")
    assert job.told().count("saved") == 2 and job.shown("Restarts") == "1"
    slurm("scancel", job.id)
    job.wait("CANCELLED")


def test_one_task_of_an_array_is_requeued(slurm, tmp_path):
    """Also the last one, whose number is the array's."""
    job = Job(slurm, tmp_path, "--array=1-1")
    slurm("scancel", "--batch", "--signal=USR1", f"{job.id}_1")
    job.wait("PENDING")
    assert job.told().count("saved") == 2 and job.shown("Restarts") == "1"
    slurm("scancel", job.id)


@pytest.mark.parametrize("partition", ["here", "graceful"])
def test_pre_emption_puts_the_job_back_into_the_queue(slurm, tmp_path, partition):
    """With a GraceTime the tasks save and the script requeues; without, Slurm does so itself."""
    job = Job(slurm, tmp_path, f"--partition={partition}")
    slurm("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 2")
    job.wait("PENDING")
    assert job.shown("Restarts") == "1"
    if partition == "graceful":
        assert job.told().count("saved") == 2
    slurm("scancel", job.id)
