"""Preference tuning of adapters: their reference is the model below them."""

import numpy as np
import pytest
from rich.console import Console

from tests import tiny_run
from xlam_jax.config import make_config
from xlam_jax.format.record import write_records
from xlam_jax.records.pairs import build_pairs
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train
from xlam_jax.training.preference.precompute import precompute
from xlam_jax.training.run_folder import read_metrics

KEYS = ("loss", "accuracy", "margin", "grad_norm")


def test_the_base_with_its_adapters_off_is_the_stored_reference(world, tmp_path):
    write_records(tmp_path / "records.jsonl", tiny_run.records(8))
    build_pairs(
        tmp_path / "records.jsonl", tmp_path / "pairs.jsonl", corruptions=["needless_call", "wrong_type"]
    )
    source = {"inputs": [str(tmp_path / "pairs.jsonl")], "tokenizer": str(world / "tokenizer")}
    kind = {"kind": "preference", "pair_layout": "shared", "seq_len": 384}
    build(BuildConfig(**source, **kind, out=str(tmp_path / "data")))
    values = {
        "model": str(world / "model"), "data": {"train": str(tmp_path / "data")}, "steps": 2,
        "objective": {"kind": "dpo"}, "lora": {"rank": 4, "targets": ["attention"]}, "batch": {"rows": 1},
        "optim": {"lr": 1e-2}, "checkpoint": {"every": 0},
    }  # fmt: skip

    def run(out, *overrides):
        config = make_config(TrainConfig, {**values, "out": str(tmp_path / out)}, overrides)
        train(config, console=Console(quiet=True))
        return [{k: row[k] for k in KEYS} for row in read_metrics(tmp_path / out) if "loss" in row]

    precompute(make_config(TrainConfig, {**values, "out": str(tmp_path / "stored")}))
    stored, live = run("stored"), run("live", "objective.reference=base")
    assert stored[0]["loss"] == pytest.approx(np.log(2), abs=1e-6) and stored[1]["loss"] < stored[0]["loss"]
    for a, b in zip(stored, live, strict=True):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5)
