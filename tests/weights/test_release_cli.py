"""`xlam convert`, in process."""

import importlib.util
import json

import pytest
from run_folders import write_run
from tiny_hf import edit_config, files, folder_logits, torch_logits, write, write_tokenizer
from typer.testing import CliRunner

from tests import tiny
from xlam_jax.cli import convert
from xlam_jax.errors import InputError
from xlam_jax.format import get_codec
from xlam_jax.models.named import named_config
from xlam_jax.weights import load_hf, save_hf
from xlam_jax.weights.tokenizer_files import copy_tokenizer


def run(*args) -> str:
    """The output of a command that must succeed; what it raises comes out."""
    result = CliRunner().invoke(convert.app, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture
def model(tmp_path):
    """A Hugging Face folder with tokenizer where the examples of the help look for it."""
    folder = tmp_path / "runs" / "demo" / "model"
    torch_model = write("linear", folder)
    write_tokenizer(tmp_path / "t", size=50)
    copy_tokenizer(tmp_path / "t", folder)
    return folder, torch_model


def test_examples_of_the_help_work_as_typed(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("from-hf", "to-hf"):
        text = " ".join(
            CliRunner().invoke(convert.app, [command, "--help"], env={"COLUMNS": "200"}).output.split()
        )
        example = text.split("Example: xlam convert ")[1].split(" ╭")[0].split()
        assert example[0] == command
        run(*example)
    bfloat16 = json.loads((tmp_path / "runs" / "released" / "config.json").read_text())
    assert bfloat16["dtype"] == "bfloat16"


def test_there_and_back_and_there_is_byte_identical(tmp_path, model):
    folder, torch_model = model
    run("from-hf", folder, tmp_path / "n1")
    text = run("to-hf", tmp_path / "n1", tmp_path / "h1", "--max-shard-size", "10KB", "--verify")
    assert "peak host memory" in text and "MB/s" in text and "verified with transformers" in text
    run("from-hf", tmp_path / "h1", tmp_path / "n2")
    run("to-hf", tmp_path / "n2", tmp_path / "h2", "--max-shard-size", "10KB", "--json", tmp_path / "r.json")
    first, second = files(tmp_path / "h1"), files(tmp_path / "h2")
    assert first == second and sum(name.endswith(".safetensors") for name in first) > 3
    assert (folder_logits(tmp_path / "h2") == torch_logits(torch_model)).all()
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["folder"] == str(tmp_path / "h2") and report["peak_bytes"] >= 0
    assert report["shards"] == {n: len(b) for n, b in second.items() if n.endswith(".safetensors")}
    assert not list(tmp_path.glob("*.partial"))


def test_codec_of_the_source_sets_template_and_stop(tmp_path):
    cfg = named_config("tiny-llama")
    codec = get_codec(template="plain")
    write_tokenizer(tmp_path / "t", additional_special_tokens=[codec.stop])
    choices = {
        "call_format": codec.call_format,
        "template": "plain",
        "layout": codec.layout,
        "thought": False,
    }
    params = tiny.params(cfg)
    save_hf(params, cfg, tmp_path / "n", tokenizer=tmp_path / "t", codec=choices)
    run("to-hf", tmp_path / "n", tmp_path / "h")
    assert (tmp_path / "h" / "chat_template.jinja").read_text() == codec.jinja()
    assert json.loads((tmp_path / "h" / "generation_config.json").read_text())["eos_token_id"] == [20, 2]
    assert json.loads((tmp_path / "h" / "xlam.json").read_text())["codec"] == choices
    run("from-hf", tmp_path / "h", tmp_path / "n2")
    run("to-hf", tmp_path / "n2", tmp_path / "h2")
    assert files(tmp_path / "h2") == files(tmp_path / "h")
    assert load_hf(tmp_path / "h2")[0].eos_token_ids == (20, 2)


def test_codec_of_another_version_is_named(tmp_path, model):
    folder, _ = model
    for codec in ({"template": "chatlm"}, {"dialect": "x"}):
        (folder / "xlam.json").write_text(json.dumps({"format_version": 1, "codec": codec}))
        with pytest.raises(InputError, match=r"chatml|dialect"):
            run("to-hf", folder, tmp_path / "out")


def test_destinations_are_guarded(tmp_path, model):
    folder, _ = model
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    for args, word in (
        (("from-hf", folder, mine), "not empty"),
        (("from-hf", folder, mine, "--overwrite"), "something else"),
        (("from-hf", folder, mine / "thesis.txt"), "is a file"),
        (("to-hf", folder, folder, "--overwrite"), "replace SRC"),
        (("to-hf", folder, folder.parent, "--overwrite"), "replace SRC"),
    ):
        with pytest.raises(InputError, match=word):
            run(*args)
    assert files(mine) == {"thesis.txt": b"x"} and folder.is_dir()
    run("from-hf", folder, tmp_path / "n")
    stamp = (tmp_path / "n" / "config.json").stat().st_ino
    run("from-hf", folder, tmp_path / "n", "--overwrite")
    assert (tmp_path / "n" / "config.json").stat().st_ino != stamp


def test_bad_sources_leave_nothing(tmp_path, model):
    folder, _ = model
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    for command in ("from-hf", "to-hf"):
        with pytest.raises(InputError, match="truncated") as found:
            run(command, folder, tmp_path / "out")
        assert found.value.exit_code == 2
    weights.write_bytes(whole)
    edit_config(folder, hidden_size=64)
    for source, word in (
        (folder, "another model"),
        (tmp_path / "none", "not found"),
        (tmp_path / "x.gguf", "not found"),
    ):
        with pytest.raises(InputError, match=word):
            run("from-hf", source, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs", "t"]


def test_a_run_is_not_read_as_hugging_face(tmp_path, model):
    cfg, params = load_hf(model[0])
    write_run(tmp_path / "run", params, cfg)
    with pytest.raises(InputError, match="no Hugging Face folder"):
        run("from-hf", tmp_path / "run", tmp_path / "m")


def test_verify_without_torch_says_how_before_any_work(tmp_path, model, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else found(name, *a)
    )
    with pytest.raises(InputError, match=r"pip install 'xlam-jax\[torch\]'"):
        run("to-hf", model[0], tmp_path / "out", "--verify")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5 MiB", 3 * 2**19), ("10kb", 10_000), ("7", 7)]
)
def test_sizes(text, size):
    assert convert.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5TB", "0", "5 gigabytes"])
def test_no_sizes(text):
    with pytest.raises(InputError, match="5GB or 500MB"):
        convert.parse_size(text)
