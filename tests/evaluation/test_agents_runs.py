"""Agents as they are run: endpoints, kills and resumes, model folders, kept answers, bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.evaluation.agent_runs import run, scored
from tests.records.chat_server import ChatServer
from tests.tiny_run import make_model, make_tokenizer
from xlam_jax.errors import InputError
from xlam_jax.evaluation.agents.benchmarks import toolquery_twin
from xlam_jax.evaluation.agents.run import Agents
from xlam_jax.evaluation.agents.toolquery import NAMES, twin_tasks
from xlam_jax.evaluation.agents.world import ERROR
from xlam_jax.evaluation.harness import Raw
from xlam_jax.format import get_codec

TASKS = [task for name in NAMES for task in twin_tasks(name)]


def message(*calls):
    made = [
        {
            "id": f"c{i}",
            "type": "function",
            "function": {"name": c.name, "arguments": json.dumps(c.arguments)},
        }
        for i, c in enumerate(calls)
    ]
    return {"content": None, "tool_calls": made}


def gold_server(delay=0.0, faults=()):
    """An endpoint that does the gold actions; for tasks of movies it answers in words."""
    gold = {task.goal: task for task in TASKS if task.world != "weather"}

    def answer(text):
        messages = server.requests[-1]["messages"]
        task = next(gold[m["content"]] for m in messages if m["role"] == "user" and m["content"] in gold)
        if task.world == "movie":
            return {"content": "I do not know."}
        return message(task.gold[sum(m["role"] == "assistant" for m in messages)])

    server = ChatServer(answer, faults=faults, delay=delay)
    return server


def test_an_endpoint_plays_step_by_step(tmp_path):
    args = ("--world", "academia,movie", "--limit", 2, "--concurrency", 1, "--max-steps", 6)
    with gold_server() as server:
        result, rows = scored(tmp_path, "toolquery", *args, "--model", f"{server.url}#served")
        asked = len(server.requests)
        first = server.requests[0]
    worlds = result["summary"]["worlds"]
    assert worlds["academia"]["success"]["right"] == 2 and worlds["academia"]["grounding"]["value"] == 1.0
    assert worlds["movie"]["success"]["right"] == 0 and worlds["movie"]["steps"] == 6
    gold = [task for task in TASKS if task.id in {r["id"] for r in rows if r["style"] == "academia"}]
    assert asked == sum(len(t.gold) for t in gold) + 2 * 6
    assert first["tools"][0]["function"]["name"] == "loadPaperNet"
    assert first["messages"][0]["role"] == "system" and "End with finish" in first["messages"][0]["content"]


def test_a_killed_run_goes_on_to_the_same_table(tmp_path):
    args = ("--world", "academia", "--limit", 8, "--concurrency", 1)
    with gold_server() as server:
        whole, _ = scored(tmp_path / "whole", "toolquery", *args, "--model", f"{server.url}#m")
    with gold_server(delay=0.1) as server:
        out = tmp_path / "killed" / "out"
        command = [
            sys.executable,
            "-m",
            "xlam_jax.cli.main",
            "eval",
            "toolquery",
            "--model",
            f"{server.url}#m",
        ]
        child = subprocess.Popen([*command, *map(str, args), "--out", str(out)], stderr=subprocess.DEVNULL)
        kept, end = out / "generations.jsonl", time.monotonic() + 120
        while not (kept.is_file() and kept.read_text().count("\n")) and time.monotonic() < end:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        before = kept.read_text().count("\n")
        assert 0 < before < 8
        refused = run("toolquery", *args, "--model", f"{server.url}#m", "--out", out)
        assert isinstance(refused.exception, InputError) and "--resume" in str(refused.exception)
        other = run(
            "toolquery", *args, "--model", f"{server.url}#m", "--out", out, "--resume", "--max-steps", 3
        )
        assert isinstance(other.exception, InputError) and "max_steps" in str(other.exception)
        again, rows = scored(
            tmp_path / "killed", "toolquery", *args, "--model", f"{server.url}#m", "--resume"
        )
    assert again["summary"] == whole["summary"] and len(rows) == 8


def test_kept_answers_are_judged_again(tmp_path):
    args = ("--world", "movie", "--limit", 5, "--model", "scripted:mutated", "--prompt", "react")
    result, _ = scored(tmp_path, "toolquery", *args)
    (tmp_path / "out" / "summary.json").unlink()
    rescore = ["rescore", str(tmp_path / "out"), "--json", str(tmp_path / "again.json")]
    again = run(*rescore)
    assert again.exception is None and "twin of ToolQuery, scripted:mutated; 5 tasks" in again.output
    assert json.loads((tmp_path / "again.json").read_text())["summary"] == result["summary"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == result["summary"]
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    (tmp_path / "out" / "run.json").write_text(json.dumps({**about, "tasks": "0123"}))
    other = run(*rescore).exception
    assert isinstance(other, InputError) and "the answers are to tasks 0123" in str(other)


def test_an_answer_that_cannot_be_read_is_told_apart_from_one_without_calls():
    task = twin_tasks("movie")[0]
    agents = Agents(toolquery_twin(["movie"], "unified"), [task], get_codec(), 5)
    for text, words in (
        ('{"tool_calls": [{"name": "finish", "argu', "the answer could not be read: "),
        ('{"tool_calls": []}', "no action was taken"),
    ):
        row = agents.judge(agents.cases[0], Raw(json.dumps([text]), "length", new_tokens=9))
        assert row.detail.startswith(ERROR + words) and row.metrics["steps"] == 1.0
        assert (row.error, row.metrics["grounding"], row.finish_reason) == ("not_finished", 0.0, "length")
    assert (
        agents.judge(agents.cases[0], Raw(refused="HTTP 400", finish_reason="endpoint")).outcome == "not_run"
    )


@pytest.mark.slow  # compiles a model for long prompts
def test_a_model_folder_plays_under_the_grammar_and_free(tmp_path):
    """A random model gets nowhere, but its answers are kept, its prompts grow, and one too long is told apart."""
    model = make_model(tmp_path / "model", make_tokenizer(tmp_path / "tokenizer"))
    args = ("--world", "academia", "--limit", 1, "--max-steps", 2, "--max-new-tokens", 8, "--model", model)
    result, (row,) = scored(tmp_path / "free", "toolquery", *args, "--max-len", 8192)
    assert len(json.loads(row["text"])) == 2 and row["metrics"]["steps"] == 2.0
    assert result["summary"]["errors"] == {"not_finished": 1} and row["prompt_tokens"] > 2000
    react, _ = scored(tmp_path / "react", "toolquery", *args, "--max-len", 8192, "--prompt", "react")
    assert react["codec"] == {**result["codec"], "call_format": "react", "thought": True}
    assert (react["dataset"], result["dataset"]) == ("twin of ToolQuery", "twin of ToolQuery-Unified")
    assert row["detail"].startswith(ERROR + "the answer could not be read: ")
    result, (row,) = scored(tmp_path / "short", "toolquery", *args, "--max-len", 64)
    assert result["summary"]["not_run"] == {"prompt_too_long": 1} and row["metrics"] == {}
    held = (*args, "--max-len", 8192, "--constrained", "--max-new-tokens", 60)
    result, (row,) = scored(tmp_path / "held", "toolquery", *held)
    assert all(text.startswith('{"tool_calls": [') for text in json.loads(row["text"]))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--model", "scripted:golden"), "try: gold"),
        (("--model", "scripted:gold", "--world", "wether"), "try: weather"),
        (("--model", "scripted:gold", "--prompt", "raw"), "unknown prompt 'raw'"),
        (("--model", "scripted:gold", "--resume"), "--resume --out DIR"),
        (("--model", "scripted:gold", "--constrained"), "takes no adapter and no grammar"),
        (("--model", "http://localhost:1/v1#m", "--prompt", "react"), "leave --prompt out"),
        (("--model", "no/such/folder"), "model folder not found"),
    ],
)
def test_bad_input_is_one_clear_error(args, words):
    error = run("toolquery", *args).exception
    assert isinstance(error, InputError) and error.exit_code == 2
    assert words in re.sub(r"\s+", " ", str(error))


def test_worlds_start_without_jax():
    code = (
        "import sys; from typer.testing import CliRunner; from xlam_jax.cli import eval as e; "
        "r = CliRunner().invoke(e.app, ['toolquery', '--model', 'scripted:gold', '--limit', '1']); "
        "assert r.exception is None, r.output; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
