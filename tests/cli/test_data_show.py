"""`xlam data show`: the trained text, coloured by span, safe for the terminal."""

import json
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from xlam_jax.cli import data, data_show
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Style, ToolCall, get_codec, normalise_tool, write_records

RECORDS = [
    Record(
        id=f"row-{i}",
        query="Sum [red]1[/] \x1b[31m\x07 and 2 é\u202e",
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
    assert "[bold]demo" in result.output and "Sum [red]1[/] ␛[31m␇ and 2 é\ufffd" in result.output
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


def shown(path, tmp_path, *arguments):
    result = show(path, *arguments, "--json", tmp_path / "o.json")
    assert result.exit_code == 0, result.output
    return [r["id"] for r in json.loads((tmp_path / "o.json").read_text())["records"]]


def test_chosen_records(tmp_path):
    rows = [replace(RECORDS[0], id=f"r{i}", query=f"Say {'even' if i % 2 == 0 else 'odd'}") for i in range(9)]
    rows[3] = replace(rows[3], style=Style(layout="xml"), source="Odd one")
    write_records(tmp_path / "r.jsonl", rows)
    path = tmp_path / "r.jsonl"
    assert shown(path, tmp_path) == ["r0", "r1", "r2"]
    assert shown(path, tmp_path, "--offset", 7, "--limit", 9) == ["r7", "r8"]
    assert shown(path, tmp_path, "--id", "r8", "--id", "r2") == ["r2", "r8"]
    assert shown(path, tmp_path, "--grep", "say ODD", "--offset", 1) == ["r3", "r5", "r7"]
    assert shown(path, tmp_path, "--grep", "<query>\nSay|odd one") == ["r3"]
    assert shown(path, tmp_path, "--id", "nobody") == []
    error = show(path, "--grep", "(").exception
    assert isinstance(error, InputError) and "regular expression" in error.what


def test_a_page_of_chosen_records(path, tmp_path):
    result = show(path, "--id", "row-3", "--html", tmp_path / "new" / "p.html", "--json", tmp_path / "o.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "o.json").read_text())["records"] == 1
    html = (tmp_path / "new" / "p.html").read_text()
    assert "row-3" in html and "row-2" not in html and "rows.jsonl.gz" in html
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["p.html"]
