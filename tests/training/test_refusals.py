"""A start that is refused, and small files that are damaged: one line, and the run as it was."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.runs import run
from xlam_jax.cli.main import app
from xlam_jax.errors import InputError
from xlam_jax.training.run_folder import read_metrics


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    """A run of two steps."""
    out = tmp_path_factory.mktemp("done") / "run"
    settings = {"model": str(world / "model"), "data": {"train": str(world / "data")}, "out": str(out)}
    settings |= {"steps": 2, "batch": {"rows": 4}, "optim": {"lr": 1e-2}, "log": {"every": 1}}
    run(settings)
    return settings


@pytest.fixture
def finished(done, tmp_path):
    shutil.copytree(done["out"], tmp_path / "run")
    return {**done, "out": str(tmp_path / "run")}


def content(settings):
    """All files but the report and the lease, which tell of every start."""
    root = Path(settings["out"])
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {name: text for name, text in files.items() if name not in ("report.html", "lease.json")}


def test_a_refused_start_changes_nothing(finished, world, tmp_path):
    other = tmp_path / "model"
    shutil.copytree(world / "model", other)
    config = json.loads((other / "config.json").read_text())
    for key in ("rope_parameters", "rope_scaling"):
        config.pop(key, None)
    (other / "config.json").write_text(json.dumps(config | {"rope_theta": 77777.0}))
    before = content(finished)
    for changes, words in (
        ((f"model={other}",), "rope_theta"),
        ((f"data.train={world / 'eval'}",), "data"),
        (("optim.lr=1e-3", "steps=4"), "optim.lr"),
        (("steps=1", "resume_changed=true"), "2 steps already"),
        (("steps=4", "optim.warmup_steps=4", "resume_changed=true"), "warm-up"),
    ):
        with pytest.raises(InputError, match=words):
            run(finished, *changes)
        assert content(finished) == before, words


@pytest.mark.parametrize("name", ["run.json", "best.json"])
def test_a_damaged_small_file_is_named_and_may_be_removed(finished, name):
    path = Path(finished["out"]) / name
    for text in (b"{", b"5", b"\xff{}"):
        path.write_bytes(text)
        with pytest.raises(InputError, match="JSON") as error:
            run(finished, "steps=3", "resume_changed=true")
        assert error.value.where == str(path) and "remove it" in error.value.hint
    path.unlink()
    assert run(finished, "steps=3", "resume_changed=true").step == 3


def test_damaged_lines_are_left_out(finished):
    out = Path(finished["out"])
    for name in ("events.jsonl", "metrics.jsonl"):
        with (out / name).open("ab") as file:
            file.write(b'5\n[1]\n{"step": \xff}\n{"odd": 1}\nnull\n')
    assert run(finished, "steps=3", "resume_changed=true").step == 3
    assert [row["step"] for row in read_metrics(out) if "loss" in row] == [1, 2, 3]
    assert (out / "report.html").stat().st_size > 5000


def test_a_report_that_cannot_be_written_takes_nothing_from_the_run(finished, monkeypatch):
    from xlam_jax.training import loop

    console = Console(record=True, width=200)
    monkeypatch.setattr(loop, "write_report", lambda run: {}["missing"])
    assert run(finished, "steps=3", "resume_changed=true", console=console).step == 3
    assert "report.html was not written: KeyError" in console.export_text()


def test_a_full_disk_names_the_file_that_was_asked_for():
    from typer.testing import CliRunner

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    found = CliRunner().invoke(app, ["config", "train", "optim.lr", "--json", "/dev/full"])
    assert found.exception.where == "/dev/full" and found.exception.exit_code == 4
