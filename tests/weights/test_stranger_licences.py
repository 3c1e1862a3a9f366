"""What strangers' folders say of their licence: every statement is found, and two that do not agree are told."""

import json

import pytest
from typed import adapter, refused, xlam

from tests import tiny_run

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"
APACHE = "Apache License\nVersion 2.0, January 2004"
NC = "Creative Commons Attribution-NonCommercial 4.0 International Public License"
NC_ND = "Attribution-NonCommercial-NoDerivatives 4.0 International"
DEEPSEEK = "DEEPSEEK LICENSE AGREEMENT\nVersion 1.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    model = tiny_run.make_model(root / "model", tiny_run.make_tokenizer(root / "tokenizer"))
    (model / "README.md").unlink()
    return model


def put(model, texts, encoding="utf-8"):
    for name, text in texts.items():
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(text, encoding=encoding)


def head(licence):
    return f"---\nlicense: {licence}\n---\n# A model\n"


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ({"LICENSE-CODE": MIT, "LICENSE-MODEL": DEEPSEEK}, "deepseek"),
        ({"LICENSE": MIT, "MODEL_LICENSE.txt": DEEPSEEK}, "deepseek"),
        ({"LICENSE-CODE": MIT}, "unknown"),
        ({"LICENSE": "BigCode OpenRAIL-M v1 License Agreement"}, "bigcode-openrail-m"),
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}, "apache-2.0"),
        ({"README.md": head("[apache-2.0, mit]")}, "apache-2.0"),
        ({"README.md": head("\n- llama3.1\n- mit")}, "llama3.1"),
        ({"README.md": "\ufeff" + head("cc-by-nc-4.0")}, "cc-by-nc-4.0"),
        ({"readme.md": head("gemma")}, "gemma"),
        ({"README.md": head("other"), "LICENSE": APACHE}, "apache-2.0"),
        ({"README.md": head("other\nlicense_name: my-terms"), "LICENSE": "terms"}, "my-terms"),
        ({"README.md": head("mit\ndate: 2024-13-45")}, "unknown"),  # no YAML, so nothing is read
        ({"README.md": head("[" * 5000)}, "unknown"),
        ({"README.md": head("apache-2.0"), "LICENSE": APACHE}, "apache-2.0"),
    ],
)
def test_every_statement_is_found(model, tmp_path, texts, name):
    put(model, texts)
    xlam("convert", "to-hf", model, tmp_path / "out")
    assert json.loads((tmp_path / "out/provenance.json").read_text())["license"]["name"] == name


@pytest.mark.parametrize(
    "text",
    [
        "You may not use this model for any commercial purpose.",
        "Commercial use is prohibited.",
        "The model may not be used commercially.",
        "not for commercial use",
        "No commercial use.",
        "This licence does not permit commercial use.",
        "you can't use it commercially",
        "All commercial exploitation of the weights is strictly forbidden.",
        "To be used solely for academic research.",
        "The licensor prohibits any commercial use.",
    ],
)
@pytest.mark.parametrize("name", ["LICENSE", "USE_POLICY.md", "legal/LICENSE"])
def test_wordings_that_forbid_commerce(model, tmp_path, text, name):
    put(model, {"README.md": head("apache-2.0"), name: text})
    assert "apache-2.0" in refused("convert", "to-hf", model, tmp_path / "out")


@pytest.mark.parametrize(
    "card",
    [
        "\n" + head("cc-by-nc-4.0"),
        head("cc-by-nc-4.0\ntitle: a: b"),
        "---\nlicense: cc-by-nc-4.0\n# A model\n",
        "---\nlicense: cc-by-nc-4.0\n...\n# A model\n",
    ],
)
def test_a_card_that_names_a_licence_is_not_passed_over(model, tmp_path, card):
    put(model, {"README.md": card, "LICENSE": MIT})
    assert "mit" in refused("convert", "to-hf", model, tmp_path / "out")
    put(model, {"README.md": "---\n\nA line, and no front matter.\n"})
    xlam("convert", "to-hf", model, tmp_path / "out")


def test_a_licence_in_a_folder_of_legal_texts_counts(model, tmp_path):
    put(model, {"LICENSE": MIT, "legal/LICENSE": NC})
    said = refused("convert", "to-hf", model, tmp_path / "out")
    assert "mit" in said and "in legal/LICENSE: cc-by-nc-4.0" in said


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"README.md": head("apache-2.0"), "LICENSE": NC}, ["apache-2.0", "in LICENSE: cc-by-nc-4.0"]),
        ({"README.md": head("apache-2.0"), "LICENSE.md": NC_ND}, ["in LICENSE.md: cc-by-nc-nd-4.0"]),
        (
            {
                "README.md": head("mit"),
                "LICENSE": "You may use the weights for non-commercial purposes only.",
            },
            ["mit", "see LICENSE"],
        ),
        ({"README.md": head("[apache-2.0, cc-by-nc-4.0]")}, ["apache-2.0", "cc-by-nc-4.0"]),
        ({"README.md": head("gemma"), "LICENSE-MODEL": DEEPSEEK}, ["gemma", "deepseek"]),
    ],
)
def test_statements_that_do_not_agree_are_a_conflict(model, tmp_path, texts, words):
    put(model, texts)
    said = refused("convert", "to-hf", model, tmp_path / "out")
    assert "do not agree" in said and all(word in said for word in words)
    assert not (tmp_path / "out").exists()
    # Taking it in decides nothing; naming one does.
    xlam("convert", "from-hf", model, tmp_path / "in")
    assert "do not agree" in refused("convert", "to-hf", tmp_path / "in", tmp_path / "out")
    xlam("convert", "to-hf", tmp_path / "in", tmp_path / "out", "--license", "cc-by-nc-4.0")
    card = (tmp_path / "out/README.md").read_text()
    assert "license: cc-by-nc-4.0" in card and "named by who released it" in card


