"""From a run on eight devices to folders that transformers and peft load, and answer alike."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import tiny_run
from xlam_jax.format import get_codec
from xlam_jax.inference import Engine
from xlam_jax.weights.card import EXAMPLE

REPO = Path(__file__).resolve().parents[2]
DEVICES = "--xla_force_host_platform_device_count=8"


def xlam(root, *args):
    command = [sys.executable, "-m", "xlam_jax.cli.main", *map(str, args)]
    env = {**os.environ, "XLA_FLAGS": DEVICES, "PYTHONPATH": str(REPO)}
    got = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=500)
    assert got.returncode == 0, got.stdout[-800:] + got.stderr[-800:]
    return got.stdout


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "adapters"])
def test_eight_devices_to_a_released_folder(tmp_path, lora):
    tokenizer = tiny_run.make_tokenizer(tmp_path / "t")
    base = tiny_run.make_model(
        tmp_path / "base", tokenizer, num_layers=2, max_position_embeddings=1024, initializer_range=0.3
    )
    (base / "NOTICE").write_text("made by us\n")
    tiny_run.make_data(tmp_path / "shards", tokenizer, count=16)
    config = {
        "model": "base", "data": {"train": "shards"}, "out": "run", "steps": 2, "batch": {"rows": 8},
        "mesh": {"fsdp": 4, "tensor": 2}, "optim": {"lr": 1e-2},
        **({"lora": {"rank": 4, "alpha": 8.0}} if lora else {}),
    }  # fmt: skip
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(config))
    xlam(tmp_path, "train", "sft.yaml")
    said = xlam(tmp_path, "convert", "to-hf", "run", "out", "--verify")
    assert "verified with transformers" in said and (tmp_path / "out/NOTICE").read_text() == "made by us\n"
    assert "8 x cpu, mesh fsdp 4 x tensor 2" in (tmp_path / "out/README.md").read_text()

    prompt = get_codec().prompt(EXAMPLE)
    (ours,) = Engine.from_folder(tmp_path / "out").generate([prompt], max_new_tokens=24)
    reader = AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    ids = torch.tensor([reader(prompt, add_special_tokens=False)["input_ids"]])

    def greedy(model) -> str:
        found = (
            model.eval()
            .generate(input_ids=ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
            .tolist()
        )
        assert found == list(ours.token_ids)
        return reader.decode(found[:-1] if ours.finish_reason == "stop" else found)

    assert greedy(AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"))) == ours.text
    if lora:
        xlam(tmp_path, "convert", "to-peft", "run", "adapter")
        model = AutoModelForCausalLM.from_pretrained(str(base))
        assert greedy(PeftModel.from_pretrained(model, str(tmp_path / "adapter"))) == ours.text
        card = (tmp_path / "adapter/README.md").read_text()
        assert "library_name: peft" in card and (tmp_path / "adapter/NOTICE").is_file()
