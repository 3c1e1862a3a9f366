"""A batch asked for in samples, and what the recipes come to."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlam_jax.config import load_config, make_config
from xlam_jax.errors import InputError
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.plan.recipe import amount, read_recipe
from xlam_jax.training.config import BatchConfig, TrainConfig, binding
from xlam_jax.training.samples import rows_for, with_rows

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(p for stage in ("sft", "dpo") for p in CONFIGS.glob(f"xlam-*/{stage}.yaml"))


@given(st.integers(1, 4096), st.floats(1, 200), st.integers(1, 64), st.integers(1, 8))
def test_no_whole_number_of_rows_comes_nearer(samples, per_row, ways, accumulation):
    rows = rows_for(BatchConfig(samples=samples, accumulation=accumulation), per_row, ways)
    unit = ways * accumulation
    assert rows >= unit and rows % unit == 0
    missed = abs(rows * per_row - samples)
    for other in (rows - unit, rows + unit):
        assert other < unit or missed <= abs(other * per_row - samples) + 1e-6 * samples


def settings(**batch):
    return {"model": "m", "data": {"train": "d"}, "out": "nowhere", "batch": batch}


def test_rows_and_samples_are_one_thing():
    with pytest.raises(InputError, match=r"batch\.samples=null"):
        make_config(TrainConfig, settings(samples=48), ["batch.rows=8"])
    assert (
        make_config(TrainConfig, settings(samples=48), ["batch.rows=8", "batch.samples=null"]).batch.rows == 8
    )
    # Runs that never heard of samples go on from their checkpoints.
    assert "batch.samples" not in binding(make_config(TrainConfig, settings(rows=8)))
    assert binding(make_config(TrainConfig, settings(samples=48)))["batch.samples"] == 48


def test_a_run_keeps_its_rows_on_another_mesh(tmp_path):
    manifest, said = {"records": 300, "rows": 100}, []
    config = make_config(TrainConfig, settings(samples=18) | {"out": str(tmp_path)})
    two, four = make_mesh(MeshConfig(fsdp=2)), make_mesh(MeshConfig(fsdp=2, data=2))
    started = with_rows(config, manifest, two, said.append)
    assert started.batch.rows == 6 and with_rows(config, manifest, four).batch.rows == 4 + 4
    assert "6 rows of 3 samples hold 18" in said[0] and "times" not in said[0]
    meta = tmp_path / "checkpoints" / "7" / "meta" / "metadata"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"config": binding(started)}))
    assert with_rows(config, manifest, four, said.append).batch.rows == 6 and "as before" in said[1]
    other = config.model_copy(update={"batch": BatchConfig(samples=30)})
    assert with_rows(other, manifest, four).batch.rows == 8


# What was published, samples a step (the sources stand in the recipes), and what it comes to at 560 tokens a sample on
# the devices of the recipe's own `xlam plan` line. Rows come in one for each way the mesh splits them.
PUBLISHED = {
    "xlam-1b-fc-r": (96, 24), "xlam-7b-fc-r": (96, 16), "xlam-7b-r": (48, 8), "xlam-8x7b-r": (48, 16),
    "xlam-8x22b-r": (48, 16), "xlam-2-8b-fc-r": (48, 8),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_recipes_ask_for_the_published_batch(recipe):
    (gpus,) = re.findall(r"xlam plan \S+ --gpus (\d+)", (recipe.parent / "sft.yaml").read_text())
    config = load_config(TrainConfig, recipe)
    found = read_recipe(config, recipe.parent)
    assert found.seq_len
    came_to = amount(found, found.seq_len, config.mesh, int(gpus), 560)
    samples, rows = PUBLISHED[recipe.parent.name] if recipe.stem == "sft" else (16, int(gpus))
    assert config.batch.samples == samples and came_to.rows == rows
    assert f"{samples} samples asked for" in came_to.lines[0]
    far = abs(came_to.samples / samples - 1) > 0.1
    assert far == ("times as many" in came_to.lines[0])
    # Short samples fill a batch of rows; long ones need more rows than the mesh's own.
    assert amount(found, found.seq_len, config.mesh, int(gpus), 4000).samples == pytest.approx(
        samples, rel=0.5
    )


def test_steps_once_the_data_is_built(world):
    values = {"model": "m", "data": {"train": str(world / "data")}, "out": "nowhere", "max_epochs": 3}
    recipe = read_recipe(make_config(TrainConfig, values | {"batch": {"samples": 20}}))
    manifest = json.loads((world / "data" / "manifest.json").read_text())
    found = amount(recipe, recipe.seq_len, MeshConfig(), None, 560)
    assert recipe.rows == manifest["rows"] and recipe.per_row == manifest["records"] / manifest["rows"]
    assert found.steps == -(-3 * manifest["rows"] // found.rows)
    assert f"{found.steps} steps (max_epochs 3)" in found.lines[-1]
