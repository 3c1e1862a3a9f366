"""`xlam data show`: the trained text, coloured by span, safe for the terminal."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from xlam_jax.cli import data, data_show
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, ToolCall, get_codec, normalise_tool, write_records

RECORDS = [
    Record(
        id=f"row-{i}",
        query="Sum [red]1[/] \x1b[31m\x07 and 2 é",
        tools=(normalise_tool({"name": "add", "parameters": {"a": {"type": "int"}}}),),
        steps=(Step("why", (ToolCall("add", {"a": 42}),)),),
        source="[bold]demo",
    )
    for i in range(5)
]


@pytest.fixture
def path(tmp_path):
    write_records(tmp_path / "rows.jsonl.gz", RECORDS)
    return tmp_path / "rows.jsonl.gz"


def show(*arguments):
    return CliRunner().invoke(data.app, ["show", *map(str, arguments)])


def test_shows_the_codec_s_text(path, tmp_path):
    result = show(
        path, "--limit", 2, "--template", "deepseek-coder", "--thought", "--json", tmp_path / "o.json"
    )
    assert result.exit_code == 0, result.output
    assert "row-1" in result.output and "row-2" not in result.output
    assert "[bold]demo" in result.output and "Sum [red]1[/] ␛[31m␇ and 2 é" in result.output
    assert "\x1b[31m" not in result.output and "\x07" not in result.output
    written = json.loads((tmp_path / "o.json").read_text())
    codec = get_codec(template="deepseek-coder", thought=True)
    assert written["codec"] == codec.name
    assert [r["text"] for r in written["records"]] == [codec.render(r).text for r in RECORDS[:2]]
    assert {s["kind"] for s in written["records"][0]["spans"]} >= {
        "assistant",
        "name",
        "arguments",
        "thought",
        "stop",
    }


def test_colours_follow_the_spans():
    rendered = get_codec(thought=True).render(RECORDS[0])
    text = data_show.coloured(rendered)
    assert len(text) == len(rendered.text)
    console = Console()
    styles = {s.kind: text.get_style_at_offset(console, s.start) for s in rendered.spans}
    colours = {kind: style.color.name for kind, style in styles.items() if style.color}
    assert colours == {"thought": "yellow", "name": "cyan", "arguments": "green", "stop": "magenta"}
    assert not styles["assistant"].dim
    assert text.get_style_at_offset(console, rendered.text.index("Sum")).dim


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(["--template", "chatlm"], "unknown chat template"), (["--layout", "xx"], "unknown layout")],
)
def test_bad_choices(path, arguments, what):
    error = show(path, *arguments).exception
    assert isinstance(error, InputError) and what in error.what


def test_missing_file(tmp_path):
    assert isinstance(show(tmp_path / "none.jsonl").exception, InputError)
