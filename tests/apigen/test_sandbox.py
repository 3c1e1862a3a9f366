"""Hostile functions are contained, and the calls beside them never notice."""

import contextlib
import os
import socket
import subprocess
import threading
import time

import pytest

from tests.apigen.walled import HERE, QUICK, contained, require_walls
from xlam_jax.apigen.sandbox import Limits, probe_determinism, run_calls


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("infinite_loop", "timeout"),
        ("loop_that_swallows", "timeout"),
        ("stuck_in_c", "timeout"),
        ("sleeps", "timeout"),
        ("memory_bomb", "memory"),
        ("one_huge_allocation", "memory"),
        ("huge_result", "too_large"),
        ("sys_exit", "raised"),
        ("hard_exit", "raised"),
        ("segfault", "raised"),
        ("kill_parent", "raised"),
        ("kill_group", "raised"),
        ("close_everything", "raised"),
        ("close_everything_and_go_on", "timeout"),
        ("deep_recursion", "raised"),
        ("raises_interrupt", "raised"),
        ("error_without_text", "raised"),
        ("shell", "raised"),
        ("fork_bomb", "raised"),
        ("many_threads", "raised"),
        ("fill_disk", "raised"),
        ("no_such_function", "raised"),
        ("returns_set", "not_serialisable"),
        ("returns_nan", "not_serialisable"),
        ("returns_cycle", "not_serialisable"),
    ],
)
def test_hostile_call_is_contained(name, status):
    outcome = contained(name)
    assert outcome.status == status, outcome
    assert outcome.value is None
    assert outcome.error


def test_recursion_without_limit_is_contained():
    # Which wall it meets first (stack, memory, clock) depends on the Python version.
    assert contained("unlimited_recursion").status in ("raised", "memory", "timeout")


def test_stdin_is_empty_and_stdout_is_nowhere():
    assert contained("read_stdin").value == ""
    assert contained("garbage_on_stdout").value == "done"


def test_forged_results_are_not_believed():
    outcome = contained("garbage_on_all_descriptors")
    assert outcome.value in ("done", None)
    assert outcome.value != 666


def test_files_outside_the_scratch_folder(tmp_path):
    tmp_path.chmod(0o777)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    victim.chmod(0o666)
    assert contained("write_outside", path=str(tmp_path / "new")).status == "raised"
    assert contained("write_outside", path=str(victim)).status == "raised"
    assert contained("remove_outside", path=str(victim)).status == "raised"
    assert not (tmp_path / "new").exists()
    assert victim.read_text() == "mine"


def test_scratch_folder_is_writable_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o777)
    assert contained("write_inside").value == "fine"
    assert list(tmp_path.iterdir()) == []


def test_network_is_closed():
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)

        def listen():
            with contextlib.suppress(TimeoutError):
                heard.append(server.accept()[0].recv(10))

        thread = threading.Thread(target=listen)
        thread.start()
        outcome = contained("connect", port=server.getsockname()[1])
        thread.join()
    assert outcome.status == "raised"
    assert heard == []


def test_environment_is_empty(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2")
    assert "hunter2" not in str(contained("environment").value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root parent has something to give up")
def test_root_is_left():
    assert contained("whoami").value not in (0, None)


def test_no_process_is_left_behind():
    contained("infinite_loop")
    contained("raw_fork")
    time.sleep(0.2)
    listing = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True).stdout
    assert not [x for x in listing.splitlines() if "zygote.py" in x and x.split()[0] == str(os.getpid())]


def test_many_calls_in_a_few_seconds_and_in_order():
    require_walls()
    calls = [("xlam_jax.apigen.functions.arithmetic:factorial", {"n": i % 20}) for i in range(600)]
    calls[300] = ("hostile:hard_exit", {})
    start = time.monotonic()
    outcomes = run_calls(calls, Limits(), paths=[HERE])
    assert time.monotonic() - start < 20
    assert len(outcomes) == 600
    assert [o.status for o in outcomes].count("raised") == 1
    assert outcomes[7].value == 5040 and outcomes[599].value == 121645100408832000


def test_arguments_travel_by_keyword():
    target = "xlam_jax.apigen.functions.finance:simple_interest"
    good, bad = run_calls(
        [
            (target, {"years": 2, "rate": 10, "principal": 100}),
            (target, {"principal": 1, "rate": 1, "term": 1}),
        ]
    )
    assert good.value == 20
    assert bad.status == "raised" and "term" in bad.error


def test_determinism_probe():
    require_walls()
    calls = [("hostile:well", {"x": 1}), ("hostile:clock", {}), ("hostile:sys_exit", {})]
    assert probe_determinism(calls, QUICK, paths=[HERE]) == [True, False, None]
    assert False in [
        probe_determinism([("hostile:order_of_a_set", {})], QUICK, paths=[HERE])[0] for _ in range(5)
    ]


def test_no_calls():
    assert run_calls([]) == []
