import pytest

from tests import tiny_run


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
