"""Where a process finds that it stands, and what it says when the others are not where they should be."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from xlam_jax.errors import InputError, WorkError
from xlam_jax.parallel.distributed import Group, _roll_call, detect

NOTHING = hashlib.sha256(b"").hexdigest()
REPO = Path(__file__).resolve().parents[2]
EXPLICIT = {"XLAM_COORDINATOR": "node-0:61500", "XLAM_NUM_PROCESSES": "4", "XLAM_PROCESS_ID": "3"}
SLURM = {
    "SLURM_JOB_ID": "4100",
    "SLURM_STEP_NODELIST": "gpu-[07-09,12],big1",
    "SLURM_STEP_NUM_NODES": "5",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("env", "group"),
    [
        ({}, None),
        (EXPLICIT, Group("node-0:61500", 4, 3, "environment")),
        ({**EXPLICIT, "XLAM_NUM_PROCESSES": "1", "XLAM_PROCESS_ID": "0"}, None),
        (SLURM, Group("gpu-07:61444", 5, 2, "slurm")),
        ({**SLURM, **EXPLICIT}, Group("node-0:61500", 4, 3, "environment")),
        ({**SLURM, "XLAM_DISTRIBUTED": "off"}, None),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        # A batch script, outside any srun: its variables speak of the allocation.
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),
        # A task for each GPU: JAX must be told which is its own, unless srun has shown it that one alone.
        (
            {**SLURM, "SLURM_STEP_NUM_TASKS": "40", "SLURM_LOCALID": "6"},
            Group("gpu-07:61444", 40, 2, "slurm", (6,)),
        ),
        (
            {**SLURM, "SLURM_STEP_NUM_TASKS": "40", "SLURM_LOCALID": "6", "CUDA_VISIBLE_DEVICES": "6"},
            Group("gpu-07:61444", 40, 2, "slurm"),
        ),
        (
            {"XLAM_COORDINATOR": "x-0.x:1", "XLAM_NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"},
            Group("x-0.x:1", 2, 1, "kubernetes"),
        ),
        ({"JOB_COMPLETION_INDEX": "0"}, None),
        ({"TPU_WORKER_HOSTNAMES": "t-0,t-1", "TPU_WORKER_ID": "1"}, Group("", 0, 0, "tpu")),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"MEGASCALE_NUM_SLICES": "2", "TPU_WORKER_HOSTNAMES": "localhost"}, Group("", 0, 0, "tpu")),
        ({"XLAM_DISTRIBUTED": "tpu"}, Group("", 0, 0, "tpu")),
    ],
)
def test_where_a_process_stands(env, group):
    assert detect(env) == group


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-0015],host2", "node001"),
        ("n[1,007-015]", "n1"),
        ("rack[2-3]-gpu[1-8]", "rack2-gpu1"),
        ("rack1-gpu[5]-ib", "rack1-gpu5-ib"),
    ],
)
def test_the_first_host_of_a_slurm_list(nodes, first):
    group = detect({**SLURM, "SLURM_STEP_NODELIST": nodes})
    assert group is not None and group.coordinator == f"{first}:61444"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({**EXPLICIT, "XLAM_PROCESS_ID": ""}, "XLAM_PROCESS_ID missing beside"),
        ({"XLAM_PROCESS_ID": "0"}, "XLAM_COORDINATOR, XLAM_NUM_PROCESSES missing"),
        ({**EXPLICIT, "XLAM_PROCESS_ID": "4"}, "process 4 of 4: indices go from 0 to 3"),
        ({**EXPLICIT, "XLAM_NUM_PROCESSES": "two"}, "XLAM_NUM_PROCESSES is 'two'"),
        ({**EXPLICIT, "XLAM_COORDINATOR": "node-0"}, "the coordinator is 'node-0'"),
        ({**EXPLICIT, "XLAM_COORDINATOR": "node-0:99999"}, "the coordinator is"),
        ({"JOB_COMPLETION_INDEX": "1"}, "pod 1 of an Indexed Job does not know of the others"),
        ({"XLAM_DISTRIBUTED": "yes"}, "XLAM_DISTRIBUTED is 'yes'"),
        ({k: v for k, v in SLURM.items() if k != "SLURM_PROCID"}, "SLURM_PROCID is ''"),
    ],
)
def test_a_contradiction_is_named(env, message):
    with pytest.raises(InputError, match=message):
        detect(env)


# -- the roll ----


def call(*members, timeout=20, late=0.0):
    """Lets (index, count, version) members call the roll; what each raised, by position."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    raised = {}

    def one(k, index, count, version, settings=""):
        time.sleep(late if index == 0 else 0)
        try:
            _roll_call(Group(f"127.0.0.1:{port}", count, index, "environment"), timeout, version, settings)
        except Exception as e:
            raised[k] = e

    threads = [threading.Thread(target=one, args=(k, *member)) for k, member in enumerate(members)]
    for thread in threads:
        thread.start()
    return threads, raised, port


