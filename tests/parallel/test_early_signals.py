"""A process that has not begun yet answers a signal at once, wherever it waits and whatever its number is."""

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

from xlam_jax.parallel.early_signals import end_at_once

REPO = Path(__file__).resolve().parents[2]
READY = "import sys; print('ready', flush=True)\n"
ROLL = READY + "from xlam_jax.parallel.distributed import start; start()"
# Python's handlers do not run in here, as they do not while JAX waits for the other processes.
IN_C = f"""
import ctypes
from xlam_jax.parallel.early_signals import end_at_once
with end_at_once():
    {READY.strip()}
    ctypes.CDLL(None).sleep(60)
    ctypes.CDLL(None).sleep(60)
"""
AFTERWARDS = f"""
import time
from xlam_jax.parallel.early_signals import end_at_once
with end_at_once():
    pass
{READY}
time.sleep(60)
"""


def child(code, *before, **env):
    command = [*before, sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(REPO), **env}
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def code_after(process, name, pid=None):
    """Exit status after a signal, which must come within seconds, and what was printed."""
    os.kill(pid or process.pid, name)
    try:
        _, printed = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, printed


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def members(index):
    port = free_port()
    return {
        "XLAM_COORDINATOR": f"127.0.0.1:{port}", "XLAM_NUM_PROCESSES": "2", "XLAM_PROCESS_ID": str(index),
    }  # fmt: skip


@pytest.mark.parametrize(("index", "name"), [(0, signal.SIGTERM), (1, signal.SIGUSR1)])
def test_a_process_in_the_roll_call_ends(index, name):
    process = child(ROLL, **members(index))
    status = Path(f"/proc/{process.pid}/status")
    end = time.monotonic() + 30
    while not int(re.search(r"SigCgt:\t(\w+)", status.read_text())[1], 16) >> (name - 1) & 1:
        assert time.monotonic() < end
        time.sleep(0.02)
    code, printed = code_after(process, name)  # its peer never comes
    assert code == 75 and printed == f"stopped by {name.name} before the first step\n"


def test_a_process_that_waits_in_c_ends():
    code, printed = code_after(child(IN_C), signal.SIGTERM)
    assert (code, printed) == (75, "stopped by SIGTERM before the first step\n")


def in_a_container():
    """What makes a command process 1 of a space of its own, as in a container; [] where that is not allowed."""
    if not shutil.which("unshare"):
        return []
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    allowed = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if allowed else []


@pytest.mark.parametrize("code", [IN_C, AFTERWARDS], ids=["waiting", "afterwards"])
def test_process_1_of_a_container_ends(code):
    if not (container := in_a_container()):
        pytest.skip("no new space of process numbers can be made here: unshare --pid needs root")
    process = child(code, *container)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    assert code_after(process, signal.SIGTERM, pid=int(children))[0] == 75


def test_without_handlers_process_1_would_stay():
    """The reason for them."""
    if not (container := in_a_container()):
        pytest.skip("no new space of process numbers can be made here: unshare --pid needs root")
    process = child(READY + "import time; time.sleep(60)", *container)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    os.kill(int(children), signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.kill()
    process.communicate()


def test_no_handler_remains():
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(n) for n in numbers]
    with end_at_once():
        assert [signal.getsignal(n) for n in numbers] != before
    assert [signal.getsignal(n) for n in numbers] == before
    code, _ = code_after(child(AFTERWARDS), signal.SIGTERM)
    assert code == -signal.SIGTERM
