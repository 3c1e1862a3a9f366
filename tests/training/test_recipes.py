"""Every recipe in configs/: it fits its hardware by `xlam plan`, and its tiny twin trains two steps."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests import tiny, tiny_run
from xlam_jax.cli.main import app
from xlam_jax.config import load_config
from xlam_jax.errors import InputError
from xlam_jax.format.record import write_records
from xlam_jax.models.named import BASES, named_config
from xlam_jax.parallel.hardware import hardware
from xlam_jax.plan.plan import make_plan
from xlam_jax.plan.recipe import amount, read_recipe
from xlam_jax.plan.work import find_model, find_shape, sizes_of, work_of
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train
from xlam_jax.weights.hf_out import save_hf

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(p for stage in ("sft", "dpo") for p in CONFIGS.glob(f"xlam-*/{stage}.yaml"))
# What differs between a released shape and its twin is size.
TWINS = {
    "deepseek-coder-1.3b": named_config("tiny-llama-linear"),
    "deepseek-coder-7b-v1.5": named_config("tiny-llama"),
    "mistral-7b-v0.2": named_config("tiny-mistral").replace(sliding_window=None),
    "mixtral-8x7b": named_config("tiny-mixtral"),
    "mixtral-8x22b-instruct": named_config("tiny-mixtral"),
    "llama-3.1-8b": named_config("tiny-llama3"),
}


NAME = lambda recipe: f"{recipe.parent.name}-{recipe.stem}"  # noqa: E731


def planned(recipe):
    """(shape that the recipe names, number of H100 of the `xlam plan` line beside it)."""
    text = (recipe.parent / "sft.yaml").read_text()
    return load_config(TrainConfig, recipe).shape, int(re.findall(r"xlam plan \S+ --gpus (\d+)", text)[0])


@pytest.mark.parametrize("recipe", RECIPES, ids=NAME)
def test_it_names_the_shape_of_what_it_starts_from(recipe, tmp_path, monkeypatch):
    """In a fresh clone, with nothing downloaded; a folder that is there counts, whatever is named."""
    config = load_config(TrainConfig, recipe)
    assert config.shape == BASES[recipe.parent.name]
    monkeypatch.chdir(tmp_path)
    assert find_shape(config) == find_model(config.shape)
    twin = TWINS["llama-3.1-8b"]
    save_hf(tiny.params(twin), twin, tmp_path / config.model)
    assert find_shape(config).num_layers == twin.num_layers
    with pytest.raises(InputError, match="shape is not named"):
        find_shape(config.model_copy(update={"model": "runs/none", "shape": ""}))


@pytest.mark.slow  # tracing the step of a released shape takes ten seconds and more
@pytest.mark.parametrize("recipe", RECIPES, ids=NAME)
def test_it_fits_by_the_plan(recipe):
    config = load_config(TrainConfig, recipe)
    shape, gpus = planned(recipe)
    rows = amount(read_recipe(config, recipe.parent), 4096, config.mesh, gpus, 560).rows
    work = work_of(config, find_model(shape), 4096).replace(rows=rows)
    plan = make_plan(
        work, hardware("h100-sxm"), sizes=sizes_of(config.mesh, gpus), devices=gpus, compile=False
    )
    device = hardware("h100-sxm")
    assert plan.memory.total < device.memory * device.usable, plan.memory


@pytest.fixture(scope="module")
def small_world(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    tokenizer = tiny_run.make_tokenizer(root / "tokenizer")
    tiny_run.make_data(root / "shards", tokenizer, count=60, seq_len=256)
    write_records(root / "records.jsonl", tiny_run.records(24))
    pairs = {"inputs": [str(root / "pairs.jsonl")], "kind": "preference", "pair_layout": "separate"}
    pairs |= {"tokenizer": str(tokenizer), "out": str(root / "pairs"), "seq_len": 512}
    (root / "pairs.yaml").write_text(yaml.safe_dump(pairs))
    for words in (
        ["data", "pairs", root / "records.jsonl", root / "pairs.jsonl", "--corruptions", "all"],
        ["data", "build", root / "pairs.yaml"],
    ):
        result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return root


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=NAME)
def test_its_tiny_twin_trains(recipe, small_world, tmp_path):
    cfg = TWINS[planned(recipe)[0]].replace(vocab_size=400)
    if cfg.moe:
        cfg = cfg.replace(moe=dataclasses.replace(cfg.moe, num_experts=8))
    params = tiny.params(cfg)
    save_hf(params, cfg, tmp_path / "base", tokenizer=small_world / "tokenizer")
    data = small_world / ("pairs" if recipe.stem == "dpo" else "shards")
    accumulation = min(2, load_config(TrainConfig, recipe).batch.accumulation)
    small = [
        f"model={tmp_path / 'base'}",
        f"out={tmp_path / 'run'}",
        f"data.train={data}",
        f"data.eval={data if recipe.stem == 'sft' else 'null'}",
        "steps=2",
        "optim.warmup_steps=1",
        "max_epochs=null",
        f"batch={{rows: {8 * accumulation}, accumulation: {accumulation}}}",
    ]
    config = load_config(TrainConfig, recipe, small)
    result = train(config, console=Console(quiet=True))
    assert result.step == 2 and result.finished and result.skipped == 0
    assert result.loss is not None and 0 < result.loss < 10
