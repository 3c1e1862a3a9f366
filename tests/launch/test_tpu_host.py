"""launch/tpu/host.sh with a program in the place of `xlam`: it outlives what started it, and acts on statuses."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import until

SCRIPT = Path(__file__).resolve().parents[2] / "launch/tpu/host.sh"
XLAM = """#!/usr/bin/env bash
echo "$XLAM_DISTRIBUTED $*" >> starts
read -r -a all <<< "$STATUSES"
now=${all[$(($(wc -l < starts) - 1))]}
if [[ $now == wait ]]; then
  trap 'sleep 0.3; touch saved; exit 75' TERM
  touch running
  while :; do sleep 0.05; done
fi
exit "$now"
"""


def command(folder, statuses, **variables):
    program = folder / "xlam"
    program.write_text(XLAM)
    program.chmod(0o755)
    env = {**os.environ, "XLAM": str(program), "STATUSES": statuses, "XLAM_BACKOFF": "0", **variables}
    return {"cwd": folder, "env": env}


@pytest.mark.parametrize(
    ("statuses", "code", "count"),
    [("0", 0, 1), ("2", 2, 1), ("3", 3, 1), ("4", 4, 1), ("75", 75, 1), ("1 137 0", 0, 3), ("1 1 1 1", 1, 4)],
)
def test_statuses(tmp_path, statuses, code, count):
    got = subprocess.run([SCRIPT, "c.yaml", "out=a b"], **command(tmp_path, statuses), timeout=20)
    assert got.returncode == code
    assert (tmp_path / "starts").read_text().splitlines() == ["tpu train c.yaml out=a b"] * count


def test_the_run_goes_on_when_its_session_hangs_up_and_saves_when_it_is_stopped(tmp_path):
    shell = subprocess.Popen(
        ["bash", "-c", f"{SCRIPT} --detach c.yaml; sleep 60"],
        **command(tmp_path, "wait"), start_new_session=True,
    )  # fmt: skip
    until((tmp_path / "running").exists)
    os.killpg(shell.pid, signal.SIGHUP)  # what a lost SSH session sends
    shell.wait(20)
    process = int((tmp_path / "xlam.pid").read_text())
    time.sleep(0.2)
    os.kill(process, 0)  # still there
    again = subprocess.run([SCRIPT, "--detach", "c.yaml"], **command(tmp_path, "0"), capture_output=True)
    assert again.returncode == 2 and b"going on already" in again.stderr
    os.kill(process, signal.SIGTERM)
    until((tmp_path / "saved").exists)
    assert len((tmp_path / "starts").read_text().splitlines()) == 1
