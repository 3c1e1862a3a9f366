"""Values that no release has, in files that strangers have: one line, exit status 2, nothing written."""

import json

import pytest
from tiny_hf import edit_config
from typed import adapter, refused, xlam
from typer.testing import CliRunner

from tests import tiny
from xlam_jax.cli.main import app
from xlam_jax.models.named import named_config
from xlam_jax.weights import save_hf

HUGE = 10**400


def both_refuse(model, *more):
    """What from-hf and to-hf say."""
    around = sorted(model.parent.iterdir())
    said = [refused("convert", kind, model, model.parent / "out", *more) for kind in ("from-hf", "to-hf")]
    assert sorted(model.parent.iterdir()) == around
    return "\n".join(said)


@pytest.mark.parametrize(
    "change",
    [
        {"rms_norm_eps": HUGE}, {"initializer_range": HUGE}, {"rope_theta": HUGE}, {"hidden_size": HUGE},
        {"vocab_size": HUGE}, {"pad_token_id": -HUGE}, {"eos_token_id": [1, HUGE]},
        {"rope_scaling": {"type": "linear", "factor": HUGE}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_numbers_that_nothing_holds(model, change):
    edit_config(model, **change)
    said = both_refuse(model)
    assert next(iter(change)) in said and "must be" in said


@pytest.mark.parametrize("levels", [200, 800, 100_000])
@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer_config.json", "xlam.json", "provenance.json"],
)
def test_nested_json(model, name, levels):
    (model / name).write_text('{"a": ' + "[" * levels + "]" * levels + "}")
    said = both_refuse(model)
    assert "levels" in said and name in said


def test_a_nested_index(model):
    (model / "model.safetensors.index.json").write_text("[" * 100_000)
    assert "not a safetensors index" in both_refuse(model)


def test_texts_that_are_none(model):
    for name, content, words in (
        ("chat_template.jinja", b"\xff\xfe{{ messages }}", ["not UTF-8", "chat_template.jinja"]),
        ("additional_chat_templates/rag.jinja", b"caf\xe9", ["not UTF-8", "rag.jinja"]),
        ("tokenizer_config.json", b'{"chat_template": 5}', ["no text but int", "tokenizer_config.json"]),
        ("tokenizer_config.json", b'{"chat_template": "\\ud800"}', ["surrogates", "tokenizer_config.json"]),
        ("xlam.json", b'{"format_version": 1e400}', ["not a valid xlam.json"]),
    ):
        path = model / name
        before = path.read_bytes() if path.is_file() else None
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        said = both_refuse(model)
        assert all(word in said for word in words), (name, said)
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        *(({"lora_alpha": value}, "lora_alpha") for value in ("16", 0, -8, float("nan"), HUGE, None, [8])),
        *(({"r": value}, "r must be") for value in ("4", 0, -4, 4.0)),
        *(({"alpha_pattern": {"q_proj": v}}, "alpha_pattern.q_proj") for v in ("16", 0, -1, float("nan"))),
        *(({"rank_pattern": {"q_proj": v}}, "rank_pattern.q_proj") for v in ("4", 0, -4, float("nan"))),
        ({"alpha_pattern": [8]}, "alpha_pattern must be an object"),
        ({"rank_pattern": "q_proj"}, "rank_pattern must be an object"),
        ({"alpha_pattern": {"q_(": 8}}, "no pattern"),
        ({"use_rslora": "false"}, "use_rslora must be true or false"),
    ],
)
def test_ranks_and_alphas_that_are_none(model, tmp_path, change, word):
    peft = adapter(tmp_path / "adapter", model, **change)
    said = refused("convert", "from-peft", peft, tmp_path / "out", "--base", model)
    assert word in said and "adapter_config.json" in said
    assert not (tmp_path / "out").exists()


def test_a_card_of_an_adapter_as_strangers_save_them(model, tmp_path):
    """A pattern in place of names, and no rank."""
    peft = adapter(tmp_path / "adapter", model, target_modules="all-linear")
    config = json.loads((peft / "adapter_config.json").read_text())
    del config["r"]
    (peft / "adapter_config.json").write_text(json.dumps(config))
    xlam("convert", "card", peft)
    card = (peft / "README.md").read_text()
    assert "| modules | all-linear |" in card and "| rank | unknown |" in card


