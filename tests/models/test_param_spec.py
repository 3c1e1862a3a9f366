"""The parameter table and what is derived from it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.models import spec as S
from xlam_jax.models.named import named_config
from xlam_jax.models.params import unstack
from xlam_jax.parallel.mesh import MeshConfig, make_mesh


@pytest.fixture(scope="module", params=["tiny-llama", "tiny-llama-tied", "tiny-mistral"])
def cfg(request):
    return named_config(request.param)


@pytest.fixture(scope="module")
def params(cfg):
    return S.init(cfg, jax.random.key(0))


def test_names_and_shapes_are_those_of_transformers(cfg):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from xlam_jax.models.hf_config import config_to_hf

    values = config_to_hf(cfg)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**{k: v for k, v in values.items() if k != "architectures"})
        )
    theirs = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert {name: e.shape for name, e in S.hf_entries(cfg).items()} == theirs


def test_init_fills_every_leaf(cfg, params):
    assert jax.tree.structure(params) == jax.tree.structure(S.spec(cfg))
    for (path, leaf), s in zip(
        jax.tree_util.tree_flatten_with_path(params)[0], S.leaves(cfg).values(), strict=True
    ):
        assert leaf.shape == s.shape and leaf.dtype == jnp.float32, path
        if s.init == "ones":
            assert (leaf == 1).all()
        else:
            std = 0.02 / (np.sqrt(2 * cfg.num_layers) if s.init == "normal_residual" else 1)
            assert abs(float(leaf.mean())) < 0.1 * std
            # Cutting a normal at 3 standard deviations narrows it to 0.987 of its width.
            np.testing.assert_allclose(float(leaf.std()), 0.987 * std, rtol=0.05)
    assert len({float(leaf.ravel()[0]) for leaf in jax.tree.leaves(params.layers) if leaf.ndim == 3}) == 7


def test_init_does_not_depend_on_the_mesh():
    cfg = named_config("tiny-llama")
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    sharded = S.init(cfg, jax.random.key(3), mesh=mesh)
    plain = S.init(cfg, jax.random.key(3))
    assert sharded.layers.mlp.gate.sharding.spec == jax.P(None, "fsdp", "tensor")
    jax.tree.map(np.testing.assert_array_equal, sharded, plain)


def test_count_is_the_number_of_scalars(cfg, params):
    assert S.count_params(cfg) == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_decay_and_lora_follow_the_kind_of_parameter(cfg):
    decay = S.decay_mask(cfg)
    assert decay.layers.attn.q and decay.embed and not decay.final_norm and not decay.layers.attn_norm
    assert sorted(S.lora_targets(cfg).values()) == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


def test_state_dict_round_trip_is_exact(cfg, params):
    state = S.state_dict_from_params(params, cfg)
    np.testing.assert_array_equal(
        state["model.layers.1.mlp.down_proj.weight"], np.asarray(params.layers.mlp.down[1]).T
    )
    jax.tree.map(np.testing.assert_array_equal, S.params_from_state_dict(state, cfg), params)


def test_state_dict_that_does_not_fit_is_refused(cfg, params):
    state = S.state_dict_from_params(params, cfg)
    name = "model.layers.0.self_attn.k_proj.weight"
    with pytest.raises(InputError, match="k_proj"):
        S.params_from_state_dict({k: v for k, v in state.items() if k != name}, cfg)
    with pytest.raises(InputError, match="bias"):
        S.params_from_state_dict(state | {"model.layers.0.self_attn.k_proj.bias": np.zeros(32)}, cfg)
    with pytest.raises(InputError, match=r"\(64, 64\)"):
        S.params_from_state_dict(state | {name: np.zeros((64, 64))}, cfg)


def test_unstack_gives_the_layers(cfg, params):
    flat = unstack(params)
    assert len(flat.layers) == cfg.num_layers and unstack(flat) is flat
    np.testing.assert_array_equal(flat.layers[1].attn.o, params.layers.attn.o[1])


@pytest.mark.parametrize(
    "sizes", [{"fsdp": 8}, {"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]
)
@pytest.mark.parametrize("name", ["tiny-llama", "deepseek-coder-7b-v1.5", "mistral-7b-v0.3", "smollm2-135m"])
def test_no_large_parameter_is_replicated_over_fsdp(name, sizes):
    cfg = named_config(name)
    mesh = make_mesh(MeshConfig(**sizes))
    limit = 1 << 20 if cfg.hidden_size > 64 else 1 << 10  # bytes; the tiny model's matrices are 4 KiB and up
    if name == "smollm2-135m" and "tensor" in sizes:
        cfg = dataclasses.replace(cfg, tie_embeddings=False)
    shards = S.shardings(cfg, mesh)
    for (path, s), sharding in zip(S.leaves(cfg).items(), jax.tree.leaves(shards), strict=True):
        full = 4 * int(np.prod(s.shape))
        if full > limit:
            held = 4 * int(np.prod(sharding.shard_shape(s.shape)))
            # Norm stacks are all vectors: even 32 layers of 4096 are half a megabyte.
            assert held * mesh.shape["fsdp"] <= full, path


def test_a_shape_that_does_not_split_is_refused():
    with pytest.raises(InputError, match="does not split"):
        S.shardings(named_config("tiny-llama").replace(hidden_size=60), make_mesh(MeshConfig(fsdp=8)))
