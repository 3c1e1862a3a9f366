"""Whole runs in a few lines, for the training tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xlam_jax.config import make_config
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import TrainResult, train
from xlam_jax.training.run_folder import EVENTS, read_lines, read_metrics
from xlam_jax.weights import load_model

EXACT = ("step", "loss", "accuracy", "grad_norm", "lr")


def config(settings: dict, *overrides: str) -> TrainConfig:
    return make_config(TrainConfig, settings, overrides)


def run(settings: dict, *overrides: str, **options: Any) -> TrainResult:
    return train(config(settings, *overrides), **options)


def params_of(run: str | Path) -> Any:
    return jax.device_get(load_model(run)[1])


def exact_metrics(run: str | Path) -> list[dict]:
    return [{k: row[k] for k in EXACT} for row in read_metrics(run) if "loss" in row]


def checkpoints(run: str | Path) -> list[int]:
    """Steps of all folders of a run's checkpoints; fails on anything that is none."""
    return sorted(int(p.name) for p in (Path(run) / "checkpoints").iterdir())


def events(run: str | Path, kind: str) -> list[dict]:
    return [e for e in read_lines(Path(run) / EVENTS) if e["event"] == kind]


def assert_same_arrays(a: str | Path, b: str | Path) -> None:
    """Every array of two checkpoints, moments too, is the same bit for bit."""
    import orbax.checkpoint as ocp

    items = [item for item in ("params", "opt_state") if (Path(a) / item).exists()]
    for item in items:
        with ocp.PyTreeCheckpointer() as reader:
            left, right = (reader.restore(Path(x).absolute() / item) for x in (a, b))
        assert left.keys() == right.keys()
        for name, value in left.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(right[name]), err_msg=name)


def start(settings: dict, before: str = "") -> subprocess.Popen:
    """A process that trains by `settings`; errors of ours are printed and become its exit status.

    Args:
      before: Python to run first.
    """
    code = f"""
import json, sys
{before}
from xlam_jax.config import make_config
from xlam_jax.errors import XlamError
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train
try:
    train(make_config(TrainConfig, json.loads(sys.argv[1])))
except XlamError as e:
    print(e)
    sys.exit(e.exit_code)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(settings)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
