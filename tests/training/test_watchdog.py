"""A run that hangs ends with its stacks and an exit status of its own; a clock that jumps ends nothing."""

import json
import threading
import time
from pathlib import Path

import pytest

from tests.training.runs import checkpoints, run, start
from xlam_jax.training.watchdog import EXIT_CODE, Watchdog, WatchdogConfig

CONFIG = WatchdogConfig(factor=10, least_seconds=30, work_seconds=600)


class Ended(Exception):
    pass


def end(code):
    raise Ended(code)


def watchdog(tmp_path, **options):
    return Watchdog(CONFIG, tmp_path / "hang.txt", end=end, **options)


def wait(dog, seconds):
    """Polls of one second."""
    for _ in range(seconds):
        dog.look(1.0)


def test_the_limit_follows_the_median(tmp_path):
    dog = watchdog(tmp_path)
    assert dog.limit() == 600  # nothing is known yet: compilation
    for seconds in (1.0, 2.0, 1000.0):
        dog.beat(seconds)
    assert dog.limit() == 30  # 10 x 2 s, but at least 30 s
    for _ in range(3):
        dog.beat(5.0)
    assert dog.limit() == 50
    with dog.busy():
        assert dog.limit() == 600
    assert dog.limit() == 50


def test_it_bites_when_no_step_comes_and_not_before(tmp_path):
    dog = watchdog(tmp_path)
    for _ in range(5):
        dog.beat(1.0)
    wait(dog, 29)
    dog.beat(1.0)
    wait(dog, 29)
    with dog.busy():
        wait(dog, 500)
    wait(dog, 29)
    with pytest.raises(Ended) as ended:
        wait(dog, 1)
    assert ended.value.args == (EXIT_CODE,)
    text = (tmp_path / "hang.txt").read_text()
    assert "no step for 30 s" in text and "look at" in text and "test_watchdog.py" in text


@pytest.mark.parametrize("jump", [1e9, -1e9, float(10**12)])
def test_a_clock_that_jumps_is_no_hang(tmp_path, jump):
    """Suspended machines, stopped processes and set clocks show as one long poll."""
    dog = watchdog(tmp_path)
    for _ in range(5):
        dog.beat(1.0)
    for _ in range(10):
        dog.look(jump)
    assert not (tmp_path / "hang.txt").exists()


def test_the_thread_counts_polls_not_the_clock(tmp_path):
    """With a clock that runs a thousand times too fast the real thread waits as long as with a true one."""
    ended = threading.Event()
    config = WatchdogConfig(factor=1, least_seconds=1.0, work_seconds=1000)
    began = time.monotonic()
    dog = Watchdog(
        config, tmp_path / "h", poll=0.05, clock=lambda: 1000 * time.monotonic(), end=lambda _: ended.set()
    )
    with dog:
        for _ in range(3):
            dog.beat(0.01)
        assert ended.wait(60)
    assert time.monotonic() - began > 0.45  # 1 s in polls of at most 0.1 s each


def test_factor_zero_is_off(tmp_path):
    before = threading.active_count()
    with Watchdog(WatchdogConfig(factor=0), tmp_path / "h"):
        assert threading.active_count() == before


@pytest.mark.slow
def test_a_hanging_run_ends_and_the_same_command_goes_on(settings):
    """The loader never delivers step 9: the process ends by itself, with all stacks in the run folder."""
    hang = """
import time
from xlam_jax.shards import loader
plain = loader.Steps.__getitem__
def stuck(self, step):
    while step == 8:
        time.sleep(1)
    return plain(self, step)
loader.Steps.__getitem__ = stuck
"""
    settings |= {"watchdog": {"factor": 3, "least_seconds": 4}, "checkpoint": {"every": 4}}
    process = start(settings, hang)
    try:
        output, _ = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == EXIT_CODE, output
    assert "no step for" in output and "goes on from the last checkpoint" in output
    stacks = (Path(settings["out"]) / "hang-0.txt").read_text()
    assert "in stuck" in stacks and "loop.py" in stacks and stacks.count("Thread 0x") > 2
    assert checkpoints(settings["out"])[-1] == 8
    result = run(settings, resume="must")
    assert result.resumed_from == 8 and result.finished
    assert json.loads((Path(settings["out"]) / "versions.json").read_text())["jax"]
