"""What goes wrong on real machines: what the run says, and what is still there afterwards."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_run
from tests.training.runs import (
    assert_same_arrays,
    checkpoints,
    config,
    events,
    exact_metrics,
    params_of,
    run,
    start,
)
from xlam_jax.errors import InputError, WorkError, XlamError
from xlam_jax.shards.folder import MANIFEST, write_shards
from xlam_jax.shards.loader import PackedSource, row_indices
from xlam_jax.training import checkpoint
from xlam_jax.training.checkpoint import state_bytes
from xlam_jax.training.kept import complete_steps
from xlam_jax.training.loop import train
from xlam_jax.training.run_folder import read_metrics


def temporary(out):
    # Unlike rglob, walk does not mind folders that are renamed while it looks.
    return [f for root, folders, _ in os.walk(out) for f in folders if "orbax-checkpoint-tmp" in f]


# -- the disk ----


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here (needs root)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_while_saving(settings, small_disk):
    """Room when asked, none when written: the run ends, the checkpoint before stays, and once there is room
    the same command goes on as if nothing had been."""
    from rich.console import Console

    from xlam_jax.training.setup import set_up

    settings |= {"out": str(small_disk / "run"), "checkpoint": {"every": 2, "keep": 2}}
    size = state_bytes(set_up(config(settings), Console(quiet=True), 0.0).shapes)
    filler = small_disk / "filler"

    def fill(params, step):
        if step == 2:
            time.sleep(1)  # the save of step 2 ends
            room = shutil.disk_usage(small_disk).free - size - 8192
            filler.write_bytes(b"x" * room)
        return {}

    with pytest.raises(InputError, match="the disk is full") as error:
        run(settings, "log.eval_every=1", "steps=6", evaluators=[fill])
    assert "complete checkpoints: 2;" in error.value.hint
    assert complete_steps(settings["out"]) == [2]
    filler.unlink()
    result = run(settings, "steps=6")
    assert result.resumed_from == 2 and result.finished and temporary(settings["out"]) == []
    whole = f"{small_disk}-whole"
    run(settings, "steps=6", f"out={whole}")
    assert_same_arrays(f"{settings['out']}/checkpoints/6", f"{whole}/checkpoints/6")


@pytest.mark.slow  # the full disk above is the quick one
def test_a_file_size_limit_is_a_full_disk(settings):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    process = start({**settings, "steps": 2}, limit)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 4, output
    assert "the disk is full" in output and "complete checkpoints: none" in output
    assert complete_steps(settings["out"]) == []
    assert run(settings, "steps=2").finished and temporary(settings["out"]) == []


# -- killed ----


@pytest.mark.slow
def test_kill_while_saving_loses_nothing(settings):
    """SIGKILL as soon as an unfinished checkpoint is seen, three times over: what was complete stays readable
    and is gone on from, nothing half is visible, and the end is that of a run that was left alone."""
    settings |= {"checkpoint": {"every": 1, "keep": 2}, "steps": 12}
    out = Path(settings["out"])
    caught = 0
    for _ in range(3):
        before = complete_steps(out)
        process = start(settings)
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline:
            if len(complete_steps(out)) >= 1 and complete_steps(out) != before and temporary(out):
                caught += 1
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        steps = complete_steps(out)
        assert steps and (not before or steps[-1] >= before[-1])
        for step in steps:  # readable, each of them
            assert np.isfinite(params_of(out / "checkpoints" / str(step)).layers.attn.q).all()
    assert caught, "no save was ever seen under way"
    result = run(settings)
    assert result.finished and temporary(out) == [] and checkpoints(out) == [11, 12]
    run(settings, f"out={out}-whole")
    assert_same_arrays(out / "checkpoints" / "12", f"{out}-whole/checkpoints/12")
    assert exact_metrics(out) == exact_metrics(f"{out}-whole")


def test_a_kill_while_deleting_leaves_no_half_of_a_checkpoint(settings, monkeypatch):
    """Old ones are moved out of sight before their files go, and swept by the next run."""
    folder = Path(settings["out"]) / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # killed before the first file
        run(settings, "steps=4", "checkpoint.every=1", "checkpoint.keep=1", "stop_at=3")
    assert complete_steps(settings["out"]) == [3]
    assert sorted(p.name for p in (folder / "deleted").iterdir()) == ["1", "2"]
    assert run(settings, "steps=4", "checkpoint.every=1", "checkpoint.keep=1").resumed_from == 3
    assert complete_steps(settings["out"]) == [4] and not (folder / "deleted").exists()


def test_leftovers_of_a_killed_save_are_swept(settings):
    run(settings, "steps=4", "stop_at=1")
    left = Path(settings["out"]) / "checkpoints" / "3.orbax-checkpoint-tmp-7" / "params"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    assert run(settings, "steps=4").resumed_from == 1
    assert temporary(settings["out"]) == []


def test_the_best_checkpoint_survives_a_damaged_last_one(settings):
    """The last is moved aside with a warning; the best, older, is what the run goes on from."""
    scores = {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.2, 5: 0.3}
    changes = ("steps=5", "log.eval_every=1", "checkpoint.every=1", "checkpoint.keep=1")
    changes = (*changes, "checkpoint.best=score", "checkpoint.best_mode=max")
    evaluators = [lambda params, step: {"score": scores[step]}]
    run(settings, *changes, "stop_at=4", evaluators=evaluators)
    folder = Path(settings["out"]) / "checkpoints"
    assert checkpoints(settings["out"]) == [2, 4]
    for file in (folder / "4" / "opt_state").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(b"\0" * 10)
    with pytest.warns(UserWarning, match="checkpoint 4 is damaged"):
        result = run(settings, *changes, evaluators=evaluators)
    assert result.resumed_from == 2 and result.best == {"step": 2, "metric": "score", "value": 0.9}
    assert checkpoints(settings["out"]) == [2, 5]
    assert [r["step"] for r in read_metrics(settings["out"]) if "loss" in r] == [1, 2, 3, 4, 5]


def test_a_damaged_best_is_forgotten(settings):
    scores = {1: 0.5, 2: 0.6, 3: 0.9, 4: 0.7}
    changes = ("steps=4", "log.eval_every=1", "checkpoint.every=1", "checkpoint.keep=2")
    changes = (*changes, "checkpoint.best=score", "checkpoint.best_mode=max")
    evaluators = [lambda params, step: {"score": scores[step]}]
    run(settings, *changes, "stop_at=3", evaluators=evaluators)
    for file in (Path(settings["out"]) / "checkpoints" / "3" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint 3 is damaged"):
        result = run(settings, *changes, "stop_at=4", evaluators=evaluators)
    assert result.resumed_from == 2 and result.best and result.best["step"] == 3  # made again


# -- the data ----


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_a_half_written_shard_is_refused_by_name(world, settings, tmp_path):
    data = copy_of(world / "data", tmp_path / "data")
    shard = next(data.glob("*.arrayrecord"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(InputError, match="bytes, the manifest says") as error:
        run(settings, f"data.train={data}")
    assert error.value.where == str(shard) and not Path(settings["out"]).exists()


def test_a_changed_byte_is_found_when_asked(world, settings, tmp_path):
    data = copy_of(world / "data", tmp_path / "data")
    shard = next(data.glob("*.arrayrecord"))
    blob = bytearray(shard.read_bytes())
    blob[len(blob) // 2] ^= 1
    shard.write_bytes(blob)
    with pytest.raises(InputError, match="the shard was changed") as error:
        run(settings, f"data.train={data}", "data.verify=true")
    assert error.value.where == str(shard)


def test_an_edited_manifest_is_refused_and_the_checkpoint_stays(world, settings, tmp_path):
    data = copy_of(world / "data", tmp_path / "data")
    run(settings, f"data.train={data}", "steps=4", "stop_at=2")
    manifest = json.loads((data / MANIFEST).read_text())
    (data / MANIFEST).write_text(json.dumps({**manifest, "seq_len": 640}))
    with pytest.raises(InputError, match="edited by hand"):
        run(settings, f"data.train={data}", "steps=4")
    assert checkpoints(settings["out"]) == [2]
    (data / MANIFEST).write_text(json.dumps(manifest))
    assert run(settings, f"data.train={data}", "steps=4").resumed_from == 2


def test_another_tokenizer_between_sessions_is_refused(world, settings, tmp_path):
    model = copy_of(world / "model", tmp_path / "model")
    settings["model"] = str(model)
    run(settings, "steps=4", "stop_at=2")
    other = tmp_path / "other"
    tiny_run.make_tokenizer(other, specials=(*tiny_run.SPECIALS, "<|more|>"))
    shutil.copy(other / "tokenizer.json", model / "tokenizer.json")
    with pytest.raises(InputError, match="another tokenizer"):
        run(settings, "steps=4")
    assert checkpoints(settings["out"]) == [2]


def test_a_row_that_cannot_be_read_ends_the_run_and_is_named(world, settings, tmp_path):
    """The loader's threads live in this process: an error in one ends the run, not only the thread."""
    data = copy_of(world / "data", tmp_path / "data")
    shard = next(data.glob("*.arrayrecord"))

    def cut(params, step):
        if step == 1:
            with shard.open("r+b") as file:
                file.truncate(1000)
        return {}

    with pytest.raises(XlamError, match="cannot be read") as error:
        run(settings, f"data.train={data}", "steps=40", "log.eval_every=1", evaluators=[cut])
    assert str(shard) in error.value.where and "row " in error.value.where
    assert events(settings["out"], "failed")


