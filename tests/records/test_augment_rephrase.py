"""Rephrasing by a model: only what a real endpoint's answers verify is kept."""

import json
from collections import Counter

import pytest

from tests.records.chat_server import ChatServer
from xlam_jax.config import make_config
from xlam_jax.format import Record, Step, Tool, ToolCall, read_records, write_records
from xlam_jax.llm import LLM
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.run import augment_file
from xlam_jax.records.augment.transforms import TRANSFORMS

TEMP = Tool(
    "get_temp", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
# What becomes of a query with this word; the others are verified.
MARKS = {
    "WRONG": "calls_differ", "GARBLED": "unparsable_answer", "SAME": "same_text", "MUTE": "writer_failed"
}  # fmt: skip


def make(i):
    mark = (*MARKS, "FINE", "QUOTED")[i % 6]
    call = ToolCall("get_temp", {"city": f"Town{i}"})
    return Record(f"r{i}", f"{mark}: how warm is it, Town{i}", (TEMP,), (Step(tool_calls=(call,)),))


def answer(text):
    """Rewrites a query, and answers a prompt with the town that its query names."""
    town = text.rpartition("Town")[2].split()[0] if "Town" in text else ""
    if "get_temp" not in text:
        if "MUTE" in text:
            return " "
        if "SAME" in text:
            return text
        words = text.replace("how warm is it", "tell me the temperature")
        return f'"{words}"' if "QUOTED" in text else words
    if "GARBLED" in text:
        return '{"tool_calls": [{"name": "get_temp", '
    town = "Elsewhere" if "WRONG" in text else f"Town{town}"
    return json.dumps({"tool_calls": [{"name": "get_temp", "arguments": {"city": town}}]})


@pytest.fixture
def source(tmp_path):
    write_records(tmp_path / "in.jsonl", map(make, range(30)))
    return tmp_path / "in.jsonl"


def run(source, out, url, kind="rephrase_query", **options):
    rates = dict.fromkeys(TRANSFORMS, 0.0) | {kind: 1.0}
    values = {"rates": rates, "rephrase": {"base_url": url, "model": "m"}}
    models = [LLM(url, "m", temperature=t, **options) for t in (0.7, 0.0)]
    result = augment_file(
        source, out, make_config(AugmentConfig, values), writer=models[0], answerer=models[1]
    )
    return result, {row["transform"]: row for row in result["transforms"]}[kind]


def test_only_verified_queries_are_kept(source, tmp_path):
    with ChatServer(answer) as server:
        result, row = run(source, tmp_path / "out", server.url, cache=tmp_path / "cache.jsonl")
        asked = len(server.requests)
        assert asked == 30 + 20  # neither the same text nor none is answered
        first = (tmp_path / "out").read_bytes()
        run(source, tmp_path / "out", server.url, cache=tmp_path / "cache.jsonl")
        assert len(server.requests) == asked and (tmp_path / "out").read_bytes() == first
    assert row["reasons"] == dict.fromkeys(sorted(MARKS.values()), 5) and row["applied"] == 10
    assert result["rows_out"] == 40 and result["nothing_applied"] == 20
    copies = [r for r in read_records(tmp_path / "out") if "#aug" in r.id]
    for record in copies:
        i = int(record.id.removeprefix("r").removesuffix("#aug1"))
        mark = "FINE" if i % 6 == 4 else "QUOTED"
        assert record.query == f"{mark}: tell me the temperature, Town{i}"
        assert record.steps == make(i).steps and record.lineage == ("augment:rephrase_query",)
    assert Counter(r.query.split(":")[0] for r in copies) == {"FINE": 5, "QUOTED": 5}


def test_task_instructions_are_rewritten_and_verified(source, tmp_path):
    def rewrite(text):
        return "Choose tools well." if "get_temp" not in text else answer(text)

    with ChatServer(rewrite) as server:
        _, row = run(source, tmp_path / "out", server.url, "rephrase_task")
        prompts = [r["messages"][-1]["content"] for r in server.requests]
    assert sum("Choose tools well." in p for p in prompts) == 30
    assert row["applied"] == 20 and row["reasons"] == {"calls_differ": 5, "unparsable_answer": 5}
    copies = [r for r in read_records(tmp_path / "out") if "#aug" in r.id]
    assert {r.task_instruction for r in copies} == {"Choose tools well."}


def test_an_endpoint_that_is_down_leaves_the_rows_as_they_are(source, tmp_path):
    with ChatServer(answer) as server:
        url = server.url
    result, row = run(source, tmp_path / "out", url, retries=0)
    assert row["reasons"] == {"writer_failed": 30} and result["rows_out"] == 30
    assert list(read_records(tmp_path / "out")) == list(map(make, range(30)))


def test_answers_that_fail_verify_nothing(source, tmp_path):
    with ChatServer(answer) as server:
        url = server.url
        writer = LLM(url, "m", temperature=0.7)
        rates = dict.fromkeys(TRANSFORMS, 0.0) | {"rephrase_query": 1.0}
        values = {"rates": rates, "rephrase": {"base_url": url, "model": "m"}}
        broken = LLM(url + "/nowhere", "m", retries=0)
        config = make_config(AugmentConfig, values)
        result = augment_file(source, tmp_path / "out", config, writer=writer, answerer=broken)
    row = next(r for r in result["transforms"] if r["transform"] == "rephrase_query")
    assert row["applied"] == 0 and row["reasons"]["answerer_failed"] == 20
