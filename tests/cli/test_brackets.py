"""Names and sentences with brackets are printed as they are, by every command that prints one."""

import json

import pytest

from tests import tiny_run
from xlam_jax.cli.common import err, out, print_table, say, working

ODD = "set[a] [/INST] [bold]x[/bold] :smile:"


def test_what_the_consoles_print_is_no_markup(capsys):
    say(f"{ODD} {'long/' * 60}")
    out.print(ODD, highlight=False)
    out.rule(ODD)
    print_table(ODD, [{ODD: ODD}])
    with working(ODD) as now:
        now("[/x]")
    err.print(f"error: {ODD}", highlight=False)
    printed, complained = capsys.readouterr()
    assert printed.count("[/INST]") >= 5 and ":smile:" in printed and "[bold]" in printed
    assert "long/" * 60 in printed  # in one piece, to be copied
    assert "[/INST] [bold]x" in complained


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "set[a]" / "x [/b]"
    folder.mkdir(parents=True)
    chat = [
        {"role": "user", "content": f"Explain {ODD}"},
        {"role": "assistant", "content": "[/INST] ends a turn"},
    ]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": chat, "tools": []}) + "\n")
    return folder


def test_data_commands_work_in_such_folders(folder, xlam):
    rows, made = folder / "rows.jsonl", folder / "out.jsonl"
    for typed in (
        ("convert", "openai", rows, made),
        ("verify", made, folder / "v.jsonl"),
        ("augment", made, folder / "a.jsonl", "--rate", "all=1"),
        ("show", made),
        ("stats", made),
        ("show", made, "--html", folder / "page.html"),
    ):
        got = xlam("data", *typed)
        assert got.code == 0 and "Traceback" not in got.err, (typed, got.err)
        if typed[0] in ("convert", "verify", "augment"):
            assert f"{typed[-1] if typed[0] != 'augment' else typed[2]} (ledger: " in got.out
        if typed[0] == "show" and len(typed) == 2:
            assert "[/INST] ends a turn" in got.out
    tokenizer = str(tiny_run.make_tokenizer(folder / "tok"))
    (folder / "data.yaml").write_text(
        json.dumps({"inputs": [str(made)], "tokenizer": tokenizer, "out": str(folder / "shards")})
    )
    got = xlam("data", "build", folder / "data.yaml")
    assert got.code == 0 and f"{folder / 'shards'} (ledger: " in got.out, got.err
    for typed in (
        ("data", "show"),
        ("data", "stats"),
        ("eval", "records"),
        ("plan",),
        ("train",),
        ("launch", "local"),
    ):
        missing = folder / "missing [/x].yaml"
        more = ("--model", folder) if typed[0] == "eval" else ()
        got = xlam(*typed, missing, *more)
        assert got.code == 2 and "[/x].yaml" in got.err, (typed, got.code, got.err)


def test_addresses_of_the_list_can_be_copied(xlam):
    got = xlam("data", "convert", "--list")
    assert "https://huggingface.co/datasets/glaiveai/glaive-function-calling-v2" in got.out
