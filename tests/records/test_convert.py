"""60k rows -> Records: every row is a line or a refusal by name; files of each kind give the same rows."""

import gzip
import json

import pytest

from xlam_jax.errors import InputError
from xlam_jax.format.record import read_records
from xlam_jax.records.engine import LocalEngine
from xlam_jax.records.sources import get_source
from xlam_jax.records.sources.convert import convert

TOOLS = [{"name": "add", "description": "Adds.", "parameters": {"a": {"type": "int"}, "b": {"type": "int"}}}]


def row(id, answers, query="What is 1 + 2?", tools=TOOLS):
    return {"id": id, "query": query, "answers": json.dumps(answers), "tools": json.dumps(tools)}


ROWS = [
    row(0, [{"name": "add", "arguments": {"a": 1, "b": 2}}]),
    row(1, [{"name": "add", "arguments": '{"a": 1, "b": 2}'}]),
    row(2, [{"name": "add", "arguments": {"a": "1", "c": 2}}, {"name": "sub", "arguments": {}}]),
    row(3, [], query=" "),
    {**row(4, []), "answers": "[{"},
    row(5, [{"arguments": {}}]),
    row(6, [], tools=[{"description": "no name"}]),
    ["no", "object"],
]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.json"])
def test_rows_in_are_lines_and_refusals(tmp_path, name):
    text = json.dumps(ROWS) if name == "in.json" else "\n".join(map(json.dumps, ROWS)) + "\n"
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    result = convert("xlam-60k", tmp_path / name, tmp_path / "out.jsonl", engine=LocalEngine(1))
    assert (result["rows"], result["out"], result["refused"]) == (8, 3, 5)
    assert result["reasons"] == {
        "empty_query": 1,
        "bad_json": 1,
        "bad_call": 1,
        "bad_tool": 1,
        "not_an_object": 1,
    }
    assert (result["calls"], result["valid"]) == (4, 2)
    assert result["faults"] == {
        "missing_required": 1,
        "wrong_type": 1,
        "undefined_argument": 1,
        "undefined_function": 1,
    }
    records = list(read_records(tmp_path / "out.jsonl"))
    assert [r.id for r in records] == ["xlam-60k-0", "xlam-60k-1", "xlam-60k-2"]
    assert records[0].steps == records[1].steps
    ledger = (tmp_path / "out.jsonl.ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in ledger].count("dropped") == 5 and len(ledger) == 8


def test_unknown_source_and_missing_input(tmp_path):
    with pytest.raises(InputError) as error:
        get_source("xlam60k")
    assert error.value.hint == "xlam-60k"
    with pytest.raises(InputError, match="input not found"):
        convert("xlam-60k", tmp_path / "no.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