def test_the_licence_of_a_merged_adapter_counts(model, tmp_path):
    peft, merged = adapter(tmp_path / "mine", model), tmp_path / "merged"
    put(model, {"README.md": head("apache-2.0")})
    put(peft, {"README.md": head("cc-by-nc-4.0")})
    xlam("convert", "from-peft", peft, merged, "--base", model)
    said = refused("convert", "to-hf", merged, tmp_path / "out")
    assert "apache-2.0" in said and "in README.md of the adapter: cc-by-nc-4.0" in said
    put(peft, {"README.md": head("mit")})
    xlam("convert", "from-peft", peft, merged, "--base", model, "--overwrite")
    xlam("convert", "to-hf", merged, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "license: apache-2.0" in card and "The adapter mine was merged into it." in card


DUAL = "The source code is under the Apache License, Version 2.0.\n"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"LICENSE": f"{DUAL}The weights are under CC BY-NC 4.0.\n"}, ["in LICENSE: cc-by-nc-4.0"]),
        ({"LICENSE": f"{DUAL}{'x ' * 4000}\nThe weights: {NC}"}, ["in LICENSE: cc-by-nc-4.0"]),
        ({"LICENSE": f"{DUAL}The weights are for non-commercial use only."}, ["see LICENSE"]),
        ({"LICENSE": "CC BY-NC 4.0\n"}, ["in LICENSE: cc-by-nc-4.0"]),
        ({"LICENSE": "https://creativecommons.org/licenses/by-nc-sa/4.0/"}, ["cc-by-nc-sa-4.0"]),
        ({"LICENSE": "SPDX-License-Identifier: CC-BY-NC-ND-4.0"}, ["cc-by-nc-nd-4.0"]),
        ({"LICENSE": "Attribution-NonCommercial 3.0 Unported"}, ["cc-by-nc-3.0"]),
        ({"LICENSE": "The weights may be used for academic research purposes only."}, ["see LICENSE"]),
        ({"LICENSE-CC-BY-NC-4.0": NC}, ["in LICENSE-CC-BY-NC-4.0: cc-by-nc-4.0"]),
        ({"LICENSE/x.txt": NC}, ["in LICENSE/x.txt: cc-by-nc-4.0"]),
        ({"licenses/weights.txt": NC}, ["in licenses/weights.txt: cc-by-nc-4.0"]),
        (
            {"USE_POLICY.md": "non-commercial use only"},
            ["non-commercial, see USE_POLICY.md", "--license NAME"],
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_non_commercial_weights_do_not_go_out_as_apache(model, tmp_path, texts, words, encoding):
    put(model, {"README.md": head("apache-2.0")})
    put(model, texts, encoding)
    said = refused("convert", "to-hf", model, tmp_path / "out")
    assert "apache-2.0" in said and all(word in said for word in words)
    if encoding == "utf-8":  # what states it goes along, and states it there too
        xlam("convert", "from-hf", model, tmp_path / "in")
        (tmp_path / "in/provenance.json").unlink()
        assert "do not agree" in refused("convert", "to-hf", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Free for commercial and non-commercial use. MIT applies.", "apache-2.0"),
        ("Both noncommercial or commercial use is welcome.", "apache-2.0"),
        ("Mozilla Public License Version 2.0\nor the GNU General Public License, Version 2.0", "mpl-2.0"),
        (
            "GNU GENERAL PUBLIC LICENSE\nVersion 3\nallowed only occasionally and noncommercially, and only if",
            "gpl-3.0",
        ),
        (f"{APACHE}\nParts: {MIT}", "apache-2.0"),
        ("Falcon LLM License, based on the Apache License Version 2.0", "falcon-llm"),
        ("Creative Commons Attribution-ShareAlike 4.0 International", "cc-by-sa-4.0"),
    ],
)
def test_what_allows_commerce_is_no_conflict(model, tmp_path, text, name):
    put(model, {"README.md": head("apache-2.0"), "LICENSE": text})
    xlam("convert", "to-hf", model, tmp_path / "out")
    assert json.loads((tmp_path / "out/provenance.json").read_text())["license"]["name"] == name
