"""Trackers see what metrics.jsonl holds, go on with a run where it goes on, and never end one."""

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.cases import long_but
from tests.training.runs import config, events, run
from xlam_jax.errors import InputError
from xlam_jax.training.loop import train
from xlam_jax.training.run_folder import read_metrics

STEPS = list(range(1, 11))


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """Nobody's account, and home folders of this test's own."""
    for name in [n for n in os.environ if n.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    return monkeypatch


@pytest.fixture
def wandb(nobody):
    module = pytest.importorskip("wandb", reason="pip install 'xlam-jax[track]'")
    module.teardown()  # it reads the environment once
    yield module
    module.teardown()


@pytest.fixture
def trackio(nobody, tmp_path):
    nobody.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="pip install 'xlam-jax[track]'")
    from trackio import utils

    return Path(utils.TRACKIO_DIR)  # the variable as it was when the package was first imported


def losses(folder):
    return {row["step"]: row["loss"] for row in read_metrics(folder) if "loss" in row}


def halves(settings, *overrides):
    """A run that stops after five steps, and goes on; what was said."""
    console = Console(record=True, width=300, file=open(os.devnull, "w"))  # noqa: SIM115
    for change in ("stop_at=5", "stop_at=10"):
        train(config(settings, change, *overrides), console=console)
    return console.export_text()


def board_values(folder):
    """[(step, loss)] of all event files, read as TensorBoard does: a new session takes back what it makes again."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = []
    for path in sorted((Path(folder) / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            if event.session_log.status == SessionLog.START:
                found = [(step, value) for step, value in found if step < event.step]
            found += [(event.step, v.simple_value) for v in event.summary.value if v.tag == "loss"]
            at += 16 + size
    return found


def wandb_records(path):
    """Records of a .wandb file: blocks of 32 KiB, pieces of [crc, size, kind] with kind 1 whole, 2, 3, 4 parts."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield Record.FromString(part)
            part = b""


