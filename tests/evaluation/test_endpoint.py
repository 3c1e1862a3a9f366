"""`xlam eval bfcl --model URL`: a real endpoint on this machine, with faults, and multi-turn rows played over it."""

import json

import pytest
from typer.testing import CliRunner

from tests.apigen.walled import require_walls
from tests.official_bfcl import official_data
from tests.records.chat_server import ChatServer
from xlam_jax.cli import eval as eval_module
from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl import category, find_data
from xlam_jax.evaluation.bfcl.multi_turn import gold_turns, plays
from xlam_jax.llm import LLMError

FUNCTION = {
    "name": "geo.area",
    "description": "Area of a square.",
    "parameters": {
        "type": "dict",
        "properties": {"side": {"type": "integer", "description": "Length."}},
        "required": ["side"],
    },
}


@pytest.fixture
def own(tmp_path):
    """Six rows of `simple` and two of `irrelevance`."""
    folder = tmp_path / "bfcl"
    (folder / "possible_answer").mkdir(parents=True)
    for name, count in (("simple", 6), ("irrelevance", 2)):
        rows = [
            {
                "id": f"{name}_{i}",
                "question": [[{"role": "user", "content": f"{name} {i}"}]],
                "function": [FUNCTION],
            }
            for i in range(count)
        ]
        (folder / f"BFCL_v4_{name.replace('simple', 'simple_python')}.json").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    answers = [{"id": f"simple_{i}", "ground_truth": [{"geo.area": {"side": [i]}}]} for i in range(6)]
    path = folder / "possible_answer" / "BFCL_v4_simple_python.json"
    path.write_text("".join(json.dumps(a) + "\n" for a in answers))
    return folder


def message(*calls, content=None):
    made = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for i, (name, arguments) in enumerate(calls)
    ]
    return {"content": content, "tool_calls": made or None}


def answer(text):
    """Right but for `simple 3`; words alone for irrelevance."""
    name, number = text.split()
    if name == "irrelevance":
        return message(content="No function fits.")
    return message(("geo_area", {"side": 9 if number == "3" else int(number)}))


def run(*args):
    return CliRunner().invoke(eval_module.app, ["bfcl", *map(str, args)])


def test_an_endpoint_is_scored_and_its_messages_are_kept(own, tmp_path):
    with ChatServer(answer) as server:
        args = (own, "--model", f"{server.url}#served", "--concurrency", 3, "--out", tmp_path / "out")
        result = run(*args, "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert {c: f["bfcl"]["right"] for c, f in summary["categories"].items()} == {
        "simple": 5,
        "irrelevance": 2,
    }
    assert {c: f["strict"]["right"] for c, f in summary["categories"].items()} == {
        "simple": 5,
        "irrelevance": 2,
    }
    assert len(server.requests) == 8 and {r["model"] for r in server.requests} == {"served"}
    # An endpoint takes no dot in a name; the kept message has the function's own.
    assert {r["tools"][0]["function"]["name"] for r in server.requests} == {"geo_area"}
    rows = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    assert json.loads(rows[0]["text"])["tool_calls"][0]["function"]["name"] == "geo.area"
    assert json.loads(rows[6]["text"])["content"] == "No function fits."


def test_what_was_answered_before_a_fault_is_not_asked_again(own, tmp_path):
    args = (own, "--category", "simple", "--concurrency", 1, "--out", tmp_path / "out")
    with ChatServer(answer) as server:
        faults = [0, 0, *[401] * 9]
        server._faults = faults
        first = run(*args, "--model", f"{server.url}#m")
        assert isinstance(first.exception, LLMError) and first.exception.exit_code == 1, first.output
        server._faults = []
        asked = len(server.requests)
        again = run(*args, "--model", f"{server.url}#m", "--resume", "--json", tmp_path / "r.json")
    assert again.exception is None, again.output
    assert len(server.requests) - asked == 4  # of six, two were answered
    assert (
        json.loads((tmp_path / "r.json").read_text())["summary"]["categories"]["simple"]["bfcl"]["right"] == 5
    )


def test_a_request_that_is_refused_costs_its_row(own, tmp_path):
    with ChatServer(answer, faults=[400]) as server:
        args = (own, "--category", "simple", "--model", f"{server.url}#m", "--concurrency", 1)
        result = run(*args, "--json", tmp_path / "r.json", "--out", tmp_path / "out")
    assert result.exception is None, result.output
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert summary["not_run"] == {"endpoint": 1} and summary["categories"]["simple"]["bfcl"]["right"] == 4
    assert "1 rows that were not run are not in result/" in result.output
    (file,) = (tmp_path / "out" / "result").rglob("*_result.json")
    assert len(file.read_text().splitlines()) == 5


def test_an_endpoint_that_is_not_there(own):
    result = run(own, "--model", "http://127.0.0.1:9/v1")
    assert isinstance(result.exception, LLMError) and "names no model" in result.exception.what
    result = run(own, "--model", "http://127.0.0.1:9/v1#m", "--constrained")
    assert isinstance(result.exception, InputError) and "no grammar" in result.exception.what


def test_multi_turn_rows_are_played_over_messages(tmp_path):
    official_data()
    require_walls()
    play = plays(find_data(None), category("multi_turn_base"))[0]
    steps = [
        step
        for turn in gold_turns(play)
        for step in (
            *(message((c.name, c.arguments)) for calls in turn for c in calls),
            message(content="Done."),
        )
    ]
    with ChatServer(lambda text: steps.pop(0)) as server:
        args = ("--category", "multi_turn_base", "--model", f"{server.url}#m", "--json", tmp_path / "r.json")
        folder = tmp_path / "bfcl"
        copy_first(find_data(None).folder, folder)
        result = run(folder, *args)
    assert result.exception is None, result.output
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert summary["categories"]["multi_turn_base"]["strict"]["right"] == 1, summary
    last = server.requests[-1]["messages"]
    assert [m["content"] for m in last if m["role"] == "user"] == list(play.said)
    results = [m for m in last if m["role"] == "tool"]
    called = [c for m in last for c in m.get("tool_calls") or ()]
    assert [r["tool_call_id"] for r in results] == [c["id"] for c in called] and len(called) >= 8
    assert all(isinstance(c["function"]["arguments"], str) for c in called)
    assert sum(m["content"] == "Done." for m in last) == len(play.said) - 1


def copy_first(source, folder):
    """The first row of multi_turn_base with its documents."""
    import shutil

    (folder / "possible_answer").mkdir(parents=True)
    shutil.copytree(source / "multi_turn_func_doc", folder / "multi_turn_func_doc")
    for name in ("BFCL_v4_multi_turn_base.json", "possible_answer/BFCL_v4_multi_turn_base.json"):
        (folder / name).write_text((source / name).read_text("utf-8").splitlines()[0] + "\n")
