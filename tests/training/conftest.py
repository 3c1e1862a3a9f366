import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import tiny_run


@pytest.fixture(scope="package", autouse=True)
def _quick_compilation(tmp_path_factory):
    """Nearly all the time of these tests is XLA's: equal programs are compiled once, and none is polished."""
    changes = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_disable_most_optimizations": True,
    }
    before = {key: jax.config.values[key] for key in changes}
    for key, value in changes.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()
    yield
    for key, value in before.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()


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
