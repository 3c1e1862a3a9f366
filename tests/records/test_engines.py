"""The local engine: one task, the same bytes however it is split; failures end the run and leave nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from xlam_jax.errors import InputError, WorkError
from xlam_jax.format.record import read_lines
from xlam_jax.ledger import Ledger
from xlam_jax.records.engine import LocalEngine, run_to_file
from xlam_jax.records.engines import make_engine
from xlam_jax.shards.tokenize import EncodeError

from . import engine_tasks

ROWS = 1000


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return engine_tasks.write_rows(tmp_path_factory.mktemp("rows") / "in.jsonl", ROWS)


def run(engine, rows, folder, chunk_rows=64, pause=0.0):
    """(bytes of the output, bytes of the ledger, yield table)."""
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger(folder / "ledger.jsonl") as ledger:
        task = engine_tasks.shuffle_task(pause)
        run_to_file(engine, task, read_lines(rows), folder / "out.jsonl", ledger, chunk_rows=chunk_rows)
        table = ledger.table()
    return (folder / "out.jsonl").read_bytes(), (folder / "ledger.jsonl").read_bytes(), table


@pytest.fixture(scope="module")
def expected(rows, tmp_path_factory):
    return run(LocalEngine(1), rows, tmp_path_factory.mktemp("expected"), chunk_rows=ROWS)


def test_the_result_is_what_the_rows_say(expected):
    out, _, table = expected
    broken = set(range(49, ROWS, 50))
    dropped = set(range(6, ROWS, 7)) - broken
    kept = [i for i in range(ROWS) if i not in broken | dropped]
    wanted = [f"shuffle:{i}" for i in kept for _ in range(2 if i % 11 == 10 else 1)]
    assert [json.loads(line)["lineage"][0] for line in out.splitlines()] == wanted
    assert table[0]["in"] == ROWS and table[0]["out"] == len(kept)
    assert table[0]["reasons"] == {"seventh": len(dropped), "not_a_record": len(broken)}


@pytest.mark.parametrize(("workers", "chunk_rows"), [(1, 1), (1, 37), (2, 64), (4, 300)])
def test_equal_bytes_for_any_split(rows, expected, tmp_path, workers, chunk_rows):
    assert run(LocalEngine(workers), rows, tmp_path, chunk_rows) == expected


def test_an_error_in_a_worker_is_the_same_error_here(tmp_path):
    for workers in (1, 2):
        with Ledger(tmp_path / "l.jsonl") as ledger, pytest.raises(InputError) as caught:
            run_to_file(
                LocalEngine(workers), engine_tasks.failing_task, range(9), tmp_path / "o", ledger, None, 2
            )
        assert (caught.value.what, caught.value.where, caught.value.hint) == (
            "row is bad",
            "row 4",
            "mend it",
        )
        assert not list(tmp_path.glob("o*"))


def test_an_error_that_cannot_be_pickled_still_says_what_it_was():
    with pytest.raises(WorkError, match="Awkward: status 503"):
        list(LocalEngine(2).run(engine_tasks.awkward_task, range(3), 1))


def test_our_errors_survive_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(EncodeError("seam", "what", where="w", hint="h")))
    assert type(error) is EncodeError
    assert (error.code, error.what, error.where, error.hint) == ("seam", "what", "w", "h")
    assert str(error) == "what\n  where: w\n  try:   h"


def test_a_killed_worker_is_a_clear_error_and_no_hang(tmp_path):
    began = time.monotonic()
    with Ledger(tmp_path / "l.jsonl") as ledger, pytest.raises(WorkError, match="worker process died"):
        run_to_file(LocalEngine(2), engine_tasks.Dies(50), range(400), tmp_path / "o", ledger, None, 5)
    assert time.monotonic() - began < 30
    assert not list(tmp_path.glob("o*"))


def test_a_rerun_after_a_killed_worker_is_whole(tmp_path):
    task = engine_tasks.Dies(50, str(tmp_path / "died"))
    for attempt in range(2):
        try:
            with Ledger(tmp_path / "l.jsonl") as ledger:
                run_to_file(LocalEngine(2), task, range(400), tmp_path / "o", ledger, None, 5)
        except WorkError:
            assert attempt == 0 and {p.name for p in tmp_path.iterdir()} == {"died"}
    assert attempt == 1 and (tmp_path / "o").read_text().split() == [str(i) for i in range(400)]
    assert len((tmp_path / "l.jsonl").read_text().splitlines()) == 400


SCRIPT = """
import sys
from pathlib import Path
from tests.records import engine_tasks
from xlam_jax.cli import main
from xlam_jax.records.engine import LocalEngine, run_to_file
from xlam_jax.ledger import Ledger