def test_a_seed_is_no_negative_number(model, tmp_path):
    result = CliRunner().invoke(
        app, ["convert", "upcycle", str(model), str(tmp_path / "out"), "--seed", "-1"]
    )
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit) and "--seed" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("n_group", "topk_group"), [(8, 4), (8, 8)])
def test_groups_that_deepseek_v3_cannot_score(tmp_path, n_group, topk_group):
    """transformers adds up the two best experts of each group, and ends where a group has one."""
    cfg = named_config("tiny-deepseek-v3")
    save_hf(tiny.params(cfg), cfg, tmp_path / "model")
    assert cfg.moe
    assert cfg.moe.num_experts == 8
    edit_config(tmp_path / "model", n_group=n_group, topk_group=topk_group)
    assert "two experts a group" in both_refuse(tmp_path / "model")


@pytest.mark.parametrize("own", [{}, {"bos_token_id": 5, "pad_token_id": 6}, {"pad_token_id": None}])
def test_tokens_of_generation_go_on_as_they_are(model, tmp_path, own):
    """Where config.json says others, both files stay as they were: generation goes by its own."""
    edit_config(model, bos_token_id=1, eos_token_id=2, pad_token_id=3)
    generation = {"eos_token_id": [2, 7], "temperature": 0.5, **own}
    (model / "generation_config.json").write_text(json.dumps(generation))
    xlam("convert", "from-hf", model, tmp_path / "in")
    xlam("convert", "to-hf", tmp_path / "in", tmp_path / "out")
    written = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert written == {"bos_token_id": 1, "pad_token_id": 3, **generation}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert [config[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"pad_token_id": "x"}, "pad_token_id is 'x'"), ({"pad_token_id": 99999}, "pad_token_id is 99999"),
        ({"bos_token_id": 5000}, "bos_token_id is 5000"), ({"bos_token_id": True}, "bos_token_id is True"),
        ({"top_k": "many"}, "top_k must be an integer"), ({"top_p": 5.0}, "top_p must be a number from 0 to 1"),
        ({"max_new_tokens": -1}, "max_new_tokens must be"), ({"max_length": 0}, "max_length must be"),
        ({"temperature": -1}, "temperature must be"), ({"temperature": "hot"}, "temperature must be"),
        ({"temperature": 0.0, "do_sample": True}, "temperature is 0.0 where do_sample is true"),
        ({"top_k": -1, "do_sample": True}, "top_k is -1 where do_sample is true"),
        ({"repetition_penalty": 0}, "repetition_penalty must be"), ({"do_sample": "yes"}, "do_sample must be"),
    ],
)  # fmt: skip
def test_settings_with_which_nothing_is_generated(model, own, said):
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **own}))
    text = both_refuse(model)
    assert said in text and "generation_config.json" in text


@pytest.mark.parametrize(
    "own",
    [
        {"temperature": 0.0}, {"do_sample": False, "temperature": 0.0, "top_k": -1}, {"pad_token_id": -1},
        {"do_sample": True, "temperature": 0.6, "top_p": 1.0, "top_k": 0}, {"max_new_tokens": None},
    ],
)  # fmt: skip
def test_settings_as_releases_have_them_go_on(model, tmp_path, own):
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **own}))
    xlam("convert", "to-hf", model, tmp_path / "out")
    written = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert {key: written[key] for key in own} == own


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_an_end_that_is_no_token_is_told_of_the_file_that_has_it(model, file):
    path = model / file
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**found, "eos_token_id": -1}))
    said = both_refuse(model)
    assert file in said and ".partial" not in said


def test_a_first_token_beyond_the_vocabulary(model):
    edit_config(model, bos_token_id=10**6)
    assert "bos_token_id=1000000 is beyond the vocabulary" in both_refuse(model)


@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_yarn_on_a_base_that_has_no_logarithm(model, theta):
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": theta}
    edit_config(model, rope_parameters=yarn, rope_theta=theta)
    assert f"yarn with rope_theta={theta:g}" in both_refuse(model)