# -- the numbers ----


@pytest.fixture(scope="module")
def poisoned(world, tmp_path_factory):
    """Data with a NaN weight in the row of step 4 (one row a step, seed 0): (folder, ids of its records)."""
    folder = tmp_path_factory.mktemp("poisoned") / "data"
    source = PackedSource(world / "data")
    rows = [source[i] for i in range(len(source))]
    batch, ids = rows[int(row_indices(3, 1, len(rows), 0)[0])]
    batch.loss_weights[np.flatnonzero(batch.loss_weights)[0]] = np.nan
    rows[int(row_indices(3, 1, len(rows), 0)[0])] = (batch, ids)
    write_shards(folder, rows, {k: source.manifest[k] for k in ("seq_len", "codec", "tokenizer")})
    return folder, ids


def test_nan_at_a_step_stops_before_it_enters_the_model(settings, poisoned):
    folder, ids = poisoned
    settings["data"]["train"] = str(folder)
    with pytest.raises(WorkError, match="step 4: loss nan") as error:
        run(settings, "batch.rows=1", "checkpoint.every=1", "checkpoint.keep=9")
    assert error.value.where == "records: " + ", ".join(ids)
    assert checkpoints(settings["out"]) == [1, 2, 3]
    page = (Path(settings["out"]) / "report.html").read_text()
    assert "step 4: loss nan" in page and ids[0] in page


def test_nan_can_be_skipped(settings, poisoned):
    folder, ids = poisoned
    settings["data"]["train"] = str(folder)
    result = run(settings, "batch.rows=1", "spikes.action=skip", "steps=8")
    assert result.finished and result.skipped == 1
    (event,) = events(settings["out"], "skipped")
    assert (event["step"], event["loss"], event["records"]) == (4, "nan", ids)
    rows = {r["step"]: r for r in read_metrics(settings["out"])}
    assert rows[4]["loss"] is None and rows[4]["skipped"] and np.isfinite(rows[8]["loss"])
    # As if the step had not been: parameters after it are those before it.
    assert np.isfinite(params_of(settings["out"]).layers.attn.q).all()


def test_too_many_bad_steps_end_the_run_all_the_same(settings, poisoned):
    settings["data"]["train"] = str(poisoned[0])
    with pytest.raises(WorkError, match="step 4"):
        train(config(settings, "batch.rows=1", "spikes.action=skip", "spikes.most_skipped=0"))
