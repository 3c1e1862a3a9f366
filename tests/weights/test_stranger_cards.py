"""Cards of folders with odd names and damaged ledgers: readable Markdown, or one line that says what is wrong."""

import json

import pytest
from huggingface_hub import ModelCard
from typed import refused, xlam


@pytest.fixture
def facts(model, tmp_path):
    """provenance.json of a release, to be damaged."""
    xlam("convert", "to-hf", model, tmp_path / "release")
    return json.loads((tmp_path / "release/provenance.json").read_text())


TRAINING = dict.fromkeys(("step", "total_steps", "started", "git", "loss", "eval_loss"))
DAMAGED = {
    "base": {},
    "base.license": "mit",
    "base.license.name": 5,
    "base.language": 5,
    "base.folder": ["x"],
    "name": ["x"],
    "name ": "a\n---\nlicense: mit",
    "made": {},
    "license": "mit",
    "license ": [],
    "data": [],
    "data ": {"sources": [{"name": "x"}]},
    "training": {},
    "training ": {**TRAINING, "config": {"batch": 5}, "versions": {}},
    "training  ": {**TRAINING, "config": {}, "versions": []},
    "evaluations": [{"x": 1}],
    "evaluations ": {"x": 1},
    "format_version": "x",
}


@pytest.mark.parametrize("place", DAMAGED)
def test_a_damaged_provenance_is_a_line(model, tmp_path, facts, place):
    *above, key = place.strip().split(".")
    spot = facts
    for name in above:
        spot[name] = spot[name] or {"name": "mit"}
        spot = spot[name]
    spot[key] = DAMAGED[place]
    (model / "provenance.json").write_text(json.dumps(facts))
    for words in (("to-hf", model, tmp_path / "out"), ("card", model)):
        said = refused("convert", *words)
        assert "no provenance that can be read" in said and "provenance.json" in said and key in said
    assert not (tmp_path / "out").exists()


def test_a_whole_provenance_is_read_again(model, tmp_path, facts):
    (model / "provenance.json").write_text(json.dumps(facts))
    xlam("convert", "to-hf", model, tmp_path / "out")
    assert json.loads((tmp_path / "out/provenance.json").read_text()) == facts


@pytest.mark.parametrize("name", ["a [b] |c", "n`l*#", "line1\nline2", "[x](http:evil)", "``", "<b>x"])
def test_a_folders_name_stays_a_name(model, tmp_path, name):
    source, out = model.rename(tmp_path / name), tmp_path / "out"
    xlam("convert", "to-hf", source, out)
    xlam("convert", "to-hf", out, tmp_path / "again")  # its provenance can be read again
    for folder in (out, tmp_path / "again"):
        card = ModelCard.load(folder / "README.md")
        titles = [line for line in card.text.splitlines() if line.startswith("# ")]
        shown = " ".join(name.split())
        assert [title.replace("\\", "") for title in titles] == [f"# {shown}"]
        html = rendered(card.text)
        assert (
            "evil" not in html.replace("http:evil", "")
            and "<b>" not in html
            and 'href="http:evil' not in html
        )
        (row,) = [line for line in card.text.splitlines() if line.startswith("| base model |")]
        assert len(cells(row)) == 2 and cells(row)[1].strip("`").strip().replace("\\|", "|") == shown
        (part,) = [line for line in card.text.splitlines() if line.startswith("| base model ")][1:]
        assert len(cells(part)) == 3


def cells(row):
    """Of a row of a table: pipes behind a backslash divide nothing."""
    return [cell.replace("\0", "\\|").strip() for cell in row.replace("\\|", "\0").strip("|").split("|")]


def rendered(text):
    markdown = pytest.importorskip("markdown_it")
    return markdown.MarkdownIt("commonmark").enable("table").render(text)
