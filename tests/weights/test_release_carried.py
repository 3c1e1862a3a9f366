"""What goes on with a model as it is: documents, named templates, generation settings, all stop tokens."""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_hf import files, write, write_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from tests import tiny_run
from xlam_jax.cli import convert
from xlam_jax.errors import InputError
from xlam_jax.format import get_codec
from xlam_jax.inference import Engine
from xlam_jax.weights.carried import carry

DOCUMENTS = {
    "LICENSE": "Apache License\nVersion 2.0, January 2004\n",
    "NOTICE.txt": "who made it\n",
    "USE_POLICY.md": "what not to do\n",
    "tekken.json": "{}",
    "tokenizer.model.v3": "pieces",
    "vocab.txt": "w0\nw1\n",
}
GENERATION = {"do_sample": True, "temperature": 0.6, "top_k": 20, "eos_token_id": [2, 7], "bos_token_id": 1}


def run(*args) -> str:
    result = CliRunner().invoke(convert.app, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture
def base(tmp_path):
    """A folder as the hub has them, with more than weights in it."""
    folder = tmp_path / "base"
    write("llama", folder)
    write_tokenizer(tmp_path / "t", size=50)
    for path in (tmp_path / "t").iterdir():
        shutil.copy(path, folder)
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# The base\n")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    (folder / "additional_chat_templates").mkdir()
    for name in ("rag", "tool_use"):
        (folder / f"additional_chat_templates/{name}.jinja").write_text(
            f"{name}: {{{{ messages[0].content }}}}"
        )
    (folder / "original").mkdir()
    for name in ("consolidated.safetensors", "original/params.json", "modeling_x.py"):
        (folder / name).write_text("x")
    return folder


def test_documents_templates_and_settings_go_in_and_out(base, tmp_path):
    run("from-hf", base, tmp_path / "in")
    text = run("to-hf", tmp_path / "in", tmp_path / "out")
    for name, content in {**DOCUMENTS, "BASE_README.md": (base / "README.md").read_text()}.items():
        assert (tmp_path / "out" / name).read_text() == content and name in text
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == GENERATION
    ours, theirs = (AutoTokenizer.from_pretrained(str(f)).chat_template for f in (tmp_path / "out", base))
    assert ours == theirs and set(ours) == {"default", "rag", "tool_use"}
    older = json.loads((tmp_path / "out/tokenizer_config.json").read_text())["chat_template"]
    assert {t["name"]: t["template"] for t in older} == theirs  # what readers without files of templates take
    # And again: nothing is lost, and the card of the base is still the base's.
    run("from-hf", tmp_path / "out", tmp_path / "in2")
    run("to-hf", tmp_path / "in2", tmp_path / "out2")
    assert files(tmp_path / "out2") == files(tmp_path / "out")


def test_what_stays_behind_is_said(base, tmp_path):
    text = " ".join(run("to-hf", base, tmp_path / "out", "--json", tmp_path / "r.json").split())
    assert "left behind: consolidated.safetensors, modeling_x.py, original/ (1 files)" in text
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["left_behind"] == ["consolidated.safetensors", "modeling_x.py", "original/ (1 files)"]
    assert set(report["carried"]) == {*DOCUMENTS, "BASE_README.md"}


def test_a_template_for_tools_does_not_go_before_the_models_own(tmp_path):
    tiny_run.make_model(tmp_path / "m", tiny_run.make_tokenizer(tmp_path / "t"))
    codec, config = get_codec(), tmp_path / "m/tokenizer_config.json"
    named = [{"name": n, "template": f"{n}!"} for n in ("default", "tool_use", "rag")]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": named}))
    about = json.loads((tmp_path / "m/xlam.json").read_text())
    (tmp_path / "m/xlam.json").write_text(json.dumps(about | {"codec": codec.settings}))
    text = run("to-hf", tmp_path / "m", tmp_path / "out")
    assert "chat template 'tool_use'" in text
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert set(tokenizer.chat_template) == {"default", "rag"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert tokenizer.get_chat_template(tools=[tool]) == codec.jinja()


def test_documents_of_a_base_go_on_with_a_run_and_its_card_is_the_bases(tmp_path):
    """Of a base that is a release of this package, README.md is its own card."""
    for name in ("run", "base"):
        (tmp_path / name).mkdir()
    for name, text in {
        "README.md": "card",
        "provenance.json": "{}",
        "LICENSE": "L",
        "BASE_README.md": "older",
    }.items():
        (tmp_path / "base" / name).write_text(text)
    assert carry((tmp_path / "run", tmp_path / "base"), tmp_path / "run") == ["BASE_README.md", "LICENSE"]
    assert (tmp_path / "run/BASE_README.md").read_text() == "card"
    (tmp_path / "run/provenance.json").write_text("{}")
    assert carry((tmp_path / "run", tmp_path / "base"), tmp_path / "run") == ["BASE_README.md", "LICENSE"]


def greedy(model, ids, count):
    """The next `count` tokens, whatever they are."""
    for _ in range(count):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, -count:].tolist()


def test_generation_ends_at_the_second_stop_token(tmp_path):
    tokenizer = tiny_run.make_tokenizer(tmp_path / "t")
    folder = tiny_run.make_model(tmp_path / "m", tokenizer, initializer_range=0.5)
    prompt = "How about Oslo?"
    ids = torch.tensor(
        [AutoTokenizer.from_pretrained(str(folder))(prompt, add_special_tokens=False)["input_ids"]]
    )
    model = AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    free = greedy(model, ids, 12)
    stop = next(i for i, token in enumerate(free) if i >= 2 and token not in free[:i])
    config = json.loads((folder / "generation_config.json").read_text())
    known = json.loads((folder / "config.json").read_text())["eos_token_id"]
    path = folder / "generation_config.json"
    path.write_text(json.dumps(config | {"eos_token_id": [known or 0, free[stop]]}))
    run("from-hf", folder, tmp_path / "n")
    run("to-hf", tmp_path / "n", tmp_path / "out")
    (got,) = Engine.from_folder(tmp_path / "out", max_len=64).generate([prompt], max_new_tokens=12)
    assert (list(got.token_ids), got.finish_reason) == (free[: stop + 1], "stop")
    again = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out")).eval()
    theirs = again.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    np.testing.assert_array_equal(theirs, got.token_ids)


@pytest.mark.parametrize("content", ["{", "[]", '{"eos_token_id": ["</s>"]}', '{"eos_token_id": [-1]}'])
def test_generation_settings_that_make_no_sense(base, tmp_path, content):
    (base / "generation_config.json").write_text(content)
    with pytest.raises(InputError, match=r"not JSON|no JSON object|eos_token_id") as found:
        run("to-hf", base, tmp_path / "out")
    assert found.value.exit_code == 2 and "generation_config.json" in found.value.where
    assert not list(tmp_path.glob("out*"))