def joined(threads, raised):
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return raised


def test_all_are_there_whoever_comes_first():
    members = [(i, 5, "1") for i in (3, 1, 0, 4, 2)]
    assert joined(*call(*members, late=0.5)[:2]) == {}


def test_a_stranger_at_the_port_is_passed_over():
    threads, raised, port = call((0, 2, "1"))
    for text in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n", b"[]\n", b""):
        end = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                    s.sendall(text)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.05)
    _roll_call(Group(f"127.0.0.1:{port}", 2, 1, "environment"), 20, "1")
    assert joined(threads, raised) == {}


def test_a_process_that_was_restarted_takes_its_place_again():
    threads, raised, port = call((0, 3, "1"))
    end = time.monotonic() + 10
    while True:
        try:
            first = socket.create_connection(("127.0.0.1", port), timeout=5)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.05)
    first.sendall(
        json.dumps({"xlam": "roll", "index": 1, "count": 3, "jax": "1", "settings": NOTHING}).encode() + b"\n"
    )
    time.sleep(0.3)
    first.close()
    more = [
        threading.Thread(target=_roll_call, args=(Group(f"127.0.0.1:{port}", 3, i, ""), 20, "1"))
        for i in (1, 2)
    ]
    for thread in more:
        thread.start()
    assert joined([*threads, *more], raised) == {}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([(0, 2, "1"), (1, 3, "1")], "process 0 was told of 2 processes, process 1 of 3"),
        ([(0, 3, "1"), (1, 3, "1"), (1, 3, "1")], "two processes say that they are number 1 of 3"),
        ([(0, 2, "0.10.2"), (1, 2, "0.12.0")], "process 0 runs jax 0.10.2, process 1 runs jax 0.12.0"),
        ([(0, 2, "1", "a"), (1, 2, "1", "b")], "process 0 and process 1 were given different settings"),
    ],
)
def test_a_disagreement_is_told_to_everyone(members, message):
    raised = joined(*call(*members)[:2])
    assert sorted(raised) == list(range(len(members)))
    for error in raised.values():
        assert isinstance(error, InputError) and error.what == message


def test_who_did_not_come_is_named_to_those_who_did():
    raised = joined(*call((0, 4, "1"), (2, 4, "1"), timeout=2)[:2])
    for error in (raised[0], raised[1]):
        assert isinstance(error, WorkError)
        assert error.what == "of 4 processes, 2 did not come within 2 seconds: 1, 3"


@pytest.mark.parametrize(
    ("coordinator", "message"),
    [
        ("127.0.0.1:9", "refused"),
        pytest.param("no-such-host.invalid:61500", "name is not known", marks=pytest.mark.slow),
    ],
)
def test_an_unreachable_coordinator_ends_the_command(coordinator, message, tmp_path):
    """By the command itself, as a launcher would see it: a status and one screen, not an abort of JAX."""
    config = tmp_path / "c.yaml"
    config.write_text("model: m\ndata: {train: d}\nout: o\n")
    variables = {**EXPLICIT, "XLAM_COORDINATOR": coordinator, "XLAM_INIT_TIMEOUT": "1"}
    got = subprocess.run(
        [sys.executable, "-m", "xlam_jax.cli.main", "train", str(config)],
        capture_output=True, text=True, timeout=120, cwd=REPO,
        env={**os.environ, **variables, "PYTHONPATH": str(REPO), "COLUMNS": "300"},
    )  # fmt: skip
    assert got.returncode == 1
    assert (
        "process 3 of 4 could not reach the coordinator in 1 seconds" in got.stderr and message in got.stderr
    )
    assert "Check failure" not in got.stderr


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WorkError, match=f"port {port} cannot be opened"):
            _roll_call(Group(f"127.0.0.1:{port}", 2, 0, "environment"), 2, "1")
