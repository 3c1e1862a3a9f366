"""Folders as strangers have them: nothing of theirs is lost, nothing damaged is merged or sent."""

import json
import shutil

import numpy as np
import pytest
from tiny_hf import files
from typed import adapter, refused, xlam
from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.files import JOURNAL, MARKER, whole_folder


def bare(model):
    """Without what says that this package wrote it."""
    for own in ("checksums.json", "xlam.json"):
        (model / own).unlink()
    return model


@pytest.mark.parametrize("suffix", [".partial", ".replaced", ""])
def test_a_source_in_the_place_of_the_work_is_not_touched(model, tmp_path, suffix):
    source = model.rename(tmp_path / f"mine{suffix}")
    before = sorted(p.name for p in source.iterdir())
    assert "DST would replace SRC" in refused("convert", "to-hf", source, tmp_path / "mine", "--overwrite")
    assert sorted(p.name for p in source.iterdir()) == before


@pytest.mark.parametrize("suffix", [".partial", ".replaced"])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_what_a_stranger_has_beside_the_destination_stays(model, tmp_path, suffix, resume):
    peft, mine = adapter(tmp_path / "adapter", model), tmp_path / f"out{suffix}"
    for kind in ("folder", "file", "link"):
        if kind == "folder":
            mine.mkdir()
            (mine / "thesis.txt").write_text("x")
        elif kind == "file":
            mine.write_text("x")
        else:
            mine.symlink_to(tmp_path / "nowhere")
        before = files(tmp_path)
        for words in (("to-hf", model), ("from-hf", model), ("upcycle", model)):
            said = refused("convert", *words, tmp_path / "out", *resume)
            assert f"{mine.name} is in the way" in said and "move it away" in said
        assert mine.name in refused("convert", "from-peft", peft, tmp_path / "out", "--base", model)
        assert files(tmp_path) == before and (mine.exists() or mine.is_symlink())
        shutil.rmtree(mine) if kind == "folder" else mine.unlink()


def test_what_a_killed_conversion_left_is_taken_over(model, tmp_path):
    out = tmp_path / "out"
    partial = tmp_path / "out.partial"

    def interrupted():
        with whole_folder(out) as folder:
            (folder / JOURNAL).touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert partial.is_dir()
    for options in ([], ["--overwrite"]):
        xlam("convert", "to-hf", model, out, *options)
        assert MARKER not in files(out) and MARKER not in (out / "checksums.json").read_text()
    # One that was killed between the two renames: what was replaced is marked.
    (old := out.rename(tmp_path / "out.replaced")).joinpath(MARKER).touch()
    xlam("convert", "to-hf", model, out)
    assert (out / "config.json").is_file() and not partial.exists() and not old.exists()


def test_a_merge_replaces_neither_adapter_nor_base(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model)
    for dst in (peft, model):
        assert "DST would replace" in refused(
            "convert", "from-peft", peft, dst, "--base", model, "--overwrite"
        )
    assert (peft / "adapter_model.safetensors").is_file() and (model / "config.json").is_file()


