"""`xlam doctor`: on this machine, and between two processes."""

import json
import subprocess
import sys

import pytest

from tests.processes import environment, free_port
from xlam_jax.parallel.probe import all_reduce_speed, link_gbps


def test_the_machine(xlam, tmp_path):
    report = tmp_path / "r.json"
    got = xlam("doctor", "--folder", tmp_path / "not" / "there", "--json", report)
    assert got.code == 0, got.err
    machine = json.loads(report.read_text())["machine"]
    assert machine["devices here"] == "8 x cpu" and str(tmp_path) in machine["disk"]
    for key in ("jax", "locked memory", "/dev/shm", "open files"):
        assert key in got.out and machine[key]


def test_an_all_reduce_and_a_link_that_it_is_far_below(xlam, tmp_path):
    report = tmp_path / "r.json"
    assert xlam("doctor", "--nodes", "--mib", 0.25, "--json", report).code == 0
    network = json.loads(report.read_text())["network"]
    # The definition of NCCL's tests.
    wanted = 2 * 7 / 8 * 2**18 / network["seconds"] / 1e9
    assert network["devices"] == 8 and network["gb_per_s"] == pytest.approx(wanted)
    assert network["share"] is None  # nothing says what is between them
    got = xlam("doctor", "--nodes", "--mib", 0.25, "--link-gbps", 1e9)
    assert got.code == 1 and "fall back to TCP" in got.err
    assert xlam("doctor", "--nodes", "--mib", 0.25, "--link-gbps", 1e-6).code == 0


def test_two_processes_take_part(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "xlam_jax.cli.main", "doctor", "--nodes", "--mib", "0.1"]
    running = []
    for index in range(2):
        env = environment(
            tmp_path, 2, XLAM_COORDINATOR=address, XLAM_NUM_PROCESSES="2", XLAM_PROCESS_ID=str(index)
        )
        mine = [*command, "--json", str(tmp_path / f"{index}.json")]
        running.append(
            subprocess.Popen(mine, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], printed
    network = json.loads((tmp_path / "0.json").read_text())["network"]
    assert (network["processes"], network["devices"]) == (2, 4) and network["gb_per_s"] > 0
    assert not (tmp_path / "1.json").exists() and "GB" not in printed[1]  # the first speaks for all


def test_the_rate_of_rdma_ports(tmp_path):
    for name, state, rate in (
        ("mlx5_0", "4: ACTIVE", "400 Gb/sec (4X NDR)"),
        ("mlx5_1", "4: ACTIVE", "400 Gb/sec (4X NDR)"),
        ("mlx5_2", "1: DOWN", "400 Gb/sec (4X NDR)"),
    ):
        port = tmp_path / name / "ports" / "1"
        port.mkdir(parents=True)
        (port / "state").write_text(state + "\n")
        (port / "rate").write_text(rate + "\n")
    assert link_gbps(tmp_path) == 800 and link_gbps(tmp_path / "none") == 0


def test_one_number_a_device():
    assert all_reduce_speed(1e-6, repeats=1).devices == 8
