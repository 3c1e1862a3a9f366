"""`xlam eval hammer`: counts by hand, through the command, on rows as Hammer writes them."""

import json

import pytest
from typer.testing import CliRunner

from tests.records.chat_server import ChatServer
from xlam_jax.cli.eval import app
from xlam_jax.errors import InputError
from xlam_jax.evaluation.hammer import _plain, hammer_cases, judge_hammer, summarise_hammer
from xlam_jax.evaluation.harness import Raw
from xlam_jax.format import Record, Step, Tool, ToolCall, get_codec, read_records


def parameter(kind, required=True):
    return {"type": kind, "description": "p", "required": required}


NET = {"name": "net", "description": "n", "parameters": {"a": parameter("number"), "b": parameter("number")}}
PLAIN = {"name": "version", "description": "v", "parameters": {}}
ROWS = [
    {
        "query": "0.29 and 40.7?",
        "tools": [NET],
        "answers": [{"name": "net", "arguments": {"a": 0.29, "b": "40.7"}}],
    },
    {"query": "Version?", "tools": [PLAIN, NET], "answers": [{"name": "version", "arguments": {}}]},
    {"query": "Both?", "tools": [PLAIN, NET], "answers": [{"name": "version", "arguments": {}}]},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sealtool.json"
    path.write_text(json.dumps(ROWS))
    return path


def run(*words):
    done = CliRunner().invoke(app, ["hammer", *map(str, words)], catch_exceptions=True)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def shares(tmp_path, *words):
    out = tmp_path / "result.json"
    run(*words, "--json", out)
    return json.loads(out.read_text())["summary"]["sets"]


@pytest.mark.parametrize(
    ("model", "name", "argument"),
    # Mutated damages the second row only, with another name; it has no arguments.
    [
        ("gold", (1, 1, 1), (1, 1, 1)),
        ("empty", (0, 0, 0), (0, 0, 0)),
        ("mutated", (2 / 3, 2 / 3, 2 / 3), (1, 1, 1)),
    ],
)
def test_scripted_models_come_to_what_is_counted_by_hand(file, tmp_path, model, name, argument):
    found = shares(tmp_path, file, "--model", f"scripted:{model}")["sealtool"]
    assert [found["name"][k] for k in ("precision", "recall", "f1")] == pytest.approx(name)
    assert [found["argument"][k] for k in ("precision", "recall", "f1")] == pytest.approx(argument)
    assert found["n"] == 3 and found["unparsable"] == 0
    assert found["name"]["low"] <= found["name"]["f1"] <= found["name"]["high"]


def test_an_answer_is_counted_part_by_part():
    """One name of two right, an argument of another value, one too many; and an answer that is none."""
    tool = Tool("f", "", {"type": "object", "properties": {"x": {"type": "integer"}, "y": {}}})
    tools = (tool, Tool("g", "", {"type": "object", "properties": {}}))
    gold = (ToolCall("f", {"x": 1, "y": "a"}), ToolCall("g", {}))
    codec = get_codec()
    case, other = hammer_cases([Record("r", "q?", tools, (Step(tool_calls=gold),))] * 2, "s", codec)
    assert (case.id, other.id) == ("r", "r#2")
    said = (ToolCall("f", {"x": 1, "y": "b", "z": 0}), ToolCall("f", {}))
    right = judge_hammer(case, Raw(codec.render_calls(said), "stop", new_tokens=1), codec)
    assert right.metrics == {
        "name_right": 1, "name_said": 2, "name_due": 2, "argument_right": 1, "argument_said": 3, "argument_due": 2,
    }  # fmt: skip
    none = judge_hammer(other, Raw("no json", "stop", new_tokens=1), codec)
    found = summarise_hammer([right, none])["sets"]["s"]
    assert found["unparsable"] == 0.5
    assert found["name"]["f1"] == pytest.approx(2 * 1 / (2 + 4)) and found["name"]["recall"] == 0.25
    assert found["argument"]["precision"] == pytest.approx(1 / 3) and found["argument"]["recall"] == 0.25


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (40.7, "40.7", True), (1, 1.0, True), (0, "-0", True), ("007", 7, False), (True, 1, False), ("a", "A", False),
        ([1, "2"], ["1.0", 2], True), ({"k": 1}, {"k": "1"}, True), (None, "null", False), ("1e999", "x", False),
        (12345678901234567890, "12345678901234567891", False), (" 5", 5, False),
    ],
)  # fmt: skip
def test_values(one, other, same):
    assert (_plain(one) == _plain(other)) is same


def test_kept_answers_are_gone_on_with_and_rows_are_drawn(file, tmp_path):
    first = run(file, "--model", "scripted:gold", "--limit", 2, "--out", tmp_path / "out")
    assert "100.0" in first
    kept = (tmp_path / "out" / "generations.jsonl").read_text()
    assert len(kept.splitlines()) == 2
    run(file, "--model", "scripted:gold", "--limit", 2, "--out", tmp_path / "out", "--resume")
    assert (tmp_path / "out" / "generations.jsonl").read_text() == kept
    with pytest.raises(InputError, match="limit"):
        run(file, "--model", "scripted:gold", "--limit", 1, "--out", tmp_path / "out", "--resume")


def test_rows_that_cannot_be_asked_are_left_out_with_their_reason(tmp_path):
    stray = {"query": "q?", "tools": [PLAIN], "answers": [{"name": "nosuch", "arguments": {}}]}
    path = tmp_path / "apibank_l1.json"
    path.write_text(json.dumps([*ROWS, stray, {"query": "", "tools": [], "answers": []}]))
    said = run(path, "--model", "scripted:gold")
    assert "1 rows left out, empty_query" in said and "1 rows left out, call_of_no_tool" in said
    path.write_text(json.dumps([stray]))
    with pytest.raises(InputError, match="no rows"):
        run(path, "--model", "scripted:gold")


def test_records_are_read_and_an_endpoint_is_asked(tmp_path):
    from xlam_jax.format import write_records

    tool = Tool("f", "", {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
    path = tmp_path / "mine.jsonl"
    write_records(path, [Record("r", "Which?", (tool,), (Step(tool_calls=(ToolCall("f", {"x": 4}),)),))])
    assert len(list(read_records(path))) == 1
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 4}'}}
    with ChatServer(lambda text: {"content": None, "tool_calls": [call]}) as server:
        found = shares(tmp_path, path, "--model", f"{server.url}#m")
    assert found["mine"]["name"]["f1"] == found["mine"]["argument"]["f1"] == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.json", "--model", "scripted:gold"), "not found"),
        (("{file}", "{file}", "--model", "scripted:gold"), "two files of one name"),
        (("{file}", "--model", "scripted:nosuch"), "unknown scripted model"),
        (("{file}", "--model", "scripted:gold", "--constrained"), "takes no adapter and no grammar"),
        (("{file}", "--model", "nowhere"), "model folder"),
        (("{file}", "--model", "scripted:gold", "--resume"), "--out"),
    ],
)
def test_bad_input_is_said(file, words, said):
    with pytest.raises(InputError) as caught:
        run(*(str(file) if word == "{file}" else word for word in words))
    assert said in str(caught.value)