def test_overwriting_deletes_nothing_but_a_release(model, tmp_path):
    peft, out = adapter(tmp_path / "adapter", model), tmp_path / "out"
    commands = [("to-hf", model), ("from-hf", model), ("from-peft", peft, "--base", model)]
    out.mkdir()
    (out / "thesis.txt").write_text("x")
    for command, src, *more in commands:
        assert "something else" in refused("convert", command, src, out, *more, "--overwrite")
    assert files(out) == {"thesis.txt": b"x"}
    shutil.rmtree(out)
    xlam("convert", "to-hf", model, out)
    for name in ("notes.txt", ".git/HEAD", "gguf/a.gguf"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    before = files(out)
    for command, src, *more in commands:
        said = refused("convert", command, src, out, *more, "--overwrite")
        assert ".git/ (1 files), gguf/ (1 files), notes.txt" in said
    assert files(out) == before
    for name in ("notes.txt", ".git", "gguf"):
        (out / name).rename(tmp_path / name)
    for command, src, *more in commands:
        xlam("convert", command, src, out, *more, "--overwrite")


def test_overwriting_spares_what_nobody_converted(model, tmp_path):
    """Somebody's own model, somebody's adapter, and a card that was written on since."""
    own, out = shutil.copytree(model, tmp_path / "own"), tmp_path / "out"
    for name in ("checksums.json", "xlam.json"):
        (own / name).unlink(missing_ok=True)
    peft = adapter(tmp_path / "adapter", model)
    xlam("convert", "to-hf", model, out)
    with (out / "README.md").open("a") as card:
        card.write("my own words")
    for place, word in (
        (own, "something else"),
        (peft, "something else"),
        (out, "README.md (changed since)"),
    ):
        before = files(place)
        assert word in refused("convert", "to-hf", model, place, "--overwrite")
        assert files(place) == before
    xlam("convert", "card", out)  # seals it
    xlam("convert", "to-hf", model, out, "--overwrite")


def test_an_adapter_beside_a_model_is_not_passed_over(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(peft / name, model)
    for command in ("from-hf", "to-hf"):
        assert "from-peft" in refused("convert", command, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_source_had_more_is_named(model, tmp_path):
    (model / "BASE_README.md").write_text("of the base's base")
    for name in ("tool_parser.py", "model-00009-of-00009.safetensors", "adapter_config.json"):
        (model / name).write_text("theirs")
    for command in ("from-hf", "to-hf"):
        out = tmp_path / command
        text = xlam("convert", command, model, out, "--json", tmp_path / "r.json")
        left = json.loads((tmp_path / "r.json").read_text())["left_behind"]
        assert left == [
            "BASE_README.md (its README.md has the name now)",
            "adapter_config.json",
            "model-00009-of-00009.safetensors",
            "tool_parser.py",
        ]
        assert ", ".join(left) in text
        assert (out / "BASE_README.md").read_text() == (model / "README.md").read_text()


def test_a_lower_case_readme_is_carried(model, tmp_path):
    text = (model / "README.md").rename(model / "readme.md").read_text()
    said = xlam("convert", "to-hf", model, tmp_path / "out")
    assert (tmp_path / "out/BASE_README.md").read_text() == text and "left behind" not in said


def test_what_an_adapter_had_more_is_named(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model)
    for name in ("README.md", "LICENSE", "chat_template.jinja", "checkpoint-1/optimizer.pt"):
        (peft / name).parent.mkdir(exist_ok=True)
        (peft / name).write_text("theirs")
    shutil.copy(model / "tokenizer.json", peft)
    xlam("convert", "from-peft", peft, tmp_path / "out", "--base", model, "--json", tmp_path / "r.json")
    left = json.loads((tmp_path / "r.json").read_text())["left_behind"]
    names = ("LICENSE", "README.md", "chat_template.jinja", "checkpoint-1/ (1 files)")
    assert left == [f"{name} of the adapter" for name in names]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"b": (32, 2)}, "no pair of one rank"), ({"a": (4,)}, "no pair of one rank"),
        ({"a": None}, "holds no tensors"), ({"dtype": np.int8}, "holds integers"),
    ],
)  # fmt: skip
def test_adapters_that_are_damaged_are_not_merged(model, tmp_path, shapes, said):
    peft = adapter(tmp_path / "adapter", model, **shapes)
    assert said in refused("convert", "from-peft", peft, tmp_path / "out", "--base", model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "names", [{}, {"../secret.txt": "0" * 64}, {"/etc/passwd": "0" * 64}, {"a/../../b": "0" * 64}]
)
def test_nothing_outside_a_release_is_sent(model, tmp_path, names):
    (tmp_path / "secret.txt").write_text("secret")
    out = tmp_path / "out"
    xlam("convert", "to-hf", model, out)
    sums = json.loads((out / "checksums.json").read_text())
    sums["files"] = {**(sums["files"] if names else {}), **names}
    (out / "checksums.json").write_text(json.dumps(sums))
    assert "checksums.json names" in refused("convert", "push", out, "me/model")


@pytest.mark.parametrize("name", ["README.md", "readme.md"])
def test_a_card_keeps_the_readme_of_somebody_else(model, name):
    text = (bare(model) / "README.md").rename(model / name).read_text()
    xlam("convert", "card", model)
    assert (model / "BASE_README.md").read_text() == text != (model / "README.md").read_text()
    assert "readme.md" not in files(model)


def test_a_card_that_cannot_be_written_moves_nothing(model):
    (bare(model) / "config.json").write_text('{"model_type": "gpt2"}')
    before = files(model)
    assert "gpt2" in refused("convert", "card", model)
    assert files(model) == before


