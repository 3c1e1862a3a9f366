"""Hugging Face folders in and out, against tiny transformers models in torch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from tiny_hf import KINDS, edit_config, files, folder_logits, our_logits, torch_logits, write

from tests.cases import long_but
from xlam_jax.errors import InputError
from xlam_jax.models.spec import params_from_state_dict
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.weights import load_hf, load_model, save_hf, verify_hf, weights_digest
from xlam_jax.weights.safetensors_io import INDEX, SINGLE


def relative(ours, theirs) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard", long_but(["10KB"], ["1GB", "10KB"]))
def test_reads_what_transformers_wrote(tmp_path, kind, shard):
    model = write(kind, tmp_path, max_shard_size=shard)
    assert (tmp_path / INDEX).is_file() == (shard == "10KB")
    cfg, params = load_hf(tmp_path)
    assert relative(our_logits(params, cfg), torch_logits(model)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_we_wrote(tmp_path, kind):
    model = write(kind, tmp_path / "a")
    cfg, params = load_hf(tmp_path / "a")
    save_hf(params, cfg, tmp_path / "b", max_shard_bytes=10_000)
    np.testing.assert_array_equal(folder_logits(tmp_path / "b"), torch_logits(model))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_file_equals_that_of_transformers(tmp_path, kind):
    write(kind, tmp_path / "a")
    cfg, params = load_hf(tmp_path / "a")
    report = save_hf(params, cfg, tmp_path / "b")
    assert (tmp_path / "b" / SINGLE).read_bytes() == (tmp_path / "a" / SINGLE).read_bytes()
    assert report.weights_xxh3_128 == weights_digest(params, cfg)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", long_but(["bfloat16"], ["float32", "bfloat16"]))
def test_out_in_out_is_byte_identical(tmp_path, kind, dtype):
    write(kind, tmp_path / "src")
    cfg, params = load_hf(tmp_path / "src")
    shards = {"max_shard_bytes": 9_000}
    save_hf(params, cfg, tmp_path / "one", dtype=dtype, **shards)
    again_cfg, again = load_model(tmp_path / "one")
    save_hf(again, again_cfg, tmp_path / "two", dtype=None, **shards)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert len(one) > 5 and one == two
    assert again_cfg == cfg


def test_bfloat16_export_rounds_like_torch(tmp_path):
    import torch

    model = write("llama", tmp_path / "a")
    cfg, params = load_hf(tmp_path / "a")
    save_hf(params, cfg, tmp_path / "b", dtype="bfloat16")
    ours = safetensors.numpy.load_file(tmp_path / "b" / SINGLE)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(
            ours[name].astype(np.float32), tensor.to(torch.bfloat16).float().numpy()
        )
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"] == "bfloat16"


def test_mesh_places_slices_and_keeps_values(tmp_path):
    model = write("llama", tmp_path, max_shard_size="10KB")
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    cfg, params = load_hf(tmp_path, mesh=mesh)
    plain = params_from_state_dict({k: v.numpy() for k, v in model.state_dict().items()}, cfg)
    jax.tree.map(np.testing.assert_array_equal, params, plain)
    q = params.layers.attn.q
    assert q.sharding.mesh == mesh
    assert {s.data.shape for s in q.addressable_shards} == {(q.shape[0], q.shape[1] // 2, q.shape[2] // 2)}
    save_hf(params, cfg, tmp_path / "out")
    with_torch = {k: v.numpy() for k, v in model.state_dict().items()}
    for name, array in safetensors.numpy.load_file(tmp_path / "out" / SINGLE).items():
        np.testing.assert_array_equal(array, with_torch[name])


def test_dtype_casts_on_the_way_in(tmp_path):
    write("llama", tmp_path)
    _, full = load_hf(tmp_path)
    _, half = load_hf(tmp_path, dtype=jnp.bfloat16)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a.astype(jnp.bfloat16)), b), full, half
    )


def test_config_written_by_transformers_5_alone_keeps_linear_rope(tmp_path):
    """transformers 5 writes rope_parameters and no rope_theta; ignoring it gives silently wrong logits."""
    model = write("linear", tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert "rope_theta" not in values and values["rope_parameters"]["factor"] == 4.0
    cfg, params = load_hf(tmp_path)
    assert (cfg.rope_theta, cfg.rope_scaling.factor) == (100_000.0, 4.0)
    save_hf(params, cfg, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["rope_theta"] == 100_000.0
    assert written["rope_scaling"]["type"] == "linear"
    edit_config(tmp_path / "out", rope_parameters=None)  # what transformers 4 sees
    np.testing.assert_array_equal(folder_logits(tmp_path / "out"), torch_logits(model))


def test_old_buffers_and_a_stored_tied_head_are_ignored(tmp_path):
    write("tied", tmp_path)
    arrays = safetensors.numpy.load_file(tmp_path / SINGLE)
    _, plain = load_hf(tmp_path)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].copy()
    arrays["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    safetensors.numpy.save_file(arrays, tmp_path / SINGLE, metadata={"format": "pt"})
    _, params = load_hf(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, plain)


def change(folder, edit) -> None:
    arrays = safetensors.numpy.load_file(folder / SINGLE)
    edit(arrays)
    safetensors.numpy.save_file(arrays, folder / SINGLE, metadata={"format": "pt"})


def scale(folder, name, factor) -> None:
    change(folder, lambda a: a.update({name: a[name] * np.float32(factor)}))


BAD = {
    "missing tensor": (lambda a: a.pop("model.layers.1.mlp.up_proj.weight"), "1 missing", "up_proj"),
    "left over": (
        lambda a: a.update({"model.layers.0.self_attn.q_proj.bias": np.ones(32, np.float32)}),
        "q_proj.bias",
    ),
    "head gone": (lambda a: a.pop("lm_head.weight"), "lm_head.weight", "tie_word_embeddings"),
    "wrong shape": (
        lambda a: a.update({"model.norm.weight": np.ones(31, np.float32)}),
        "model.norm.weight",
        "(31,), not (32,)",
        "another model",
    ),
    "other layout": (
        lambda a: a.update({f"transformer.{k}": a.pop(k) for k in list(a)}),
        "30 missing",
        "another model",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_tensors_are_refused(tmp_path, case):
    edit, *words = BAD[case]
    write("llama", tmp_path)
    change(tmp_path, edit)
    with pytest.raises(InputError) as found:
        load_hf(tmp_path)
    for word in words:
        assert word in str(found.value), str(found.value)


def test_checkpoint_of_another_model(tmp_path):
    write("llama", tmp_path)
    edit_config(tmp_path, num_hidden_layers=4)
    with pytest.raises(InputError, match="9 missing"):
        load_hf(tmp_path)
    edit_config(tmp_path, num_hidden_layers=3, intermediate_size=64)
    with pytest.raises(InputError, match="gate_proj"):
        load_hf(tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ('{"model_type": "gpt2"}', "gpt2"),
        ('{"model_type": "llama", "quantization_config": {"bits": 4}}', "quantised"),
    ],
)
def test_unusable_config(tmp_path, text, word):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=word):
        load_hf(tmp_path)


def test_no_folder_and_no_config(tmp_path):
    with pytest.raises(InputError, match="folder not found"):
        load_hf(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"config\.json not found"):
        load_hf(tmp_path)


def test_verify_notices_a_changed_weight(tmp_path):
    from xlam_jax.errors import WorkError

    write("mistral", tmp_path / "a")
    cfg, params = load_hf(tmp_path / "a")
    save_hf(params, cfg, tmp_path / "b")
    found = verify_hf(tmp_path / "b", params, cfg)
    assert found.relative < 1e-5 and found.argmax == 1.0 and found.tokens > 100
    change(
        tmp_path / "b",
        lambda a: a.update(
            {"model.layers.2.mlp.up_proj.weight": a["model.layers.2.mlp.up_proj.weight"] * 1.01}
        ),
    )
    assert verify_hf(tmp_path / "b").relative < 1e-5  # the folder agrees with itself
    with pytest.raises(WorkError, match="disagree"):
        verify_hf(tmp_path / "b", params, cfg)
    scale(tmp_path / "b", "model.norm.weight", np.nan)
    with pytest.raises(WorkError, match="disagree"):
        verify_hf(tmp_path / "b", params, cfg)
