"""Tool-call accuracy while training is what `xlam eval` says of the same checkpoint."""

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tests import tiny_run
from tests.training.runs import config
from xlam_jax.cli.train import register
from xlam_jax.cli.train_calls import CallAccuracy
from xlam_jax.errors import InputError
from xlam_jax.evaluation import evaluate
from xlam_jax.format import write_records
from xlam_jax.inference import Engine
from xlam_jax.training.run_folder import read_metrics


@pytest.fixture
def few(world, settings, tmp_path):
    """A run on three records, and these as a file: learned by heart, so that some answers are right."""
    settings["data"]["train"] = str(tiny_run.make_data(tmp_path / "few", world / "tokenizer", 3, seq_len=640))
    records = tiny_run.records(3)
    write_records(tmp_path / "records.jsonl", records)
    calls = {"records": str(tmp_path / "records.jsonl"), "rows": 2, "max_new_tokens": 64, "max_len": 512}
    settings |= {"steps": 160, "batch": {"rows": 1}, "log": {"every": 40, "eval_every": 80, "calls": calls}}
    settings["checkpoint"] = {"every": 80, "keep": 9, "best": "eval_ast", "best_mode": "max"}
    return settings, records


@pytest.mark.slow
def test_the_command_logs_calls_that_are_right(few, tmp_path):
    settings, records = few
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "c.yaml"), "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    logged = {r["step"]: r for r in read_metrics(settings["out"]) if "eval_ast" in r}
    assert sorted(logged) == [80, 160] and logged[160]["eval_ast"] > 0
    for step, row in logged.items():
        engine = Engine.from_folder(Path(settings["out"]) / "checkpoints" / str(step), max_len=512)
        said = evaluate(engine, records[:2], engine.codec, max_new_tokens=64).summary
        assert (row["eval_ast"], row["eval_parsable"]) == (said["ast"], said["parsable"])
    report = json.loads((tmp_path / "r.json").read_text())
    best = max(logged, key=lambda s: (logged[s]["eval_ast"], -s))
    assert report["best"] == {"step": best, "metric": "eval_ast", "value": logged[best]["eval_ast"]}


@pytest.mark.slow
def test_on_a_mesh_the_answers_are_the_same(few, world):
    """Sharded parameters are read as they lie."""
    import jax

    from xlam_jax.parallel.mesh import MeshConfig, make_mesh
    from xlam_jax.weights import load_model

    settings, _ = few
    made = config(settings)
    accuracy = CallAccuracy(made, made.log.calls)
    _, plain = load_model(world / "model")
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2, data=2))
    with jax.set_mesh(mesh):
        _, sharded = load_model(world / "model", mesh=mesh)
        found = accuracy(sharded, 1)
    assert found == accuracy(plain, 1)


def test_records_that_ask_nothing_are_refused_before_anything_is_written(few, tmp_path):
    settings, _ = few
    (tmp_path / "records.jsonl").write_text("")
    made = config(settings)
    with pytest.raises(InputError, match="no record to ask"):
        CallAccuracy(made, made.log.calls)
