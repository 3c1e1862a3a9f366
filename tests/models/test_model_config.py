"""Configs: published sizes, and agreement with what transformers reads out of the same config.json."""

import json

import pytest

from tests.cases import case
from xlam_jax.errors import InputError
from xlam_jax.models.config import RopeScaling
from xlam_jax.models.hf_config import config_from_hf, config_to_hf
from xlam_jax.models.named import BASES, NAMED, named_config
from xlam_jax.models.spec import count_params

# Totals as the models' own cards and safetensors headers state them.
PUBLISHED = {
    "deepseek-coder-1.3b": 1_346_471_936,
    "deepseek-coder-7b-v1.5": 6_910_365_696,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.2": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "smollm2-135m": 134_515_008,
    "deepseek-coder-6.7b": 6_740_512_768,
    "deepseek-coder-33b": 33_342_991_360,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v3": 671_026_419_200,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
}


def test_count_matches_the_published_total():
    assert {name: count_params(named_config(name)) for name in PUBLISHED} == PUBLISHED


def test_hf_round_trip():
    for name in NAMED:
        with case(name):
            cfg = named_config(name)
            assert config_from_hf(json.loads(json.dumps(config_to_hf(cfg)))) == cfg


def test_transformers_reads_the_same_numbers(tmp_path):
    transformers = pytest.importorskip("transformers")
    for name in NAMED:
        with case(name):
            check_transformers_reads_the_same_numbers(transformers, named_config(name), tmp_path)


def check_transformers_reads_the_same_numbers(transformers, cfg, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(cfg, "bfloat16")))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    rope = theirs.rope_parameters
    assert rope["rope_theta"] == cfg.rope_theta
    if cfg.rope_scaling is None:
        assert rope["rope_type"] == "default"
    else:
        assert (rope["rope_type"], rope["factor"]) == (cfg.rope_scaling.type, cfg.rope_scaling.factor)
    assert getattr(theirs, "sliding_window", None) == cfg.sliding_window
    assert (theirs.num_key_value_heads, theirs.head_dim) == (cfg.num_kv_heads, cfg.rope_dim)
    assert theirs.rms_norm_eps == cfg.rms_norm_eps
    # And what transformers writes back is still the same model to us.
    again = config_from_hf(json.loads(theirs.to_json_string(use_diff=False)))
    assert again == cfg


def test_the_released_models_are_known_by_their_own_names():
    assert named_config("xlam-7b-r") == named_config("mistral-7b-v0.2")
    assert set(BASES.values()) <= set(NAMED) and not set(BASES) & set(NAMED)
    with pytest.raises(InputError, match=r"(?s)xlam-7b-rr.*xlam-7b-r"):
        named_config("xlam-7b-rr")


def test_both_spellings_are_written():
    values = config_to_hf(named_config("deepseek-coder-1.3b"), "bfloat16")
    assert values["rope_parameters"] == {"rope_type": "linear", "factor": 4.0, "rope_theta": 100_000.0}
    assert values["rope_theta"] == 100_000.0
    assert values["rope_scaling"]["type"] == "linear" and values["rope_scaling"]["factor"] == 4.0
    assert values["dtype"] == values["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("drop", [("rope_parameters",), ("rope_theta", "rope_scaling")])
def test_either_spelling_alone_is_enough(drop):
    cfg = named_config("tiny-llama-linear")
    values = {k: v for k, v in config_to_hf(cfg).items() if k not in drop}
    assert config_from_hf(values) == cfg


def test_legacy_llama_keys_with_defaults():
    values = {
        "model_type": "llama",
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 128,
        "rope_scaling": {"type": "linear", "factor": 2},
        "eos_token_id": [5, 7],
    }
    cfg = config_from_hf(values)
    assert (cfg.num_kv_heads, cfg.head_dim, cfg.rope_theta) == (4, 8, 10_000.0)
    assert cfg.rope_scaling == RopeScaling("linear", 2.0)
    assert cfg.eos_token_ids == (5, 7) and cfg.eos_token_id == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, ["gpt2", "llama, mistral"]),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 4.0}}, ["longrope", "default, linear"]),
        ({"attention_bias": True}, ["attention_bias"]),
        ({"hidden_act": "gelu"}, ["gelu", "silu"]),
        ({"hidden_size": None}, ["hidden_size", "missing"]),
        ({"num_key_value_heads": 3}, ["multiple"]),
        ({"rope_parameters": {"rope_type": "linear"}, "rope_scaling": None}, ["factor"]),
    ],
)
def test_refused_configs_name_the_cause(change, words):
    with pytest.raises(InputError) as caught:
        config_from_hf(config_to_hf(named_config("tiny-llama")) | change)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "tiny-llama3",
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}, "rope_scaling": None},
            ["low_freq"],
        ),
        ("tiny-qwen2", {"use_sliding_window": True}, ["use_sliding_window"]),
        ("tiny-qwen3-moe", {"mlp_only_layers": [0]}, ["mlp_only_layers"]),
        ("tiny-qwen3-moe", {"decoder_sparse_step": 2}, ["decoder_sparse_step"]),
        ("tiny-mixtral", {"num_local_experts": None}, ["num_local_experts", "missing"]),
        ("tiny-mixtral", {"num_experts_per_tok": 9}, ["num_experts_per_tok", "9"]),
        ("tiny-deepseek-v2", {"topk_method": "noaux_tc"}, ["noaux_tc", "greedy"]),
        ("tiny-deepseek-v3", {"topk_group": 9}, ["4 groups"]),
        ("tiny-deepseek-v3", {"first_k_dense_replace": 3}, ["all 3 layers are dense"]),
        ("tiny-deepseek-v3", {"qk_rope_head_dim": None}, ["qk_rope_head_dim"]),
    ],
)  # fmt: skip
def test_refused_configs_of_other_families_name_the_cause(name, change, words):
    with pytest.raises(InputError) as caught:
        config_from_hf(config_to_hf(named_config(name)) | change)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="smollm2-135m"):
        named_config("smolm2-135")