def work():
    folder = Path(sys.argv[1])
    with Ledger(folder / "ledger.jsonl") as ledger:
        task = engine_tasks.Slow(sys.argv[2])
        run_to_file(LocalEngine(2), task, range(10**6), folder / "out.jsonl", ledger, None, 1)

if __name__ == "__main__":
    main.app = work
    main.main()
"""


def test_ctrl_c_leaves_no_file_and_no_process(tmp_path):
    folder, pids = tmp_path / "out", tmp_path / "pids"
    folder.mkdir(), pids.mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(folder), str(pids)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(pids.iterdir())) < 2 or not (folder / "out.jsonl.partial").exists():
            assert process.poll() is None and time.monotonic() < deadline, "the workers did not start"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130 and stderr.strip() == "interrupted"
    assert list(folder.iterdir()) == []
    assert not any(psutil.pid_exists(int(p.name)) for p in pids.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_does_not_grow_with_the_rows(workers):
    me, seen = psutil.Process(), []
    results = LocalEngine(workers).run(engine_tasks.count_task, range(1_000_000), 256)
    for k, result in enumerate(results):
        assert result.lines == [str(k * 256)]
        if k % 390 == 389:
            seen.append(me.memory_info().rss)
    assert k == 1_000_000 // 256
    assert max(seen[1:]) - seen[0] < 16 << 20, [s >> 20 for s in seen]


def test_a_slow_reader_is_not_flooded():
    """Chunks are read from the input only as results are taken."""
    read = 0

    def items():
        nonlocal read
        for i in range(10_000):
            read += 1
            yield i

    results = LocalEngine(2).run(engine_tasks.count_task, items(), 10)
    next(results)
    assert read <= 60
    results.close()


RAY = """
import sys
from pathlib import Path
from tests.records import engine_tasks
from xlam_jax.records.engines import make_engine
from xlam_jax.records.engine import run_to_file
from xlam_jax.format.record import read_lines
from xlam_jax.ledger import Ledger

rows, folder = sys.argv[1], Path(sys.argv[2])
with Ledger(folder / "ledger.jsonl") as ledger:
    task = engine_tasks.shuffle_task()
    run_to_file(make_engine("ray", 2), task, read_lines(rows), folder / "out.jsonl", ledger)
"""


def test_ray_writes_the_local_engine_s_bytes(rows, expected, tmp_path):
    """In a process of its own: a cluster that fails on a busy machine takes its whole process with it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'xlam-jax[ray]'")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", RAY, str(rows), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    out, ledger, _ = expected
    assert (tmp_path / "out.jsonl").read_bytes() == out
    assert (tmp_path / "ledger.jsonl").read_bytes() == ledger


def test_engines_by_name():
    from xlam_jax.records.ray_engine import RayEngine

    assert make_engine("local", 3) == LocalEngine(3)
    assert make_engine("ray") == RayEngine(1, "")
    assert make_engine("ray", 4, "10.0.0.1:6379") == RayEngine(4, "10.0.0.1:6379")
    with pytest.raises(InputError, match="unknown engine 'rya'"):
        make_engine("rya")
