"""BFCL's result and score files both ways: its own runner on ours, and our reading of its kinds of answers."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from tests.official_bfcl import counts_in, official_counts, official_data, official_verdict
from xlam_jax.cli import eval as eval_module
from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl import CATEGORIES
from xlam_jax.evaluation.bfcl.official import MODEL
from xlam_jax.format import ToolCall


def run(*args):
    return CliRunner().invoke(eval_module.app, [*map(str, args)])


def done(tmp_path, *args):
    """The result of a command that works."""
    result = run(*args, "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    return json.loads((tmp_path / "r.json").read_text())


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """A run of a part of every single-turn category, in which every fifth answer is words."""
    official_data()
    root = tmp_path_factory.mktemp("asked")
    out = root / "out"
    done(root, "bfcl", "--model", "scripted:mutated", "--limit", 12, "--out", out)
    file = out / "generations.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[::5]:
        row["text"] = "I am sorry, no function fits."
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


@pytest.fixture
def asked(run_once, tmp_path):
    return shutil.copytree(run_once, tmp_path / "out")


def test_the_official_runner_gives_our_files_our_scores(asked, tmp_path):
    done(tmp_path, "rescore", asked)
    categories = [c.v4_name for c in CATEGORIES.values() if c.group != "multi_turn"]
    theirs = official_counts(asked / "result", tmp_path / "theirs", MODEL, categories, tmp_path)
    assert len(theirs) == 13 and theirs == counts_in(asked / "score")
    assert all(0 < right < n for right, n in theirs.values())
    read = done(tmp_path, "scores", tmp_path / "theirs")
    assert read["bfcl"] == json.loads((asked / "summary.json").read_text())["bfcl"]


def test_our_files_read_back_give_the_same_verdicts(asked, tmp_path):
    first = done(tmp_path, "rescore", asked)["summary"]
    again = done(tmp_path, "rescore", asked / "result")["summary"]
    assert again["bfcl"] == first["bfcl"] and again["strict"] == first["strict"]
    assert {c: f["n"] for c, f in again["categories"].items()} == {
        c: f["n"] for c, f in first["categories"].items()
    }
    words = sum(first["decoder_errors"].values())
    assert words == len((asked / "generations.jsonl").read_text().splitlines()[::5])
    lines = [
        json.loads(line)
        for path in (asked / "result").rglob("*.json")
        for line in path.read_text().splitlines()
    ]
    assert sum(line["result"] == "I am sorry, no function fits." for line in lines) == words
    assert {"id", "result", "input_token_count", "output_token_count", "latency"} <= set(lines[0])


def test_answers_of_other_handlers_are_read_as_they_write_them(tmp_path):
    """A function-calling endpoint's lists and Python calls in text, whose verdicts the official checker gives."""
    folder, verdict = official_data(), official_verdict(tmp_path)
    names = {"multiple": "multiple", "parallel_multiple": "parallel_multiple"}
    done(
        tmp_path,
        "bfcl",
        "--model",
        "scripted:mutated",
        "--category",
        ",".join(names),
        "--out",
        tmp_path / "out",
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    expected = {}
    for name in names:
        file = f"BFCL_v4_{name}.json"
        questions, answers = (
            {r["id"]: r for r in map(json.loads, (folder / part / file).read_text("utf-8").splitlines())}
            for part in (".", "possible_answer")
        )
        own = [row for row in rows if row["style"] == name]
        right = 0
        for row in own:
            calls = [ToolCall(c["name"], c["arguments"]) for c in row["calls"]]
            truth = answers[row["id"]]["ground_truth"]
            right += verdict(questions[row["id"]], calls, truth, name, "python")[0]
        expected[name] = right
        for kind, write in (("endpoint", endpoint), ("python", python)):
            path = tmp_path / kind / "m" / "non_live" / f"BFCL_v4_{name}_result.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [{"id": row["id"], "result": write(row["calls"])} for row in own]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for kind in ("endpoint", "python"):
        found = done(tmp_path, "rescore", tmp_path / kind)["summary"]["categories"]
        assert {name: found[name]["bfcl"]["right"] for name in names} == expected
    assert sorted(expected.values()) == [100, 100]


def endpoint(calls):
    return [{call["name"]: json.dumps(call["arguments"])} for call in calls]


def python(calls):
    texts = [f"{c['name']}({', '.join(f'{k}={v!r}' for k, v in c['arguments'].items())})" for c in calls]
    return "```\n[" + ", ".join(texts) + "]\n```"


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_source_text_answers_are_left_out_aloud(tmp_path):
    official_data()
    folder = tmp_path / "m" / "non_live"
    write(
        folder / "BFCL_v4_simple_java_result.json", {"id": "simple_java_0", "result": "[f(a=new int[]{1})]"}
    )
    result = run("rescore", tmp_path)
    assert isinstance(result.exception, InputError) and "java is left out" in result.output
    write(folder / "BFCL_v4_irrelevance_result.json", {"id": "irrelevance_3", "result": "No."})
    found = done(tmp_path, "rescore", tmp_path)["summary"]
    assert (
        set(found["categories"]) == {"irrelevance"}
        and found["categories"]["irrelevance"]["bfcl"]["right"] == 1
    )


def test_scores_alone_give_columns_and_an_overall_only_where_it_is_whole(tmp_path):
    head = {"accuracy": 0.5, "correct_count": 10, "total_count": 20}
    agentic = ("web_search_base", "web_search_no_snippet", "memory_kv", "memory_vector", "memory_rec_sum")
    for category in CATEGORIES.values():
        write(tmp_path / "m" / category.group / f"BFCL_v4_{category.v4_name}_score.json", head)
    for name in agentic[:-1]:
        write(tmp_path / "m" / "agentic" / f"BFCL_v4_{name}_score.json", head)
    partial = done(tmp_path, "scores", tmp_path)
    assert partial["bfcl"]["total"]["name"] == "v4 partial, 4 of 5 columns"
    write(tmp_path / "m" / "agentic" / f"BFCL_v4_{agentic[-1]}_score.json", head)
    whole = done(tmp_path, "scores", tmp_path)
    assert whole["bfcl"]["total"]["name"] == "v4 overall" and whole["bfcl"]["total"][
        "value"
    ] == pytest.approx(0.5)
    assert whole["bfcl"]["total"]["n"] == 20 * (17 + 5) - 20  # relevance counts in no column


def test_bad_files(tmp_path):
    official_data()
    line = {"id": "irrelevance_0", "result": "[]"}
    path = tmp_path / "a" / "m" / "non_live" / "BFCL_v4_irrelevance_result.json"
    write(path, line, line)
    write(tmp_path / "b" / "m" / "non_live" / path.name, {"id": "irrelevance_9999", "result": "[]"})
    write(tmp_path / "c" / "m" / "non_live" / path.name, line)
    write(tmp_path / "c" / "n" / "non_live" / path.name, line)
    write(tmp_path / "d" / "BFCL_v4_irrelevance_score.json", {"correct_count": 3, "total_count": 2})
    (tmp_path / "e").mkdir()
    for command, folder, what in [
        ("rescore", "a", "'irrelevance_0' stands there twice"),
        ("rescore", "b", "'irrelevance_9999', which is no row of irrelevance"),
        ("rescore", "c", "result files of 2 models"),
        ("rescore", "e", "no BFCL result files"),
        ("rescore", "none", "results folder not found"),
        ("scores", "d", "no possible counts: 3 of 2"),
        ("scores", "e", "no BFCL score files"),
    ]:
        result = run(command, tmp_path / folder)
        assert isinstance(result.exception, InputError), result.output
        assert what in result.exception.what and result.exception.exit_code == 2


def test_kept_answers_to_other_data_are_not_judged(tmp_path):
    official_data()
    out = tmp_path / "out"
    done(tmp_path, "bfcl", "--model", "scripted:gold", "--category", "live_parallel", "--out", out)
    about = json.loads((out / "run.json").read_text())
    about["files"]["BFCL_v4_live_parallel.json"] = "0" * 64
    (out / "run.json").write_text(json.dumps(about))
    result = run("rescore", out)
    assert (
        isinstance(result.exception, InputError)
        and "another BFCL_v4_live_parallel.json" in result.exception.what
    )
