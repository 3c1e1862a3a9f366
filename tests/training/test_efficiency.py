"""FLOPs of packed steps against each document alone, the MFU of made-up seconds, and what a run says."""

import numpy as np
import pytest

from tests.training import runs
from xlam_jax.config import make_config
from xlam_jax.models.flops import flops_per_token
from xlam_jax.models.named import named_config
from xlam_jax.parallel.hardware import hardware, known_hardware
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.shards.loader import PackedSource, Steps
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.efficiency import Efficiency
from xlam_jax.training.report import page
from xlam_jax.training.run_folder import read_metrics
from xlam_jax.weights.hf_in import read_config

CONFIG = make_config(TrainConfig, {"model": "m", "data": {"train": "d"}, "out": "o"})


@pytest.mark.parametrize("window", [None, 40])
def test_documents_of_real_packed_rows_count_alone(world, window):
    cfg = named_config("tiny-mistral").replace(sliding_window=window)
    made = Efficiency(CONFIG, cfg, make_mesh())
    batch = Steps(PackedSource(world / "data"), 4, 2, 0, 1)[0]
    lengths = [
        int((row == segment).sum())
        for row in batch.segment_ids.reshape(-1, batch.segment_ids.shape[-1])
        for segment in range(1, row.max() + 1)
    ]
    made.add(sum(lengths), made.pairs(batch), 2.0)
    wanted = sum(n * flops_per_token(cfg, n)["total"] for n in lengths)
    assert made.overall()["tflops_per_device"] == pytest.approx(wanted / 2.0 / 1e12, rel=1e-4)
    # A row counted as one document would claim more.
    assert made.pairs(batch) < 4 * batch.tokens.shape[-1] ** 2 / 2 or len(lengths) == 4


def test_mfu_is_the_share_of_all_devices_peaks(monkeypatch):
    peak = hardware("h100").peak
    monkeypatch.setattr("xlam_jax.training.efficiency.known_hardware", lambda kind: hardware("h100"))
    cfg = named_config("tiny-llama")
    made = Efficiency(CONFIG, cfg, make_mesh(MeshConfig(data=2)))
    made.add(10**12, 0.0, None)  # compiled
    assert made.recent() == made.overall() == {}
    per_token = flops_per_token(cfg, 2)["weights"]
    seconds = 1e6 * per_token / (2 * peak) / 0.4
    made.add(10**6, 0.0, seconds)
    assert made.recent()["mfu"] == pytest.approx(0.4, abs=1e-4)
    made.add(10**6, 0.0, 3 * seconds)
    assert made.recent()["mfu"] == pytest.approx(0.4 / 3, abs=1e-4)
    assert made.overall()["mfu"] == pytest.approx(0.2, abs=1e-4)
    assert "989 TFLOP/s (h100-sxm, dense bf16)" in made.formula


def test_devices_by_the_names_that_jax_gives_them():
    assert known_hardware("NVIDIA H100 80GB HBM3").name == "h100-sxm"
    assert known_hardware("NVIDIA H200").name == "h200" and known_hardware("TPU v5p").name == "tpu-v5p"
    # Cards of the same name with less power, and a CPU, have no peak here.
    assert not any(map(known_hardware, ("NVIDIA H100 PCIe", "NVIDIA H100 NVL", "cpu")))


def test_a_run_says_it_everywhere(settings, world, capsys):
    result = runs.run(settings, "steps=3", "log.every=2", "checkpoint.keep=1")
    rows = [row for row in read_metrics(settings["out"]) if "loss" in row]
    data = PackedSource(world / "data")
    assert [row["epoch"] for row in rows] == [round(n * 4 / len(data), 4) for n in (2, 3)]
    (last,) = rows[1:]
    # The last line holds step 3 alone, so its rate is checked against what is in that step.
    steps = Steps(data, 4, 1, 0, 3)
    lengths = np.concatenate([np.bincount(row[row > 0])[1:] for row in steps[2].segment_ids[0]])
    cfg = read_config(world / "model")
    wanted = sum(int(n) * flops_per_token(cfg, int(n))["total"] for n in lengths)
    assert last["tflops_per_device"] * 1e12 * last["step_seconds"] == pytest.approx(wanted, rel=1e-3)
    assert "mfu" not in last and result.mfu is None and result.tflops_per_device > 0
    said = " ".join(capsys.readouterr().err.split())
    assert "s/step" in said and "TFLOP/s" in said and "MFU" not in said
    html = page(type(world)(settings["out"]))
    assert "model TFLOP/s of a device" in html and "sum of len^2 over documents" in html and "epoch" in html
