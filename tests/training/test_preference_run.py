"""From records to a preference-tuned model, with the commands a person types."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from tests import tiny_run
from xlam_jax.cli.main import app
from xlam_jax.format.record import write_records
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.weights import load_model


def xlam(*words):
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    """A folder after: pairs, build, reference, train."""
    root = tmp_path_factory.mktemp("dpo")
    write_records(root / "records.jsonl", tiny_run.records(16))
    xlam("data", "pairs", root / "records.jsonl", root / "pairs.jsonl", "--corruptions", "all")
    build = {"inputs": [str(root / "pairs.jsonl")], "kind": "preference", "pair_layout": "shared"}
    build |= {"tokenizer": str(world / "tokenizer"), "out": str(root / "shards"), "seq_len": 512}
    (root / "pairs.yaml").write_text(yaml.safe_dump(build))
    xlam("data", "build", root / "pairs.yaml", "--json", root / "build.json")
    dpo = {
        "model": str(world / "model"), "data": {"train": str(root / "shards"), "eval": str(root / "shards")},
        "out": str(root / "run"), "objective": {"kind": "dpo", "beta": 0.5, "chosen_drop_limit": 0.01},
        "steps": 12, "batch": {"rows": 4}, "checkpoint": {"every": 0},
        "optim": {"lr": 3e-3, "weight_decay": 0.0},
    }  # fmt: skip
    (root / "dpo.yaml").write_text(yaml.safe_dump(dpo))
    xlam("data", "reference", root / "dpo.yaml", "--json", root / "reference.json")
    (root / "train.txt").write_text(xlam("train", root / "dpo.yaml", "--json", root / "train.json"))
    return root


def test_the_margin_grows_and_every_pair_is_told_apart(done):
    rows = [row for row in read_metrics(done / "run") if "loss" in row]
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["margin"] > rows[2]["margin"] > rows[0]["margin"] and rows[-1]["margin"] > 1
    assert rows[-1]["accuracy"] == 1
    result = json.loads((done / "train.json").read_text())
    assert result["eval"]["eval_accuracy"] == 1 and result["eval"]["eval_margin"] > 1
    keys = {"reward_chosen", "reward_rejected", "chosen_change", "rejected_change", "nll", "divergence"}
    assert keys <= set(rows[0])
    assert rows[0]["margin"] == pytest.approx(rows[0]["reward_chosen"] - rows[0]["reward_rejected"], abs=1e-4)


def test_the_run_folder_is_a_model(done):
    cfg, _ = load_model(done / "run")
    assert cfg.num_layers == 2


def test_a_reference_for_a_folder_and_a_model(done, world):
    """The other spelling of the command finds that everything is there."""
    out = done / "again.json"
    xlam("data", "reference", done / "shards", "--model", world / "model", "--json", out)
    (again,) = json.loads(out.read_text())
    assert (
        again["computed"] == 0
        and again["rows"] == json.loads((done / "reference.json").read_text())[0]["rows"]
    )


def test_falling_likelihood_of_chosen_answers_is_said_once(done):
    changes = [row["chosen_change"] for row in read_metrics(done / "run") if "loss" in row]
    said = (done / "train.txt").read_text().count("became less likely")
    assert said == (1 if min(changes) < -0.01 else 0)
