import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from tests import tiny_run
from xlam_jax.training import loop, setup

_STEPS: dict[str, object] = {}
_DECIDE = {"model", "objective", "freeze", "freeze_layers", "lora", "batch", "optim", "mesh", "precision"}
_DECIDE |= {"moe", "remat", "attention", "seed"}


@pytest.fixture(autouse=True)
def one_step_function_for_equal_settings(request, monkeypatch):
    """Runs whose training step is the same program trace it once; tracing is half of what a tiny run costs.

    Not in tests that replace parts of the trainer.
    """
    if "monkeypatch" in inspect.signature(request.function).parameters:
        return

    def set_up(*args):
        run = setup.set_up(*args)
        data = Path(run.config.data.train) / "manifest.json"
        files = (Path(run.config.model) / "config.json", data)
        key = [run.config.model_dump(mode="json", include=_DECIDE), *(f.read_text() for f in files)]
        return dataclasses.replace(run, step_fn=_STEPS.setdefault(json.dumps(key), run.step_fn))

    monkeypatch.setattr(loop, "set_up", set_up)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with `tokenizer`, `model` and packed `data` (40 records) and `eval` (10 records)."""
    root = tmp_path_factory.mktemp("world")
    tiny_run.make_tokenizer(root / "tokenizer")
    tiny_run.make_model(root / "model", root / "tokenizer")
    tiny_run.make_data(root / "data", root / "tokenizer", seq_len=320)
    tiny_run.make_data(root / "eval", root / "tokenizer", count=10, seq_len=320, seed=9)
    return root


@pytest.fixture
def settings(world, tmp_path):
    """Values of a TrainConfig for a run of ten steps in `tmp_path/run`."""
    return {
        "model": str(world / "model"),
        "data": {"train": str(world / "data")},
        "out": str(tmp_path / "run"),
        "steps": 10,
        "batch": {"rows": 4},
        "optim": {"lr": 1e-2, "weight_decay": 0.1},
        "checkpoint": {"every": 0},
    }
