"""What `xlam data build` says of rows: words that it leaves out, instructions that ask for other answers."""

import json
from collections import Counter

import pytest
import yaml
from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.errors import InputError
from xlam_jax.format import (
    CALL_FORMATS,
    Pair,
    Record,
    Step,
    ToolCall,
    get_codec,
    normalise_tool,
    write_pairs,
    write_records,
)
from xlam_jax.format.presets import PRESETS

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = normalise_tool({"name": "w", "description": "Weather", "parameters": CITY})
CALL = ToolCall("w", {"city": "Oslo"})


def record(id, *steps, **more):
    return Record(id, "Weather in Oslo?", (TOOL,), steps, **more)


def run(folder, tokenizer, **settings):
    """The result of the command, the manifest and the ledger of a build of `folder`'s rows."""
    made = {"inputs": [str(folder / "in.jsonl")], "tokenizer": str(tokenizer), "out": str(folder / "out")}
    (folder / "build.yaml").write_text(yaml.safe_dump({**made, "seq_len": 1024, **settings}))
    words = ["data", "build", str(folder / "build.yaml"), "--json", str(folder / "result.json")]
    result = CliRunner().invoke(app, words)
    ledger = [json.loads(line) for line in (folder / "out.ledger.jsonl").read_text().splitlines()]
    done = json.loads((folder / "result.json").read_text()) if result.exit_code == 0 else {}
    return result, done, ledger


ROWS = [
    record("both", Step("One look-up.", (CALL,), "3 C"), Step("It is 3 C.")),
    record("twice", Step("First.", (CALL,), "3 C"), Step("<think>Done?</think>It is 3 C.")),
    record("words", Step("Which city?")),
    record("call", Step(" \n", (CALL,))),
    record("empty", Step("<think>\n</think>\n", (CALL,), "3 C"), Step("<think></think>\n\nIt is 3 C.")),
    Record("chat", "Hello", (), (Step("<think>A greeting.</think>Hello!"),)),
]


@pytest.mark.parametrize("thought", [False, True])
def test_words_that_are_left_out_are_counted_and_named(tokenizer_folder, tmp_path, thought):
    write_records(tmp_path / "in.jsonl", ROWS)
    result, manifest, ledger = run(tmp_path, tokenizer_folder, codec={"thought": thought})
    assert result.exit_code == 0, result.output
    (yields,) = manifest["yields"]
    assert (yields["in"], yields["out"], yields["dropped"]) == (len(ROWS), len(ROWS), 0)
    said = {e["id"]: (e["reason"], e["detail"]) for e in ledger if e["verdict"] == "repaired"}
    if thought:
        assert said == {} and yields["repaired"] == 0 and "thought_left_out" not in result.output
        return
    what = "{} of 2 steps have a thought that the codec (thought=false) leaves out"
    assert said == {
        "both": ("thought_left_out", what.format(1)),
        "twice": ("thought_left_out", what.format(2)),
    }
    assert yields["repaired"] == 2 and manifest["repaired"] == {"thought_left_out": 2}
    assert "thought_left_out" in result.output


def test_words_of_pairs_that_are_left_out(tokenizer_folder, tmp_path):
    chosen = record("p", Step("One look-up.", (CALL,)))
    other = Step("", (ToolCall("w", {"city": "Rome"}),))
    plain = record("q", Step("", (CALL,)))
    write_pairs(tmp_path / "in.jsonl", [Pair(chosen, other), Pair(plain, other)])
    result, _, ledger = run(tmp_path, tokenizer_folder, kind="preference")
    assert result.exit_code == 0, result.output
    assert [(e["id"], e["reason"]) for e in ledger] == [("p", "thought_left_out"), ("q", "")]


def test_a_row_with_two_repairs_names_both(tokenizer_folder, tmp_path):
    """One entry a row, so that yields add up: the rest stands in its detail."""
    names = ("weather", "news", "stocks", "trains", "hotels", "maps")
    tools = tuple(normalise_tool({"name": n, "description": n, "parameters": CITY}) for n in names)
    write_records(
        tmp_path / "in.jsonl",
        [Record(n, f"ask {n}", tools, (Step("Look.", (ToolCall(n, {"city": "Oslo"}),)),)) for n in names],
    )
    result, _, ledger = run(tmp_path, tokenizer_folder, validation={"functions": 0.3}, seed=0)
    assert result.exit_code == 0, result.output
    assert Counter(e["id"] for e in ledger) == Counter(names)
    both = [e["detail"] for e in ledger if e["reason"] == "held_out_tool"]
    assert both and all("kept for validation" in d and "thought=false" in d for d in both)


OTHER_SPACES = {
    "lines": lambda text: text.replace(". ", ".\n\n"),
    "ends": lambda text: f"\n{text}  \n",
    "blanks": lambda text: text.replace(" ", "  "),
    "json": lambda text: text.replace("{", "{ ").replace(": ", " : "),
}


@pytest.mark.parametrize("spaces", OTHER_SPACES)
def test_our_wordings_with_other_whitespace_are_checked(tokenizer_folder, tmp_path, spaces):
    change = OTHER_SPACES[spaces]
    asked = {
        "preset": PRESETS["xlam-1-fc-r"].format_instruction,
        "yaml": CALL_FORMATS["yaml"].instructions(True)[1],
        "own": "Answer as you like.  \n",
    }
    rows = [record(k, Step("One.", (CALL,)), format_instruction=change(t)) for k, t in asked.items()]
    write_records(tmp_path / "in.jsonl", rows)
    result, _, ledger = run(tmp_path, tokenizer_folder, codec={"thought": True})
    assert isinstance(result.exception, InputError) and result.exception.exit_code == 2
    assert "of 2 rows asks for other answers than theirs: preset, yaml" in str(result.exception)
    said = {e["id"]: e["detail"] for e in ledger if e["reason"] == "contradictory_instruction"}
    assert said["preset"] == "asks for xlam-json without a thought, is written as xlam-json with a thought"


@pytest.mark.parametrize("spaces", OTHER_SPACES)
def test_a_wording_that_differs_by_the_thought_is_replaced_whatever_its_whitespace(spaces):
    for form in CALL_FORMATS.values():
        for text, other in zip(form.instructions(False), form.instructions(True), strict=True):
            row = record("r", Step("One.", (CALL,)), format_instruction=OTHER_SPACES[spaces](text))
            assert get_codec(form.name, thought=True).instruction_of(row) == other
            assert get_codec(form.name).instruction_of(row) == row.format_instruction
