"""The Ray engine on a real cluster of two nodes: the local engine's bytes, whatever dies on the way.

Slow by mark, since the cluster's short health checks, which let a dead node be noticed in a second, end the
whole test process when a busy machine starves the head for as long. `test_engines.py` has the quick test.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from xlam_jax.errors import InputError, WorkError
from xlam_jax.format.record import read_lines
from xlam_jax.ledger import Ledger
from xlam_jax.records.engine import LocalEngine, run_to_file
from xlam_jax.records.ray_engine import RayEngine

from . import engine_tasks

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'xlam-jax[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
ROWS = 1000
STORE = 78 << 20


@pytest.fixture(scope="module")
def cluster():
    """A head and one more node, a CPU each; this process is connected to the head."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What an installed package is on real nodes; the tests' own modules are imported below tests/.
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join((str(REPO), str(REPO / "tests"))))
    quick = {"health_check_period_ms": 200, "health_check_failure_threshold": 5}
    head = {"num_cpus": 1, "object_store_memory": STORE, "_system_config": quick, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        made.add_node(num_cpus=1, object_store_memory=STORE)
        ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        patch.undo()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return engine_tasks.write_rows(tmp_path_factory.mktemp("rows") / "in.jsonl", ROWS)


def run(engine, task, items, folder, chunk_rows):
    """(bytes of the output, bytes of the ledger, yield table)."""
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger(folder / "ledger.jsonl") as ledger:
        run_to_file(engine, task, items, folder / "out.jsonl", ledger, chunk_rows=chunk_rows)
        table = ledger.table()
    return (folder / "out.jsonl").read_bytes(), (folder / "ledger.jsonl").read_bytes(), table


def shuffled(engine, rows, folder, chunk_rows=16, pause=0.0):
    return run(engine, engine_tasks.shuffle_task(pause), read_lines(rows), folder, chunk_rows)


@pytest.fixture(scope="module")
def expected(rows, tmp_path_factory):
    out = shuffled(LocalEngine(1), rows, tmp_path_factory.mktemp("expected"), ROWS)
    assert out[2][0]["in"] == ROWS
    return out


def test_both_nodes_work_and_the_bytes_are_the_local_engine_s(cluster, rows, expected, tmp_path):
    assert shuffled(RayEngine(), rows, tmp_path / "a") == expected
    assert shuffled(RayEngine(3), rows, tmp_path / "b", chunk_rows=64) == expected
    nodes = set(RayEngine(4).run(engine_tasks.where_task, range(20), 1))
    assert nodes == {n["NodeID"] for n in ray.nodes() if n["Alive"]} and len(nodes) == 2


def test_a_killed_worker_costs_nothing_but_time(cluster, tmp_path):
    want = run(LocalEngine(1), engine_tasks.Dies(-1), range(400), tmp_path / "want", 400)
    task = engine_tasks.Dies(50, str(tmp_path / "died"))
    assert run(RayEngine(), task, range(400), tmp_path / "got", 5) == want
    assert (tmp_path / "died").exists()


def test_a_chunk_that_kills_every_worker_is_a_clear_error(cluster, tmp_path):
    with pytest.raises(WorkError, match="lost a chunk 6 times"):
        run(RayEngine(), engine_tasks.Dies(50), range(100), tmp_path / "out", 5)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_error_of_the_task_is_the_same_error_here(cluster, tmp_path):
    with pytest.raises(InputError) as caught:
        run(RayEngine(), engine_tasks.failing_task, range(9), tmp_path / "out", 2)
    assert (caught.value.what, caught.value.where, caught.value.hint) == ("row is bad", "row 4", "mend it")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(WorkError, match="Awkward: status 503"):
        list(RayEngine().run(engine_tasks.awkward_task, range(3), 1))


def test_a_module_that_the_nodes_lack_is_a_clear_error(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def task(start, items):\n    return start\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # pyright: ignore

    with pytest.raises(WorkError, match=r"cannot run the work.*only_here"):
        list(RayEngine().run(only_here.task, range(3), 1))


def test_no_cluster_at_the_address(cluster, tmp_path):
    """In a process of its own, since this one is connected."""
    code = (
        "from xlam_jax.records.engines import make_engine\n"
        "from tests.records import engine_tasks\n"
        "from xlam_jax.errors import InputError\n"
        "try: list(make_engine('ray', 1, '127.0.0.1:1').run(engine_tasks.count_task, range(3)))\n"
        "except InputError as e: print(e)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, env=env, capture_output=True, text=True, timeout=60
    )
    assert "no Ray cluster answers" in done.stdout and "127.0.0.1:1" in done.stdout, done.stderr


def test_the_input_is_read_as_results_are_taken(cluster):
    read = 0

    def items():
        nonlocal read
        for i in range(10_000):
            read += 1
            yield i

    results = RayEngine(2).run(engine_tasks.count_task, items(), 10)
    next(results)
    assert read <= 40
    results.close()


def test_a_killed_node_costs_nothing_but_time(cluster, rows, expected, tmp_path):
    """Last in this file: it leaves one node."""
    doomed = cluster.list_all_nodes()[1]
    raylet = next(p.process.pid for kind, p in _processes(doomed) if kind == "raylet")
    tree = [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]
    chosen = doomed.node_id

    def kill():
        time.sleep(1.0)  # in the middle of about 5 s of work
        for process in tree:
            process.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    began = time.monotonic()
    got = shuffled(RayEngine(), rows, tmp_path, pause=0.01)
    assert time.monotonic() - began > 2, "the work was over before the node died"
    killer.join()
    assert got == expected
    assert chosen in {n["NodeID"] for n in ray.nodes() if not n["Alive"]}


def _processes(node):
    return [(kind, p) for kind, ps in node.all_processes.items() for p in ps]
