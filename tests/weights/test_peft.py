"""PEFT folders: loaded by peft itself with equal logits, and what peft saves read back."""

import json

import jax
import numpy as np
import pytest

from tests import tiny
from tests.cases import long_but
from tests.models.test_lora import filled
from xlam_jax.errors import InputError
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.lora import LoraConfig, attach, init_adapters, merge
from xlam_jax.models.named import named_config
from xlam_jax.weights.hf_out import save_hf
from xlam_jax.weights.peft_config import read_peft_config
from xlam_jax.weights.peft_in import load_peft
from xlam_jax.weights.peft_out import save_peft

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def peft():
    """Imported by the tests that need it: it takes seconds, which every worker would pay when it collects."""
    return pytest.importorskip("peft", reason="pip install --no-deps peft accelerate psutil")


TOKENS = np.random.default_rng(1).integers(1, 90, (2, 10)).astype(np.int32)
CASES = {
    "llama": ("tiny-llama", ("all-linear",)),
    "one module of many": ("tiny-qwen2", ("layers.mlp.down", "k_proj")),
    "mixtral": ("tiny-mixtral", ("all-linear",)),
    "mixtral, gate without up": ("tiny-mixtral", ("w1", "attention")),
    "mixtral router": ("tiny-mixtral", ("router",)),
    "mixtral down": ("tiny-mixtral", ("w2",)),
    "qwen3-moe": ("tiny-qwen3-moe", ("all-linear",)),
    "deepseek": ("tiny-deepseek-v2", ("attention", "experts", "router")),
}


def ours(params, cfg):
    positions = np.broadcast_to(np.arange(TOKENS.shape[1], dtype=np.int32), TOKENS.shape)

    @jax.jit
    def run(params):
        hidden, _ = forward(params, TOKENS, positions, np.ones_like(TOKENS), cfg, experts="dense")
        return logits(params, hidden, cfg)

    return np.asarray(run(params))


def theirs(model):
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS).long()).logits.float().numpy()


def torch_base(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, attn_implementation="eager"
    ).eval()


def world(name, targets, folder, **options):
    cfg = named_config(name).replace(initializer_range=0.1)
    lora = LoraConfig(rank=3, alpha=6.0, targets=targets, **options)
    params, adapters = tiny.params(cfg), filled(cfg, lora)
    save_hf(params, cfg, folder / "base")
    return cfg, params, adapters


@pytest.mark.parametrize("case", long_but(["llama", "mixtral"], CASES))
def test_peft_loads_our_adapter_and_we_load_what_peft_saves(case, peft, tmp_path):
    name, targets = CASES[case]
    cfg, params, adapters = world(name, targets, tmp_path, rslora=case == "mixtral")
    save_peft(adapters, cfg, tmp_path / "adapter", base_model=str(tmp_path / "base"))
    expected = ours(attach(params, adapters), cfg)
    assert np.abs(expected - ours(params, cfg)).max() > 1e-2
    model = peft.PeftModel.from_pretrained(torch_base(tmp_path / "base"), str(tmp_path / "adapter"))
    np.testing.assert_allclose(theirs(model), expected, atol=2e-4, rtol=1e-4)

    again = load_peft(tmp_path / "adapter", cfg)
    np.testing.assert_allclose(ours(attach(params, again), cfg), expected, atol=1e-5)
    model.save_pretrained(str(tmp_path / "saved"))  # experts are one fused adapter here
    back = load_peft(tmp_path / "saved", cfg)
    np.testing.assert_allclose(ours(attach(params, back), cfg), expected, atol=1e-5)


def test_a_round_trip_is_exact(tmp_path):
    cfg = named_config("tiny-mixtral")
    adapters = filled(cfg, LoraConfig(rank=4, alpha=8.0))
    save_peft(adapters, cfg, tmp_path / "adapter")
    jax.tree.map(np.testing.assert_array_equal, load_peft(tmp_path / "adapter", cfg), adapters)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate", "w1", "w2", "w3"}
    assert config["r"] == 4 and config["lora_alpha"] == 8


