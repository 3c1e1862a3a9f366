"""Folders as strangers have them: nothing of theirs is lost, nothing damaged is merged or sent."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tests import tiny_run
from xlam_jax.cli.main import app
from xlam_jax.errors import XlamError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    tiny_run.make_model(root / "model", tiny_run.make_tokenizer(root / "tokenizer"))
    return root / "model"


@pytest.fixture
def model(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


def refused(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert isinstance(result.exception, XlamError), result.output + repr(result.exception)
    assert result.exception.exit_code == 2
    return str(result.exception)


def adapter(folder, model, a=(4, 32), b=(32, 4), dtype=np.float32):
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(model)}))
    stem = "base_model.model.model.layers.0.self_attn.q_proj.lora"
    tensors = {f"{stem}_A.weight": np.ones(a, dtype), f"{stem}_B.weight": np.ones(b, dtype)} if a else {}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("suffix", [".partial", ".replaced", ""])
def test_a_source_in_the_place_of_the_work_is_not_touched(model, tmp_path, suffix):
    source = model.rename(tmp_path / f"mine{suffix}")
    before = sorted(p.name for p in source.iterdir())
    assert "DST would replace SRC" in refused("convert", "to-hf", source, tmp_path / "mine", "--overwrite")
    assert sorted(p.name for p in source.iterdir()) == before


def test_a_merge_replaces_neither_adapter_nor_base(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model)
    for dst in (peft, model):
        assert "DST would replace" in refused(
            "convert", "from-peft", peft, dst, "--base", model, "--overwrite"
        )
    assert (peft / "adapter_model.safetensors").is_file() and (model / "config.json").is_file()


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"b": (32, 2)}, "no pair of one rank"), ({"a": (4,)}, "no pair of one rank"),
        ({"a": None}, "holds no tensors"), ({"dtype": np.int8}, "holds integers"),
    ],
)  # fmt: skip
def test_adapters_that_are_damaged_are_not_merged(model, tmp_path, shapes, said):
    peft = adapter(tmp_path / "adapter", model, **shapes)
    assert said in refused("convert", "from-peft", peft, tmp_path / "out", "--base", model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "files", [{}, {"../secret.txt": "0" * 64}, {"/etc/passwd": "0" * 64}, {"a/../../b": "0" * 64}]
)
def test_nothing_outside_a_release_is_sent(model, tmp_path, files):
    (tmp_path / "secret.txt").write_text("secret")
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["convert", "to-hf", str(model), str(out)]).exit_code == 0
    sums = json.loads((out / "checksums.json").read_text())
    sums["files"] = {**(sums["files"] if files else {}), **files}
    (out / "checksums.json").write_text(json.dumps(sums))
    assert "checksums.json names" in refused("convert", "push", out, "me/model")


def test_a_card_keeps_the_readme_of_somebody_else(model):
    for own in ("checksums.json", "xlam.json"):
        (model / own).unlink(missing_ok=True)
    text = (model / "README.md").read_text()
    result = CliRunner().invoke(app, ["convert", "card", str(model)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert (model / "BASE_README.md").read_text() == text != (model / "README.md").read_text()
