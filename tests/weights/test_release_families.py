"""Every family, both ways, against transformers: bytes and logits."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from run_folders import write_run
from tiny_hf import edit_config, files
from transformers import AutoConfig, AutoModelForCausalLM

from tests import tiny
from tests.cases import long_but
from xlam_jax.errors import InputError
from xlam_jax.models.config import RopeScaling
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.named import NAMED, named_config
from xlam_jax.models.spec import hf_entries, state_dict_from_params
from xlam_jax.weights import HfOptions, load_hf, open_model, save_hf, to_hf
from xlam_jax.weights.safetensors_io import SINGLE

FAMILIES = [name for name in NAMED if name.startswith("tiny-")]
MIXTURES = [name for name in FAMILIES if NAMED[name].moe]
TOKENS = np.random.default_rng(0).integers(0, 256, (1, 20))


def write(name: str, folder, dtype=torch.float32, **kwargs) -> dict[str, np.ndarray]:
    """A random torch model of the config, saved by transformers; returns what its tensors hold, fp32."""
    cfg = named_config(name)
    bare = folder.with_name(folder.name + "-config")
    bare.mkdir()
    from xlam_jax.weights.hf_out import write_configs

    write_configs(bare, cfg, "float32")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(bare)), dtype=torch.float32)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(torch.randn_like(tensor) * 0.1)
    model.to(dtype).save_pretrained(folder, **kwargs)
    return {k: v.float().numpy() for k, v in model.state_dict().items()}


def theirs(folder) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS)).logits.numpy()


def ours(folder) -> np.ndarray:
    cfg, params = load_hf(folder, dtype=jnp.float32)
    tokens = jnp.asarray(TOKENS, jnp.int32)
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]

    @jax.jit  # one program, where single operations would be a hundred
    def run(params):
        hidden, _ = forward(params, tokens, positions, jnp.ones_like(tokens), cfg)
        return logits(params, hidden, cfg)

    return np.asarray(run(params))


def weights(folder) -> dict[str, np.ndarray]:
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= safetensors.numpy.load_file(file)
    return found


def same_bytes(found, expected) -> None:
    assert set(found) == set(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype and array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("name", long_but(["tiny-qwen3", "tiny-mixtral"], FAMILIES))
def test_there_and_back_and_the_same_logits(tmp_path, name):
    """transformers -> ours -> a run's checkpoint -> ours, through shards."""
    write(name, tmp_path / "a")
    with open_model(tmp_path / "a") as model:
        to_hf(model, tmp_path / "h1", HfOptions(dtype=None, max_shard_bytes=60_000))
    cfg, params = load_hf(tmp_path / "h1")
    write_run(tmp_path / "run", params, cfg, codec=None)
    shutil.copy(tmp_path / "h1/generation_config.json", tmp_path / "run")  # as the trainer does
    with open_model(tmp_path / "run") as model:
        to_hf(model, tmp_path / "h2", HfOptions(dtype=None, max_shard_bytes=60_000))
    one, two = files(tmp_path / "h1"), files(tmp_path / "h2")
    assert weights(tmp_path / "h1").keys() == weights(tmp_path / "h2").keys()
    assert one == two and sum(n.endswith(".safetensors") for n in one) > 2
    # The per-expert names of the hub, and what transformers itself wrote.
    same_bytes(weights(tmp_path / "h1"), weights(tmp_path / "a"))
    assert set(weights(tmp_path / "h1")) == set(hf_entries(named_config(name)))
    assert dataclasses.replace(cfg, rope_scaling=None) == dataclasses.replace(
        load_hf(tmp_path / "a")[0], rope_scaling=None
    )
    same_bytes(state_dict_from_params(params, cfg), weights(tmp_path / "a"))
    expected = theirs(tmp_path / "h1")
    np.testing.assert_array_equal(expected, theirs(tmp_path / "a"))
    assert np.abs(ours(tmp_path / "h2") - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", long_but(["tiny-mixtral", "tiny-deepseek-v3"], MIXTURES))
def test_fused_experts_of_transformers_5_are_read(tmp_path, name):
    """Both layouts that save_pretrained writes hold the same model, and load as the same bytes."""
    write(name, tmp_path / "fused", save_original_format=False, max_shard_size="60KB")
    write(name, tmp_path / "apart")
    fused = weights(tmp_path / "fused")
    assert any(n.endswith("mlp.experts.gate_up_proj") for n in fused)
    assert not any(n.endswith("mlp.experts.gate_up_proj") for n in weights(tmp_path / "apart"))
    _, params = load_hf(tmp_path / "fused")
    _, plain = load_hf(tmp_path / "apart")
    jax.tree.map(np.testing.assert_array_equal, params, plain)
    with open_model(tmp_path / "fused") as model:
        to_hf(model, tmp_path / "out", HfOptions(dtype=None))
    same_bytes(weights(tmp_path / "out"), weights(tmp_path / "apart"))


def test_an_expert_of_a_fused_tensor_reads_its_own_bytes_only(tmp_path):
    write("tiny-mixtral", tmp_path / "m", save_original_format=False)
    with open_model(tmp_path / "m") as model:
        stored = model.tensors._tensors
        before = stored.bytes_read
        name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
        found = model.tensors.get(name, (slice(10, 20), slice(0, 8)))
        assert stored.bytes_read - before == found.nbytes == 10 * 8 * 4
        whole = weights(tmp_path / "m")["model.layers.1.mlp.experts.gate_up_proj"]
        np.testing.assert_array_equal(found, whole[2, 96 + 10 : 96 + 20, :8])


def test_a_mismatched_fused_tensor_is_refused(tmp_path):
    write("tiny-qwen3-moe", tmp_path / "m", save_original_format=False)
    arrays = weights(tmp_path / "m")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    arrays[name] = np.ascontiguousarray(arrays[name][:-1])
    safetensors.numpy.save_file(arrays, tmp_path / "m" / SINGLE, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing \(such as 'model.layers.0.mlp.experts.7"):
        load_hf(tmp_path / "m")


@pytest.mark.parametrize("dtype", long_but(["bfloat16"], ["bfloat16", "float16"]))
def test_selection_bias_of_deepseek_v3_stays_float32(tmp_path, dtype):
    """transformers keeps router and bias in float32; the published checkpoint the bias only."""
    write("tiny-deepseek-v3", tmp_path / "a", dtype=getattr(torch, dtype))
    arrays = weights(tmp_path / "a")
    bias = "model.layers.1.mlp.gate.e_score_correction_bias"
    exact = np.random.default_rng(1).normal(size=8).astype(np.float32)
    arrays |= {f"model.layers.{i}.mlp.gate.e_score_correction_bias": exact for i in (1, 2)}
    safetensors.numpy.save_file(arrays, tmp_path / "a" / SINGLE, metadata={"format": "pt"})
    cfg, params = load_hf(tmp_path / "a")
    assert params.layers.mlp.bias.dtype == np.float32 and params.embed.dtype == dtype
    save_hf(params, cfg, tmp_path / "b", dtype=None)
    same_bytes(weights(tmp_path / "b"), arrays)
    save_hf(params, cfg, tmp_path / "c", dtype=dtype)
    narrow = weights(tmp_path / "c")
    assert {n for n, a in narrow.items() if a.dtype != dtype} == {bias, bias.replace("layers.1", "layers.2")}
    np.testing.assert_array_equal(narrow[bias], exact)
    _, half = load_hf(tmp_path / "a", dtype=getattr(ml_dtypes, dtype, np.float16))
    np.testing.assert_array_equal(np.asarray(half.layers.mlp.bias[0]), exact)
    assert half.layers.mlp.router.dtype == dtype


def test_prediction_layer_of_deepseek_v3_is_skipped(tmp_path):
    write("tiny-deepseek-v3", tmp_path / "a")
    arrays = weights(tmp_path / "a")
    _, plain = load_hf(tmp_path / "a")
    above = {n.replace("layers.2.", "layers.3."): a for n, a in arrays.items() if "layers.2." in n}
    safetensors.numpy.save_file(arrays | above, tmp_path / "a" / SINGLE, metadata={"format": "pt"})
    with pytest.raises(InputError, match="not known to this model type"):  # just another layer
        load_hf(tmp_path / "a")
    above["model.layers.3.eh_proj.weight"] = np.ones((64, 128), np.float32)
    safetensors.numpy.save_file(arrays | above, tmp_path / "a" / SINGLE, metadata={"format": "pt"})
    edit_config(tmp_path / "a", num_nextn_predict_layers=1)
    cfg, params = load_hf(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, params, plain)
    save_hf(params, cfg, tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["num_nextn_predict_layers"] == 0


def test_fp8_checkpoints_are_refused(tmp_path):
    write("tiny-deepseek-v3", tmp_path / "a")
    edit_config(tmp_path / "a", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    with pytest.raises(InputError, match=r"(?s)quantised \(fp8\).*fp8_cast_bf16"):
        load_hf(tmp_path / "a")
    edit_config(tmp_path / "a", quantization_config=None)
    arrays = {k: torch.from_numpy(v) for k, v in weights(tmp_path / "a").items()}
    name = "model.layers.0.self_attn.o_proj.weight"
    arrays[name] = arrays[name].to(torch.float8_e4m3fn)
    from safetensors.torch import save_file

    save_file(arrays, tmp_path / "a" / SINGLE, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"(?s)F8_E4M3.*before quantisation"):
        load_hf(tmp_path / "a")


ROPES = {
    "linear": RopeScaling("linear", 4.0),
    "dynamic": RopeScaling("dynamic", 2.0),
    "llama3": RopeScaling("llama3", 8.0, 16, 1.0, 4.0),
    "yarn": RopeScaling("yarn", 4.0, 16),
}


@pytest.mark.parametrize("kind", long_but(["llama3", "yarn"], ROPES))
def test_rope_scaling_keeps_its_type(tmp_path, kind):

    cfg = named_config("tiny-llama").replace(rope_scaling=ROPES[kind])
    params = tiny.params(cfg.replace(initializer_range=0.3))
    save_hf(params, cfg, tmp_path / "a")
    written = json.loads((tmp_path / "a" / "config.json").read_text())
    assert written["rope_scaling"]["type"] == written["rope_parameters"]["rope_type"] == kind
    assert load_hf(tmp_path / "a")[0].rope_scaling == cfg.rope_scaling
    expected = theirs(tmp_path / "a")
    assert np.abs(ours(tmp_path / "a") - expected).max() < 1e-5 * np.abs(expected).max()
    plain = cfg.replace(rope_scaling=None)
    save_hf(params, plain, tmp_path / "plain")
    moved = np.abs(theirs(tmp_path / "plain") - expected).max()
    # Dynamic scaling acts beyond the trained length only.
    assert moved == 0 if kind == "dynamic" else moved > 1e-3
    with open_model(tmp_path / "a") as model:
        to_hf(model, tmp_path / "b", HfOptions())
    assert (tmp_path / "b" / "config.json").read_bytes() == (tmp_path / "a" / "config.json").read_bytes()