@pytest.mark.parametrize("rslora", [False, True])
def test_patterns_of_rank_and_alpha_are_read(rslora, peft, tmp_path):
    cfg, params, _ = world("tiny-llama", ("all-linear",), tmp_path)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=rslora,
        target_modules=["q_proj", "v_proj", "down_proj"],
        layers_to_transform=[1],
        rank_pattern={"q_proj": 2, r"model\.layers\.1\.mlp\.down_proj": 5},
        alpha_pattern={"v_proj": 16},
    )
    torch.manual_seed(0)
    model = peft.get_peft_model(torch_base(tmp_path / "base"), config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    adapters = load_peft(tmp_path / "adapter", cfg)
    assert adapters.layers.attn.k is None and adapters.layers.mlp.down.a.shape[-1] == 5
    np.testing.assert_allclose(ours(attach(params, adapters), cfg), theirs(model), atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(
        ours(merge(attach(params, adapters)), cfg), theirs(model), atol=2e-4, rtol=1e-4
    )


def test_what_peft_cannot_express_is_refused(tmp_path):
    cfg = named_config("tiny-deepseek-v2")
    adapters = init_adapters(cfg, LoraConfig(targets=("mlp",)), jax.random.key(0))
    with pytest.raises(InputError) as e:
        save_peft(adapters, cfg, tmp_path / "adapter")
    assert "shared" in e.value.what and "to-hf" in e.value.hint and not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"use_dora": True}, "use_dora"), ({"peft_type": "IA3"}, "peft_type"), ({"bias": "all"}, "bias"),
     ({"modules_to_save": ["lm_head"]}, "modules_to_save")],
)  # fmt: skip
def test_other_methods_are_refused(change, words, tmp_path):
    cfg = named_config("tiny-llama")
    save_peft(init_adapters(cfg, LoraConfig(rank=2), jax.random.key(0)), cfg, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=words):
        load_peft(tmp_path / "adapter", cfg)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("", {}),
        ("", {"use_rslora": True, "rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 3}}),
        ("", {"init_lora_weights": "gaussian", "lora_dropout": 0.1, "layers_to_transform": [1]}),
        ("", {"init_lora_weights": False, "exclude_modules": ["lm_head"], "revision": "main"}),
        ("init_lora_weights", {"init_lora_weights": "pissa"}),
        ("init_lora_weights", {"init_lora_weights": "pissa_niter_4"}),
        ("init_lora_weights", {"init_lora_weights": "olora"}),
        ("init_lora_weights", {"init_lora_weights": "corda"}),
        ("init_lora_weights", {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}),
        ("use_dora", {"use_dora": True}),
        ("alora_invocation_tokens", {"alora_invocation_tokens": [5, 6]}),
        ("layer_replication", {"layer_replication": [(0, 2), (1, 2)]}),
        ("trainable_token_indices", {"trainable_token_indices": [1]}),
        ("lora_bias", {"lora_bias": True}),
        ("fan_in_fan_out", {"fan_in_fan_out": True}),
        ("use_qalora", {"use_qalora": True}),
    ],
)
def test_what_peft_itself_writes_is_read_or_refused_by_name(words, settings, tmp_path):
    peft = pytest.importorskip("peft")
    fields = peft.LoraConfig.__dataclass_fields__
    if missing := set(settings) - set(fields):
        pytest.skip(f"this PEFT has no {missing}")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **settings)
    config.save_pretrained(tmp_path)
    if not words:
        assert read_peft_config(tmp_path)["r"] == 4
        return
    with pytest.raises(InputError, match=f"here {words} is") as e:
        read_peft_config(tmp_path)
    assert "merge_and_unload" in e.value.hint
    assert ("initial_model" in e.value.hint) == (words == "init_lora_weights")


def test_a_key_that_nobody_knows_counts_where_it_is_set(tmp_path):
    for value, refused in ((None, False), (False, False), ({}, False), (0.5, True), ({"a": 1}, True)):
        config = {"peft_type": "LORA", "r": 4, "use_newlora": value}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        if not refused:
            assert read_peft_config(tmp_path) == config
            continue
        with pytest.raises(InputError, match="use_newlora"):
            read_peft_config(tmp_path)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    cfg = named_config("tiny-llama")
    save_peft(init_adapters(cfg, LoraConfig(rank=2), jax.random.key(0)), cfg, tmp_path / "adapter")
    with pytest.raises(InputError, match="matrix"):
        load_peft(tmp_path / "adapter", cfg.replace(intermediate_size=2 * cfg.intermediate_size))
    with pytest.raises(InputError, match="mlp"):
        load_peft(tmp_path / "adapter", named_config("tiny-mixtral"))
    with pytest.raises(InputError, match="adapter_config"):
        load_peft(tmp_path, cfg)


def test_gradients_of_a_mixture_equal_pefts(peft, tmp_path):
    cfg, params, adapters = world("tiny-mixtral", ("q_proj", "experts", "router"), tmp_path)
    save_peft(adapters, cfg, tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(
        torch_base(tmp_path / "base"), str(tmp_path / "adapter"), is_trainable=True
    )
    (model(torch.from_numpy(TOKENS).long()).logits ** 2).mean().backward()
    grads = {
        name.removeprefix("base_model.model.model.layers."): p.grad.numpy()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    positions = np.broadcast_to(np.arange(TOKENS.shape[1], dtype=np.int32), TOKENS.shape)

    @jax.jit
    @jax.grad
    def ours_of(adapters):
        whole = attach(params, adapters)
        hidden, _ = forward(whole, TOKENS, positions, np.ones_like(TOKENS), cfg, experts="dense")
        return (logits(whole, hidden, cfg) ** 2).mean()

    found = jax.device_get(ours_of(adapters)).layers
    E, F, R = 4, cfg.moe.intermediate_size, 3
    for layer in range(cfg.num_layers):

        def factors(module, layer=layer):
            return (grads[f"{layer}.{module}.lora_{x}.default.weight"] for x in "AB")

        a, b = factors("mlp.experts.base_layer")  # gate and up: [E * 2R, D] and [2F, 2R * E]
        a, b = a.reshape(E, 2 * R, -1), b.reshape(2 * F, 2 * R, E)
        down_a, down_b = factors("mlp.experts")
        down_b = down_b.reshape(-1, R, E)
        plain = {k: factors(m) for k, m in (("q", "self_attn.q_proj"), ("router", "mlp.gate"))}
        expected = {
            "gate": (a[:, :R].swapaxes(1, 2), b[:F, :R].transpose(2, 1, 0)),
            "up": (a[:, R:].swapaxes(1, 2), b[F:, R:].transpose(2, 1, 0)),
            "down": (down_a.reshape(E, R, -1).swapaxes(1, 2), down_b.transpose(2, 1, 0)),
            **{k: tuple(x.T for x in pair) for k, pair in plain.items()},
        }
        for name, pair in expected.items():
            mine = found.attn.q if name == "q" else getattr(found.mlp, name)
            for x, y in zip((mine.a[layer], mine.b[layer]), pair, strict=True):
                np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-6, err_msg=f"{layer} {name}")
                assert np.abs(y).max() > 1e-5
