"""When2Call: scores by hand, and the command on a tiny model."""

import json

import pytest

from tests import tiny_run
from xlam_jax.evaluation.harness import Raw
from xlam_jax.evaluation.when2call import (
    KINDS,
    choices,
    judge_choice,
    read_questions,
    summarise_when2call,
    when2call_cases,
)
from xlam_jax.format import get_codec

TOOL = json.dumps({"name": "get_id", "description": "An id.", "parameters": {"type": "dict", "properties": {
    "city": {"type": "string", "description": "c"}}, "required": ["city"]}})  # fmt: skip
ANSWERS = {
    "direct": "It is 7.",
    "tool_call": '{"name": "get_id", "arguments": {"city": "Oslo"}}',
    "request_for_info": "Which city?",
    "cannot_answer": "I cannot look that up.",
}


def row(i, right, tools=(TOOL,)):
    return {
        "uuid": f"q{i}",
        "question": f"Id number {i}?",
        "correct_answer": right,
        "answers": ANSWERS,
        "tools": list(tools),
    }


ROWS = [row(0, "tool_call"), row(1, "request_for_info"), row(2, "cannot_answer"), row(3, "cannot_answer", ())]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mcq.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*ROWS, {"uuid": "x", "question": "?"}]))
    return path


def test_answers_are_written_as_the_model_writes_them(file):
    questions, refused = read_questions(file)
    assert refused == {"no_choice": 1} and [q.tools for q in questions] == [1, 1, 1, 0]
    codec = get_codec("hermes", template="chatml")
    for question in questions:
        prompt, texts = choices(question, codec)
        assert prompt == codec.prompt(question.answers["direct"]) and "Id number" in prompt
        by_kind = dict(zip(KINDS, texts, strict=True))
        assert '<tool_call>\n{"name": "get_id"' in by_kind["tool_call"]
        assert by_kind["direct"].startswith("It is 7.") and all(
            t.rstrip().endswith(codec.stop) for t in texts
        )


def test_scores_by_hand(file):
    questions, _ = read_questions(file)
    cases = when2call_cases(questions, get_codec())
    # [sum, characters] a kind. Row 0 is right by both; 1 calls by both; 2 only by length; 3 has no tool and calls.
    likes = [
        {"direct": [-9, 10], "tool_call": [-1, 10], "request_for_info": [-9, 10], "cannot_answer": [-9, 10]},
        {"direct": [-9, 10], "tool_call": [-2, 10], "request_for_info": [-3, 10], "cannot_answer": [-9, 10]},
        {"direct": [-4, 2], "tool_call": [-5, 10], "request_for_info": [-9, 10], "cannot_answer": [-6, 30]},
        {"direct": [-4, 2], "tool_call": [-3, 30], "request_for_info": [-9, 10], "cannot_answer": [-6, 30]},
    ]
    rows = [
        judge_choice(case, Raw(json.dumps(like)), q.tools)
        for case, like, q in zip(cases, likes, questions, strict=True)
    ]
    summary = summarise_when2call(rows)
    assert [r.error for r in rows] == ["", "chose_tool_call", "", "chose_tool_call"]
    assert summary["normed"]["accuracy"]["value"] == 2 / 4
    # tool_call: 1 right of 3 said, 1 due: 2/4; cannot_answer: 1 of 1 said, 2 due: 2/3; ask: 0. No direct: three kinds.
    assert summary["normed"]["macro_f1"]["value"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    # By sum row 2 is a direct answer: a fourth class with F1 0.
    assert summary["plain"]["accuracy"]["value"] == 1 / 4
    assert summary["plain"]["macro_f1"]["value"] == pytest.approx((0.5 + 0 + 0 + 0) / 4)
    hallucinated = summary["normed"]["tool_hallucination"]
    assert (hallucinated["value"], hallucinated["n"]) == (1.0, 1)
    assert summary["normed"]["confusion"]["cannot_answer"] == dict(zip(KINDS, (0, 1, 0, 1), strict=True))
    too_long = judge_choice(cases[0], Raw(), 1)
    assert (
        too_long.error == "prompt_too_long"
        and summarise_when2call([*rows, too_long])["normed"]["accuracy"]["value"] == 2 / 5
    )


def test_the_command_goes_on_after_a_stop(file, tmp_path):
    from typer.testing import CliRunner

    from xlam_jax.cli.main import app

    tokenizer = tiny_run.make_tokenizer(tmp_path / "tokenizer")
    tiny_run.make_model(tmp_path / "model", tokenizer)
    command = ["eval", "when2call", str(file), "--model", str(tmp_path / "model"), "--max-len", "512"]

    def ran(*args):
        done = CliRunner().invoke(app, [*command, *map(str, args)])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    said = ran("--out", tmp_path / "out", "--json", tmp_path / "one.json")
    assert "1 rows left out" in said
    kept = tmp_path / "out/generations.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])
    ran("--out", tmp_path / "out", "--resume", "--json", tmp_path / "two.json")
    one, two = (json.loads((tmp_path / f"{n}.json").read_text())["summary"] for n in ("one", "two"))
    assert one == two and one["n"] == 4
    for line in map(json.loads, kept.read_text().splitlines()):
        likes = json.loads(line["text"])
        assert set(likes) == set(KINDS) and all(logprob < 0 < length for logprob, length in likes.values())
