"""Adapters that PEFT itself would refuse or read otherwise are not merged."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typed import adapter, refused, xlam

WEIGHTS = "adapter_model.safetensors"


def told(peft, model, tmp_path):
    said = refused("convert", "from-peft", peft, tmp_path / "out", "--base", model)
    assert not (tmp_path / "out").exists()
    return said


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_types_that_are_no_floats_of_an_adapter(model, tmp_path, dtype):
    peft = adapter(tmp_path / "adapter", model, dtype=np.uint8)
    header, data = {}, b""
    for name, x in load_file(peft / WEIGHTS).items():  # numpy has no such type
        place = [len(data), len(data) + x.nbytes]
        header[name] = {"dtype": dtype, "shape": x.shape, "data_offsets": place}
        data += x.tobytes()
    text = json.dumps(header).encode()
    (peft / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert f"holds {dtype}" in told(peft, model, tmp_path)


def test_types_that_are_read(model, tmp_path):
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        peft = adapter(tmp_path / f"adapter-{np.dtype(dtype).name}", model, dtype=dtype)
        xlam("convert", "from-peft", peft, tmp_path / peft.name.replace("adapter", "out"), "--base", model)


def test_one_matrix_under_two_names_is_not_merged(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model)
    tensors = load_file(peft / WEIGHTS)
    twice = {name.removeprefix("base_model.model."): 2 * x for name, x in tensors.items()}
    save_file({**tensors, **twice}, peft / WEIGHTS)
    said = told(peft, model, tmp_path)
    assert "two adapters stand on one matrix" in said and WEIGHTS in said


@pytest.mark.parametrize(
    "change", [{"r": 16}, {"r": 16, "use_rslora": True}, {"rank_pattern": {"q_proj": 8}}, {"r": None}]
)
def test_a_rank_that_is_not_that_of_the_tensors(model, tmp_path, change):
    peft = adapter(tmp_path / "adapter", model, **change)
    if change == {"r": None}:  # PEFT's own rank is 8
        config = json.loads((peft / "adapter_config.json").read_text())
        del config["r"]
        (peft / "adapter_config.json").write_text(json.dumps(config))
    said = told(peft, model, tmp_path)
    assert "has rank 4" in said and "q_proj" in said


def test_a_rank_of_its_own_module_counts(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model, r=16, rank_pattern={"q_proj": 4})
    xlam("convert", "from-peft", peft, tmp_path / "out", "--base", model)


@pytest.mark.parametrize(
    "change",
    [
        {"target_modules": ["v_proj"]},
        {"target_modules": ["proj"]},
        {"target_modules": ["self_attn.q_proj"]},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"]},
        {"target_modules": r".*\.layers\.0\..*_proj"},
        {"target_modules": r"layers\.0\..*_proj"},
        {"exclude_modules": ["q_proj"]},
        {"exclude_modules": ["k_proj"]},
        {"exclude_modules": r".*\.0\.self_attn\..*"},
        {"layers_to_transform": [0]},
        {"layers_to_transform": 0},
        {"layers_to_transform": [1]},
        {"layers_to_transform": 1},
        {"layers_to_transform": []},
        {"layers_to_transform": [1], "target_modules": ["model.layers.0.self_attn.q_proj"]},
    ],
    ids=str,
)
def test_a_module_that_the_config_leaves_out_is_not_merged(model, tmp_path, change):
    """As PEFT decides: what it would not adapt is refused, what it would is merged."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    settings = {"target_modules": ["q_proj"], **change}
    adapts = check_target_module_exists(LoraConfig(**settings), "model.layers.0.self_attn.q_proj")
    peft = adapter(tmp_path / "adapter", model, **change)
    if not adapts:
        assert f"which {next(iter(change))} of" in told(peft, model, tmp_path)
    else:
        xlam("convert", "from-peft", peft, tmp_path / "out", "--base", model)
