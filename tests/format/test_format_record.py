"""Records: lossless JSON, and errors that name file, line, field and the nearest known field."""

import gzip
import json

import pytest
from format_strategies import records
from hypothesis import given

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, ToolCall, check_json, read_records, write_records

GOOD = {
    "unique_trajectory_id": "demo-weather-0001",
    "task_instruction": "Solve the request.",
    "format_instruction": "Reply with one JSON object.",
    "few_shot_examples": [],
    "query": "Is it warmer in Oslo or Bergen?",
    "tools": [
        {
            "name": "get_temp",
            "description": "Current temperature of a city",
            "parameters": {
                "city": {"type": "string", "description": "City name", "required": True},
                "unit": {"type": "string", "description": "c or f", "default": "c"},
            },
        }
    ],
    "steps": [
        {
            "step_id": 1,
            "thought": "Two queries.",
            "tool_calls": [
                {"name": "get_temp", "arguments": {"city": "Oslo"}},
                {"name": "get_temp", "arguments": {"city": "Bergen"}},
            ],
            "next_observation": '[{"temp": 4.1}, {"temp": 7.8}]',
            "user_input": "",
        },
        {
            "step_id": 2,
            "thought": "Bergen.",
            "tool_calls": [],
            "next_observation": "",
            "user_input": "Thanks",
        },
    ],
}


def changed(**changes):
    return {**GOOD, **changes}


def test_reads_the_paper_s_spelling():
    record = Record.from_json(GOOD)
    assert record.id == "demo-weather-0001"
    assert record.steps[0].tool_calls[1] == ToolCall("get_temp", {"city": "Bergen"})
    assert record.tools[0].parameters["required"] == ["city"]
    assert record.tools[0].parameters["properties"]["unit"] == {
        "type": "string",
        "description": "c or f",
        "default": "c",
    }
    assert record.to_json()["steps"] == GOOD["steps"]


@examples(60)
@given(records)
def test_json_round_trip(record):
    obj = json.loads(json.dumps(record.to_json()))
    assert Record.from_json(obj) == record
    assert "null" not in json.dumps(obj["tools"]) or any(
        "null" in str(t) or "None" in str(t) for t in record.tools
    )


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_files_round_trip_with_equal_bytes(tmp_path, name):
    rows = [Record.from_json(changed(unique_trajectory_id=str(i), query=f"q {i} é 東")) for i in range(5)]
    assert write_records(tmp_path / name, rows) == 5
    assert list(read_records(tmp_path / name)) == rows
    first = (tmp_path / name).read_bytes()
    assert (first[:2] == b"\x1f\x8b") == name.endswith(".gz")
    write_records(tmp_path / name, rows)
    assert (tmp_path / name).read_bytes() == first


def test_a_failing_writer_leaves_nothing(tmp_path):
    def rows():
        yield Record.from_json(GOOD)
        raise RuntimeError("source died")

    with pytest.raises(RuntimeError):
        write_records(tmp_path / "out.jsonl", rows())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("obj", "what", "hint"),
    [
        (changed(toolz=[]), "unknown field 'toolz'", "tools"),
        (changed(steps=[{"tool_call": []}]), "unknown field 'steps[0].tool_call'", "tool_calls"),
        (
            changed(steps=[{}, {"tool_calls": [{"name": "f", "arguments": {}, "args": 1}]}]),
            "unknown field 'steps[1].tool_calls[0].args'",
            "arguments",
        ),
        (changed(query=3), "field 'query': expected string, found int", ""),
        (
            changed(steps=[{"tool_calls": [{"name": "f", "arguments": "{}"}]}]),
            "expected object, found str",
            "",
        ),
        (
            changed(steps=[{"tool_calls": [{"name": "f"}]}]),
            "missing field 'steps[0].tool_calls[0].arguments'",
            "",
        ),
        ({k: v for k, v in GOOD.items() if k != "query"}, "missing field 'query'", ""),
        (changed(id="again"), "exactly one of id", ""),
        ({"query": "q"}, "exactly one of id", ""),
        (changed(tools=[{"description": "nameless"}]), "a tool needs a name", ""),
        (changed(tools=[{"name": "f", "parameters": {"a": [1]}}]), "parameter 'a' is no mapping", ""),
        (changed(query="\ud800"), "lone surrogate", ""),
        ([1], "field 'record': expected object, found list", ""),
    ],
)
def test_errors_name_the_field_and_the_line(tmp_path, obj, what, hint):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(obj) + "\n")
    with pytest.raises(InputError) as caught:
        list(read_records(path))
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where.startswith(f"{path}:3")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "line",
    [b"{", b"\xff\xfe{}", b'{"id": NaN}', b"[" * 100_000, b'{"id":"a","query":"q","x":' + b"9" * 5000 + b"}"],
)
def test_bad_lines_are_input_errors(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(InputError) as caught:
        list(read_records(path))
    assert caught.value.where.startswith(f"{path}:1")


def test_truncated_gzip_and_missing_file(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(GOOD) + "\n").encode() * 50)[:-20])
    with pytest.raises(InputError, match="whole gzip"):
        list(read_records(path))
    with pytest.raises(InputError, match="not found"):
        list(read_records(tmp_path / "none.jsonl"))


def test_null_observation_reads_as_none_made():
    assert Record.from_json(changed(steps=[{"next_observation": None}])).steps == (Step(),)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"a": ["\udfff"]}, {"\ud800": 1}, {1}, {"a": 1j}]
)
def test_check_json_refuses(value):
    with pytest.raises(ValueError):
        check_json(value)


def test_check_json_depth_is_a_limit_not_a_crash():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper than 64"):
        check_json(deep)
    check_json([[[{"a": [1, 2.5, None, True, "é"]}]]])
