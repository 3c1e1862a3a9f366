"""One writer to a folder: alive, dead, silent, and several that come at once."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from xlam_jax.errors import WorkError
from xlam_jax.lease import Lease

HOLD = """
import sys, time
from pathlib import Path
from xlam_jax.lease import Lease
with Lease(Path(sys.argv[1]), "place", renew=0.05):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(file):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def foreign(file, beats=0):
    """The lease of another machine."""
    owner = {"host": "node-7", "machine": "another", "pid": 1, "started": 1.0, "since": "then", "token": "x"}
    file.write_text(json.dumps({**owner, "beats": beats}))


def test_alive_it_is_respected_and_killed_it_is_taken_over_at_once(tmp_path):
    file = tmp_path / "lease.json"
    process = holder(file)
    said = []
    with pytest.raises(WorkError, match=f"another process works in this place: process {process.pid} on "):
        Lease(file, "place", said.append).__enter__()
    process.kill()  # not waited for: a zombie is dead as well
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            began = time.monotonic()
            with Lease(file, "place", said.append):
                assert time.monotonic() - began < 5
            break
        except WorkError:
            time.sleep(0.05)
    process.wait()
    assert len(said) == 1 and f"was left by process {process.pid}" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_another_machine_is_watched_for_life(tmp_path):
    file, said = tmp_path / "lease.json", []
    foreign(file)
    with Lease(file, "place", said.append, renew=0.05, expires=0.4):
        assert json.loads(file.read_text())["pid"] == os.getpid()
    assert "looking up to" in said[0] and "node-7" in said[0] and "was left by" in said[1]

    end = threading.Event()

    def live():
        beats = 0
        while not end.wait(0.05):
            beats += 1
            foreign(file.with_name("partial"), beats)
            os.replace(file.with_name("partial"), file)

    foreign(file)
    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(WorkError, match="process 1 on node-7"):
            Lease(file, "place", renew=0.05, expires=0.4).__enter__()
    finally:
        end.set()
        thread.join()


def test_who_stood_still_too_long_learns_it(tmp_path):
    file = tmp_path / "lease.json"
    with Lease(file, "place", renew=0.05, expires=0.4) as lease:
        lease.check()
        foreign(file)  # somebody took it for dead
        deadline = time.monotonic() + 10
        while lease._lost_to is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(WorkError, match="taken over by process 1 on node-7"):
            lease.check()
    assert json.loads(file.read_text())["token"] == "x"  # it is the other's, and stays


def test_of_many_newcomers_one_takes_over(tmp_path):
    for _ in range(20):
        file = tmp_path / "lease.json"
        foreign(file)
        inside, most, held, barrier = [0], [0], [0], threading.Barrier(6)

        def come(file=file, inside=inside, most=most, held=held, barrier=barrier):
            barrier.wait()
            try:
                with Lease(file, "place", renew=5, expires=0.05):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    held[0] += 1
                    time.sleep(0.1)
                    inside[0] -= 1
            except WorkError:
                pass

        threads = [threading.Thread(target=come) for _ in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert most == [1] and held[0] >= 1
        assert list(tmp_path.iterdir()) == []
