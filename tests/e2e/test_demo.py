"""The demo with the real base model, cut short: every stage runs, and the report repeats what they said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlam_jax.errors import InputError
from xlam_jax.weights.base_model import find_smollm2

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(1500)
def test_demo_runs_end_to_end(tmp_path):
    try:
        find_smollm2()
    except InputError as e:
        pytest.skip(f"real weights needed: {e}")
    args = ["demo", "--out", str(tmp_path / "demo"), "--steps", "2", "--eval-rows", "2"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-m", "xlam_jax.cli.main", *args]
    process = subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True)
    report = json.loads((tmp_path / "demo/report.json").read_text())
    assert [row["model"] for row in report["table"]] == [
        *("before, free", "before, constrained", "after, free", "after, constrained")
    ]
    before, _, after, _ = (row["ast"] for row in report["table"])
    # Two steps teach nothing, and a demo that taught nothing says so.
    assert process.returncode == int(after <= before), process.stderr[-2000:]
    assert ("taught nothing" in process.stderr) == (after <= before)
    assert "absl" not in process.stderr and "WARNING" not in process.stderr
    for row in report["table"]:
        when, way = row["model"].split(", ")
        folder = tmp_path / "demo/eval" / when / way
        generations = (folder / "generations.jsonl").read_text().splitlines()
        assert len(generations) == row["n"] == 2
    assert report["call"].get("calls") or "exit status" in report["call"]["failed"]
    assert report["training"]["step"] == report["training"]["total_steps"] == 2
    # The stages' seconds are all of the run's.
    assert sum(s["seconds"] for s in report["stages"]) == pytest.approx(report["seconds"], rel=0.05)
