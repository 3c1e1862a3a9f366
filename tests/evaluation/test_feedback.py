"""`xlam data weight`: an evaluation's errors become epochs that `xlam data build` takes."""

import json
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from tests.tiny_run import make_tokenizer
from xlam_jax.cli.data import app
from xlam_jax.errors import InputError
from xlam_jax.evaluation.feedback import weights
from xlam_jax.evaluation.harness import CaseResult
from xlam_jax.format import Record, Step, Tool, ToolCall, write_records

TOOLS = tuple(
    Tool(name, "A tool.", {"type": "object", "properties": {"x": {"type": "integer"}}}) for name in "fg"
)
CALL = ToolCall("f", {"x": 1})


def record(i, tools, calls):
    return Record(f"r{i}", f"Question {i}?", TOOLS[:tools], (Step(tool_calls=(CALL,) * calls),))


def row(style, i, right):
    return CaseResult(
        str(i),
        style,
        0,
        "right" if right else "wrong",
        "" if right else "value",
        "",
        False,
        [],
        "",
        "",
        1,
        1,
        0,
    )


def run(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def kept(tmp_path):
    """Of ten simple questions one is wrong, of ten parallel ones nine; and rows of an agent, which are no kind."""
    rows = [row("live_simple", i, i > 0) for i in range(10)] + [row("parallel", i, i < 1) for i in range(10)]
    folder = tmp_path / "eval"
    folder.mkdir()
    lines = [json.dumps(asdict(r)) for r in (*rows, row("movie", 1, False))]
    (folder / "generations.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    kinds = [(1, 1)] * 6 + [(1, 2)] * 6 + [(2, 1)] * 3
    write_records(path, [record(i, *kind) for i, kind in enumerate(kinds)])
    return path


def test_weak_kinds_are_used_more_often_and_the_build_takes_it(rows, kept, tmp_path):
    said = run("weight", rows, tmp_path / "out", "--from-eval", kept, "--json", tmp_path / "w.json")
    found = json.loads((tmp_path / "w.json").read_text())
    # Smoothed rates 2/12 and 10/12, mean 6/12: a third, held at a half, and five thirds.
    assert found["epochs"] == {"simple": 0.5, "multiple": 1.0, "parallel": 1.67}
    assert found["left_out"] == {"movie": 1} and "movie (1)" in said and "not evaluated" in said
    inputs = (tmp_path / "out/inputs.json").read_text()
    config = tmp_path / "data.yaml"
    config.write_text("inputs: [none.jsonl]\ntokenizer: t\nout: o\nseq_len: 512\n")
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    words = ("build", config, f"inputs={inputs}", f"tokenizer={tokenizer}", f"out={tmp_path / 'shards'}")
    run(*words, "--json", tmp_path / "b.json")
    shares = {
        part["path"].rsplit("/")[-1]: part["rows_percent"]
        for part in json.loads((tmp_path / "b.json").read_text())["inputs"]
    }
    assert shares == {
        name: 100 * n / 16 for name, n in (("simple.jsonl", 3), ("multiple.jsonl", 3), ("parallel.jsonl", 10))
    }


def test_weights_by_hand():
    errors = {"simple": (98, 9), "parallel": (98, 29)}  # rates 0.1 and 0.3
    assert weights(errors, {"simple": 30, "parallel": 10}, 4) == {"simple": 0.67, "parallel": 2.0}
    assert weights(errors, {"simple": 30, "parallel": 10}, 1.5) == {"simple": 0.67, "parallel": 1.5}
    assert weights(errors, {"simple": 5}, 2) == {"simple": 1.0}


def test_what_has_no_kind_in_common_is_said(rows, kept, tmp_path):
    only = tmp_path / "only.jsonl"
    write_records(only, [record(0, 2, 1)])
    with pytest.raises(InputError, match="no kind of question"):
        run("weight", only, tmp_path / "out", "--from-eval", kept)
    assert not (tmp_path / "out").exists()
    run("weight", rows, tmp_path / "out", "--from-eval", kept)
    with pytest.raises(InputError):
        run("weight", rows, tmp_path / "out", "--from-eval", kept)
    with pytest.raises(InputError, match="not found"):
        run("weight", rows, tmp_path / "other", "--from-eval", tmp_path / "nowhere")
