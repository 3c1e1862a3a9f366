"""A working folder as `make demo` leaves it: configs of the repository, data, and small models."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import tiny_run
from xlam_jax.cli import main as command

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """runs/demo/{base,model} (tiny, random), configs/, data/bfcl_v2 with one row of our own."""
    root = tmp_path_factory.mktemp("world")
    shutil.copytree(REPO / "configs", root / "configs")
    recipe = root / "configs/demo/sft.yaml"
    recipe.write_text(recipe.read_text().replace("freeze_layers: 8", "freeze_layers: 1"))  # of two layers
    pairs = root / "configs/demo/dpo.yaml"
    pairs.write_text(pairs.read_text().replace("steps: auto\nmax_epochs: 2", "steps: 2"))
    tokenizer = tiny_run.make_tokenizer(root / "tokenizer")
    for name in ("base", "model"):
        tiny_run.make_model(root / "runs" / "demo" / name, tokenizer)
    return root


class Result:
    """Exit status and what was printed."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def xlam(monkeypatch, capfd):
    """Runs the command as the shell would, in this process."""

    def run(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["xlam", *map(str, args)])
        code = 0
        try:
            command.main()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(bool(e.code))
        out, err = capfd.readouterr()
        # Rich wraps to the terminal's width; errors are compared as running text.
        return Result(code, re.sub(r"\s+", " ", out), re.sub(r"\s+", " ", err))

    return run


@pytest.fixture
def at(monkeypatch):
    """Changes into a folder for one test."""

    def go(folder: Path) -> None:
        monkeypatch.chdir(folder)
        os.environ.pop("COLUMNS", None)

    return go
