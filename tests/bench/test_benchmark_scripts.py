"""Every script has a help with an example, which works as typed."""

import importlib
import re
import shlex
import sys

import pytest
import typer.main

from tests import tiny_run
from tests.pages import REPO
from xlam_jax.cli.main import run

# A stage is a process of data_memory.py.
SCRIPTS = sorted(p.stem for p in (REPO / "benchmarks").glob("*.py") if p.stem != "data_memory_stage")


@pytest.fixture
def script(monkeypatch, capfd):
    """Runs a script as `python benchmarks/NAME.py ...` would, in this process: exit status and what was printed."""

    def go(name, *args):
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *map(str, args)])
        code = 0
        try:
            run(importlib.import_module(f"benchmarks.{name}").app)
        except SystemExit as e:
            code = e.code or 0
        return code, " ".join("".join(capfd.readouterr()).split())

    return go


def example(name):
    epilog = typer.main.get_command(importlib.import_module(f"benchmarks.{name}").app).epilog
    return re.fullmatch(rf"Example: python benchmarks/{name}\.py (.+)", epilog)[1]


def test_there_are_scripts():
    assert len(SCRIPTS) >= 5


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_has_an_example(name, script):
    code, told = script(name, "--help")
    assert code == 0 and f"Example: python benchmarks/{name}.py" in told and example(name)


def test_rows_without_a_clean_one_are_bad_input(tmp_path, script):
    (tmp_path / "empty.jsonl").write_text("")
    code, told = script("verifier", tmp_path / "empty.jsonl", "--per-class", 2)
    assert code == 2 and "no clean record" in told and "empty.jsonl" in told


def test_a_stage_that_is_none_is_named(tmp_path, script):
    code, told = script("data_memory", "--tokenizer", tmp_path, "--stage", "augmnt")
    assert code == 2 and "augment" in told


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_examples_work_as_typed(name, script, tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(REPO / "configs")
    tiny_run.make_model(tmp_path / "runs/demo/base", tiny_run.make_tokenizer(tmp_path / "tokenizer"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPO))  # of the processes that a script starts
    code, told = script(name, *shlex.split(example(name)))
    assert code == 0, told[-500:]
