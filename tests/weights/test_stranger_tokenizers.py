"""Tokenizers as strangers have them: tokens that stand beside tokenizer.json, code, templates that do not end."""

import json

import pytest
from transformers import AutoTokenizer
from typed import refused, xlam

from xlam_jax.format.tools import openai_view
from xlam_jax.weights import base_prompt
from xlam_jax.weights.card import EXAMPLE
from xlam_jax.weights.tokenizer_files import largest_token_id


def change(path, **keys):
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **keys}))


def rows(model):
    return json.loads((model / "config.json").read_text())["vocab_size"]


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": {"AT": {"content": "<tool>", "special": True}}}),
        ("added_tokens.json", {"<tool>": "AT"}),
        ("tokenizer_config.json", {"pad_token": "[NEW]"}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<new>"]}),
    ],
)
def test_a_row_that_a_token_uses_is_not_cut(model, tmp_path, file, keys):
    (model / "xlam.json").unlink()
    used = largest_token_id(model)
    text = json.dumps(keys).replace('"AT":', f'"{used + 1}":').replace('"AT"', str(used + 1))
    change(model / file, **json.loads(text))
    assert largest_token_id(model) == used + 1
    if file == "tokenizer_config.json":
        assert max(AutoTokenizer.from_pretrained(str(model)).get_vocab().values()) == used + 1
    xlam("convert", "to-hf", model, tmp_path / "wide", "--vocab-size", used + 2)
    said = refused("convert", "to-hf", tmp_path / "wide", tmp_path / "cut", "--vocab-size", used + 1)
    assert f"ids go up to {used + 1}" in said
    assert not (tmp_path / "cut").exists()


def test_a_token_beyond_the_model_is_told(model, tmp_path):
    (model / "xlam.json").unlink()
    change(model / "added_tokens.json", **{"<tool>": rows(model)})
    said = refused("convert", "to-hf", model, tmp_path / "out")
    assert "the tokenizer has ids up to" in said and f"--vocab-size {rows(model) + 1}" in said
    assert ".partial" not in said
    (model / "added_tokens.json").write_text('{"<tool>": "x"}')
    assert "no list of ids" in refused("convert", "to-hf", model, tmp_path / "out")


def test_a_tokenizer_class_of_its_own_is_not_named_where_its_code_is_not(model, tmp_path):
    change(
        model / "tokenizer_config.json",
        tokenizer_class="FooTokenizer",
        auto_map={"AutoTokenizer": ["tok_foo.FooTokenizer", None]},
    )
    (model / "tok_foo.py").write_text("class FooTokenizer: ...\n")
    said = xlam("convert", "to-hf", model, tmp_path / "out", "--verify")
    assert "left behind" in said and "tok_foo.py" in said and "auto_map of tokenizer_config.json" in said
    config = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert "auto_map" not in config and config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoTokenizer.from_pretrained(str(tmp_path / "out")).encode("a") is not None
    (model / "tokenizer.json").rename(model / "tokenizer.model")
    assert "a program of the model's own" in refused("convert", "to-hf", model, tmp_path / "none")
    assert not (tmp_path / "none").exists()


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x"
SHOWN = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools | tojson }}"
)


def with_template(model, text):
    (model / "xlam.json").unlink(missing_ok=True)
    (model / "checksums.json").unlink(missing_ok=True)
    (model / "chat_template.jinja").write_text(text)
    change(model / "tokenizer_config.json", chat_template=None)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (ENDLESS, "did not end in 1 seconds"),
        ("{% for i in range(99999) %}" + "a" * 60 + "{% endfor %}", "5,999,940 characters long"),
        ("{% if %}", "could not be rendered: TemplateSyntaxError"),
        ("{{ raise_exception('no') }}", "could not be rendered: TemplateError"),
    ],
)
def test_a_template_that_does_not_end_holds_up_nothing(model, tmp_path, monkeypatch, template, said):
    monkeypatch.setattr(base_prompt.rendered, "__defaults__", (1,))
    with_template(model, template)
    xlam("convert", "to-hf", model, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert said in card and len(card) < 10_000


def test_the_prompt_on_the_card_is_what_transformers_renders(model, tmp_path):
    with_template(model, SHOWN + "\n```\n\n# Injected\n")
    xlam("convert", "to-hf", model, tmp_path / "out")
    text = AutoTokenizer.from_pretrained(str(tmp_path / "out")).apply_chat_template(
        [{"role": "user", "content": EXAMPLE.query}],
        tools=[openai_view(EXAMPLE.tools[0])],
        tokenize=False,
        add_generation_prompt=True,
    )
    card = (tmp_path / "out/README.md").read_text()
    assert f"````text\n{text}\n````" in card  # a fence that the text cannot close