@pytest.mark.parametrize("sealed", [False, True])
def test_a_card_seals_a_release_and_nothing_beside_it(model, tmp_path, sealed):
    folder = model
    if sealed:
        xlam("convert", "to-hf", model, folder := tmp_path / "out")
    else:
        config = json.loads((bare(model) / "config.json").read_text())
        config["torch_dtype"] = config.pop("dtype")  # as transformers 4 writes it
        del config["architectures"]
        (model / "config.json").write_text(json.dumps(config))
        (model / "LICENSE").write_text("terms")
    release = {*files(folder), "README.md", "BASE_README.md", "provenance.json", "checksums.json"}
    private = (".env", "model-00009-of-00009.safetensors", "notes.md", "optimizer.pt", "runs/events.log")
    for name in private:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    assert f"never sent: {', '.join(private[:4])}, runs/ (1 files)" in xlam("convert", "card", folder)
    assert {*json.loads((folder / "checksums.json").read_text())["files"], "checksums.json"} == release
    xlam("convert", "push", folder, "me/model", "--json", tmp_path / "r.json")
    assert set(json.loads((tmp_path / "r.json").read_text())["files"]) == release


def test_a_card_does_not_make_good_what_is_missing(model, tmp_path):
    out = tmp_path / "out"
    xlam("convert", "to-hf", model, out)
    (out / "tokenizer.json").unlink()
    xlam("convert", "card", out)
    result = CliRunner().invoke(app, ["convert", "verify", str(out)])
    assert "tokenizer.json (missing)" in str(result.exception)


def test_places_where_no_folder_and_no_file_can_be(model, tmp_path, monkeypatch):
    peft, file = adapter(tmp_path / "adapter", model), tmp_path / "file.txt"
    file.write_text("x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    before = files(tmp_path)
    for command, src, *more in (
        ("to-hf", model), ("from-hf", model), ("upcycle", model), ("from-peft", peft, "--base", model),
    ):  # fmt: skip
        for dst in (file / "out", file / "deep" / "out"):
            assert "below a file, file.txt" in refused("convert", command, src, dst, *more)
        assert "has no name" in refused("convert", command, src, ".", *more)
        for json_file, said in (
            (tmp_path, "--json is a folder"),
            (file / "r.json", "--json lies below a file, file.txt"),
            (tmp_path / "out", "--json is DST"),
        ):
            assert said in refused("convert", command, src, tmp_path / "out", *more, "--json", json_file)
    assert "below a file" in refused("convert", "vllm-parser", file / "parser.py")
    assert "is a folder" in refused("convert", "vllm-parser", tmp_path, "--overwrite")
    assert files(tmp_path) == before and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--base-model", "owner/na\nme", "no name on the hub"), ("--base-model", "owner/name\n", "no name on the hub"),
        ("--base-model", "owner/", "no name on the hub"), ("--base-model", "a b/c", "no name on the hub"),
        ("--license", "----", "no name of a licence"), ("--license", "mit\n# x", "no name of a licence"),
        ("--license", " ", "no name of a licence"), ("--license", "a|b", "no name of a licence"),
    ],
)  # fmt: skip
def test_names_that_are_none(model, tmp_path, option, value, said):
    for words in (("to-hf", model, tmp_path / "out"), ("card", model)):
        assert said in refused("convert", *words, option, value)
    assert not (tmp_path / "out").exists()


def test_a_destination_that_is_a_link_to_nowhere_is_told_before_the_work(model, tmp_path):
    peft, out = adapter(tmp_path / "adapter", model), tmp_path / "out"
    out.symlink_to(tmp_path / "nowhere")
    for command, src, *more in (
        ("to-hf", model), ("from-hf", model), ("upcycle", model), ("from-peft", peft, "--base", model),
    ):  # fmt: skip
        for option in ([], ["--overwrite"]):
            assert "a link to what is not there" in refused("convert", command, src, out, *more, *option)
    assert out.is_symlink() and not (tmp_path / "nowhere").exists()


def test_a_model_is_not_written_into_itself(model, tmp_path):
    peft = adapter(tmp_path / "adapter", model)
    before = files(tmp_path)
    for command, src, *more in (
        ("to-hf", model), ("from-hf", model), ("upcycle", model), ("from-peft", peft, "--base", model),
    ):  # fmt: skip
        for place in ("sub", "deep/sub"):
            assert "DST lies in SRC" in refused("convert", command, src, src / place, *more)
    assert "DST lies in BASE" in refused("convert", "from-peft", peft, model / "sub", "--base", model)
    assert files(tmp_path) == before and not (model / "deep").exists()