def wandb_values(folder):
    """(run's name, id, project, step -> loss) of all sessions."""
    found, names = {}, set()
    for path in sorted(Path(folder).glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(path):
            if record.HasField("run"):
                names.add((record.run.display_name, record.run.run_id, record.run.project))
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            if "loss" in items:
                found[items["_step"]] = items["loss"]
    return names, found


def test_tensorboard_has_every_step_once(settings):
    """Also steps that were logged before a kill, and made again from the checkpoint before."""
    run(settings, "track=[tensorboard]", "stop_at=5", "checkpoint.every=3")
    shutil.rmtree(Path(settings["out"]) / "checkpoints" / "5")
    assert run(settings, "track=[tensorboard]").resumed_from == 3
    found = board_values(settings["out"])
    assert [step for step, _ in found] == STEPS
    assert dict(found) == pytest.approx(losses(settings["out"]))


def test_sessions_of_one_second_keep_each_other_s_steps(tmp_path, monkeypatch):
    """tensorboardX names its files by the second."""
    from xlam_jax.training.trackers import Trackers

    monkeypatch.setattr("time.time", lambda: 1.7e9)
    for start in (0, 2):
        settings = {"id": "a", "project": "p", "config": {}, "say": pytest.fail, "failed": pytest.fail}
        trackers = Trackers(["tensorboard"], tmp_path, start=start, **settings)
        for step in range(start + 1, start + 4):
            trackers.log(step, {"loss": float(start)})
        trackers.close()
    assert board_values(tmp_path) == [(1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0), (5, 2.0)]


@pytest.mark.slow
def test_wandb_is_offline_without_an_account_and_goes_on(settings, wandb):
    said = halves(settings, "track=[wandb]", "track_project=mine")
    names, found = wandb_values(settings["out"])
    assert found == losses(settings["out"]) and list(found) == STEPS
    id = json.loads((Path(settings["out"]) / "run.json").read_text())["tracked_as"]
    assert names == {("run", id, "mine")}
    assert said.count("wandb: offline, in ") == 2 and not events(settings["out"], "tracker_failed")


def test_wandb_asked_to_be_online_never_asks_for_a_key(settings, wandb, nobody):
    nobody.setenv("WANDB_MODE", "online")
    run(settings, "track=[wandb]", "steps=1")
    assert list(wandb_values(settings["out"])[1]) == [1]


def test_wandb_honours_its_own_switch(settings, wandb, nobody):
    nobody.setenv("WANDB_MODE", "disabled")
    run(settings, "track=[wandb]", "steps=1")
    assert list(losses(settings["out"])) == [1]
    assert not (Path(settings["out"]) / "wandb").exists() and not events(settings["out"], "tracker_failed")


def test_an_account_that_does_not_work_costs_only_the_tracker(settings, wandb, nobody):
    nobody.setenv("WANDB_API_KEY", "short")  # found out without a server
    assert run(settings, "track=[wandb, tensorboard]", "steps=1").finished
    assert list(losses(settings["out"])) == list(dict(board_values(settings["out"]))) == [1]
    (event,) = events(settings["out"], "tracker_failed")
    assert event["tracker"] == "wandb" and event["error"]


@pytest.mark.slow
def test_trackio_goes_on_with_its_run(settings, trackio):
    said = halves(settings, "track=[trackio]", "track_project=trackers-test")
    name = f"run-{json.loads((Path(settings['out']) / 'run.json').read_text())['tracked_as']}"
    with sqlite3.connect(trackio / "trackers-test.db") as db:
        rows = db.execute("select run_id, step, metrics from metrics where run_name = ?", (name,)).fetchall()
    values = {step: json.loads(metrics) for _, step, metrics in rows}
    found = {step: row["loss"] for step, row in values.items() if "loss" in row}
    assert found == pytest.approx(losses(settings["out"])) and list(found) == STEPS
    assert len({run_id for run_id, *_ in rows}) == 1
    assert f"trackio: run {name}" in said


def test_a_run_that_starts_anew_is_another_run(settings):
    """A start before the first checkpoint may have another config."""
    names = []
    for _ in range(2):
        run(settings, "stop_at=1", "steps=2", resume="never")
        names.append(json.loads((Path(settings["out"]) / "run.json").read_text())["tracked_as"])
        shutil.rmtree(Path(settings["out"]) / "checkpoints")
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("method", "done"), long_but([("add_scalar", 1)], [("__init__", 0), ("add_scalar", 1), ("close", 3)])
)
def test_a_tracker_that_fails_is_named_once_and_left_out(method, done, settings, monkeypatch):
    """Wherever it fails: the run ends as it would have, with every line."""
    import tensorboardX

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboardX.SummaryWriter, method, full)
    console = Console(record=True, width=300, file=open(os.devnull, "w"))  # noqa: SIM115
    assert run(settings, "track=[tensorboard]", "steps=3", console=console).finished
    assert list(losses(settings["out"])) == [1, 2, 3]
    said = console.export_text()
    assert said.count("warning: tensorboard failed and is left out") == 1 and "No space left" in said
    (event,) = events(settings["out"], "tracker_failed")
    assert (event["tracker"], event["step"]) == ("tensorboard", done)


@pytest.mark.parametrize(
    ("tracker", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_missing_package_is_found_before_anything_is_loaded(tracker, package, settings, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as told:
        run(settings, f"track=[{tracker}]", "model=nowhere")
    assert told.value.what == f"{package} is not installed" and told.value.where == "track"
    assert told.value.hint.startswith("pip install 'xlam-jax[track]'") and package in told.value.hint
    assert not Path(settings["out"]).exists()


def test_importing_the_loop_imports_no_tracker():
    code = "import sys, xlam_jax.training.loop; sys.exit(bool({'wandb', 'trackio', 'tensorboardX'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_names_that_are_no_tracker_or_no_project_are_refused(settings):
    for wrong in ("track=[mlflow]", "track_project=a/b"):
        with pytest.raises(InputError, match="track"):
            config(settings, wrong)
