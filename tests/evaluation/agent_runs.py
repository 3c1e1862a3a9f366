"""Runs of `xlam eval toolquery` and `webshop`, and what they wrote."""

import json

from typer.testing import CliRunner

from xlam_jax.cli import eval as eval_module


def run(*args):
    return CliRunner().invoke(eval_module.app, list(map(str, args)))


def scored(tmp_path, *args):
    """(result, rows) of a run."""
    result = run(*args, "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    lines = (tmp_path / "out" / "generations.jsonl").read_text().splitlines()
    return json.loads((tmp_path / "r.json").read_text()), list(map(json.loads, lines))
