"""Whole runs that train adapters: what is saved, resumed, refused and exported."""

import json

import jax
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from tests import tiny, tiny_run
from xlam_jax.cli import convert
from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.models.lora import base, merge
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.weights import load_model, save_hf
from xlam_jax.weights.adapters import adapter_run, read_adapted
from xlam_jax.weights.peft_in import load_peft
from xlam_jax.weights.source import inspect

QUIET = Console(quiet=True)
LORA = {"rank": 4, "alpha": 8.0, "targets": ["attention", "down_proj"]}


def run(settings, *overrides, **changes):
    values = {**settings, "lora": LORA, "steps": 4, "optim": {"lr": 1e-2}, **changes}
    return train(make_config(TrainConfig, values, overrides), console=QUIET)


def losses(folder):
    return [row["loss"] for row in read_metrics(folder) if "loss" in row]


def adapted(folder):
    source = inspect(folder)
    found = adapter_run(source.params)
    return read_adapted(found, load_model(found.model)[0], load_model)


def test_a_run_from_start_to_release(settings, world, tmp_path):
    """Trains, stops and resumes as if it had not stopped; the base stays; every way out agrees."""
    whole = run(settings)
    run(settings, out=str(tmp_path / "cut"), stop_at=2)
    again = run(settings, out=str(tmp_path / "cut"))
    assert again.resumed_from == 2 and again.loss == whole.loss
    assert losses(tmp_path / "cut") == losses(tmp_path / "run")
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]

    cfg, start = load_model(world / "model")
    params = adapted(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, base(params), start)
    stored = sum(f.stat().st_size for f in (tmp_path / "run" / "checkpoints" / "4" / "params").rglob("*"))
    assert stored < sum(x.nbytes for x in jax.tree.leaves(start))  # Orbax's own files dwarf the adapters

    cut = jax.tree.map(np.asarray, merge(adapted(tmp_path / "cut")))
    merged = load_model(tmp_path / "run")[1]
    jax.tree.map(np.testing.assert_array_equal, merged, cut)
    assert np.abs(merged.layers.attn.q - start.layers.attn.q).max() > 1e-3
    np.testing.assert_array_equal(merged.layers.mlp.up, start.layers.mlp.up)

    call("to-hf", tmp_path / "run", tmp_path / "hf")
    jax.tree.map(np.testing.assert_array_equal, load_model(tmp_path / "hf")[1], merged)
    call("to-peft", tmp_path / "run", tmp_path / "adapter")
    back = load_peft(tmp_path / "adapter", cfg)
    np.testing.assert_allclose(back.layers.attn.o.b, params.layers.attn.o.b, rtol=1e-6)
    call("from-peft", tmp_path / "adapter", tmp_path / "merged")
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), load_model(tmp_path / "merged")[1], merged
    )
    # What the run knew goes on with its adapters, and the licence that was settled for them.
    ours, kept = (json.loads((tmp_path / d / "provenance.json").read_text()) for d in ("merged", "adapter"))
    assert ours == {**kept, "made": "The adapter adapter was merged into it."} and kept["training"]
    call("to-hf", tmp_path / "merged", tmp_path / "again")


def call(*args):
    app = typer.Typer()
    app.add_typer(convert.app, name="convert")
    result = CliRunner().invoke(app, ["convert", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_another_base_is_refused(settings, tmp_path):
    tiny_run.make_tokenizer(tmp_path / "tokenizer")
    model = tiny_run.make_model(tmp_path / "model", tmp_path / "tokenizer")
    settings = {**settings, "model": str(model)}
    run(settings, stop_at=1)
    cfg, _ = load_model(model)
    save_hf(tiny.params(cfg, 5), cfg, model, tokenizer=tmp_path / "tokenizer")
    with pytest.raises(InputError, match="weights of the base model changed"):
        run(settings)
    with pytest.raises(InputError, match="not the model that the adapters were trained on"):
        load_model(tmp_path / "run")


def test_the_config_is_checked_before_anything_is_written(settings, tmp_path):
    for changes, words in (
        ({"lora": {**LORA, "targets": ["q_porj"]}}, "q_porj"),
        ({"freeze": ["embed"]}, "frozen as a whole"),
        ({"freeze_layers": 1}, "frozen as a whole"),
    ):
        with pytest.raises(InputError, match=words):
            run(settings, **changes)
    assert not (tmp_path / "run").exists()


def test_the_meta_names_the_base(settings, world, tmp_path):
    run(settings, stop_at=1)
    meta = json.loads((tmp_path / "run" / "checkpoints" / "1" / "meta" / "metadata").read_text())
    assert meta["lora"]["model"] == str(world / "model") and len(meta["base"]) == 64
