"""Damaged files: a row is a line or a refusal by name, or the file is refused as input; nothing crashes."""

import copy
import json
import pickle
import random

import pytest

from xlam_jax.errors import InputError
from xlam_jax.format.record import read_json_lines, read_records
from xlam_jax.format.tools import normalise_tool
from xlam_jax.records.sources import get_source
from xlam_jax.records.sources.convert import convert

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "F.", "parameters": SCHEMA}
DOCUMENT = {
    "openapi": "3.0.0",
    "info": {"title": "T", "license": {"name": "MIT"}},
    "paths": {
        "/a/{a}": {
            "parameters": [{"name": "a", "in": "path", "schema": {"$ref": "#/components/schemas/A"}}],
            "post": {"requestBody": {"content": {"application/json": {"schema": SCHEMA}}}},
        }
    },
    "components": {"schemas": {"A": {"type": "integer", "minimum": "1", "allOf": [SCHEMA]}}},
}
API = {
    "Name": "T",
    "Documentation": json.dumps(DOCUMENT),
    "Function_Projection": {"f": ["/a/{a}", "post"]},
    "Instructions": ["Do."],
    "Golden_Answers": [[{"Action": "f", "Action_Input": '{"a": "b"}'}]],
    "Instances": [{"input": "Do.", "intermediate_steps": [[["f", "{}", "t"], "o"]], "output": "Done."}],
}
ANSWER = {
    "valid_data": True,
    "finish_type": "give_answer",
    "function": [FUNCTION],
    "query": "Do.",
    "train_messages": [
        [
            {"role": "assistant", "content": "t", "function_call": {"name": "f", "arguments": '{"a": "b"}'}},
            {"role": "function", "name": "f", "content": "o"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {
                    "name": "Finish",
                    "arguments": '{"return_type": "give_answer", "final_answer": "Done."}',
                },
            },
        ]
    ],
}
TURN = {
    "role": "API",
    "api_name": "F",
    "param_dict": {"a": "b"},
    "result": {"input": {"a": "b"}, "output": 1},
}
RUN = {
    "id": 1,
    "task_name": "movie",
    "goal": "G",
    "is_done": True,
    "trajectory": {
        "Interaction Turn 0": {"Action": 'Action: f with Action Input: {"a": 1}', "Observation": "o"}
    },
}
SHOP = {
    "goal": "G",
    "states": ["a"],
    "actions": ["click[x]"],
    "available_actions": [["click[x]"]],
    "action_idxs": [0],
}
QUESTION = {"id": "simple_0", "question": [{"role": "user", "content": "Do."}], "function": [FUNCTION]}
TRUTH = {"id": "simple_0", "ground_truth": [{"f": {"a": ["b", ""]}}]}
RAPID = {
    "tool_name": "T",
    "api_list": [{"name": "f", "required_parameters": [{"name": "a", "type": "STRING", "default": "x"}]}],
}
SEAL_TOOL = {"api_name": "f", "field": "A/B", "parameters": {"a": {"type": "str"}}, "required": ["a"]}
SEAL = {"id": "d-1", "query": "Do.", "calling": [{"api": "f", "parameters": {"a": "b"}}]}
INFO = "description = 'F.'\ninput_parameters = {'a': {'type': 'str'}}"
CSV = f'id,t,s,n,p,f,class,i,e,info\n1,,,,,,F,,,"{INFO}"\n'

# source -> files (name: value)
CASES = {
    "agentboard": {"log.jsonl": RUN},
    "api-bank": {"level-1/F-level-1-1.jsonl": TURN},
    "bfcl": {"BFCL_v2_simple.json": QUESTION, "possible_answer/BFCL_v2_simple.json": TRUTH},
    "mcp": {
        "servers.jsonl": {"server": "S", "tools": [{**FUNCTION, "input_schema": SCHEMA}], "license": "MIT"}
    },
    "openapi": {"api.json": DOCUMENT},
    "seal-tools": {"dev.jsonl": SEAL, "tool.jsonl": SEAL_TOOL},
    "tool-alpaca": {"train.json": [API]},
    "toolbench": {"1.json": {"answer_generation": ANSWER}},
    "toolbench-tools": {"tool.json": RAPID},
    "webshop": {"il.jsonl": SHOP},
}
JUNK = [None, 0, -1.5, True, "", "x", "{", [], [1], {}, {"a": 1}, ["x", {"type": 3}], "\ud800"]


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def damaged(value, r):
    """The value with one place removed or replaced."""
    value = copy.deepcopy(value)
    path = r.choice(list(places(value)))
    if not path:
        return r.choice(JUNK)
    node = value
    for key in path[:-1]:
        node = node[key]
    if r.random() < 0.3:
        del node[path[-1]]
    else:
        node[path[-1]] = r.choice(JUNK)
    return value


@pytest.mark.parametrize("source", CASES)
def test_damaged_rows(tmp_path, source):
    r = random.Random(source)
    (tmp_path / "all_apis.csv").write_text(CSV)
    fates = set()
    for attempt in range(200):
        for name, value in CASES[source].items():
            file = tmp_path / "in" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            value = value if attempt == 0 else damaged(value, r)
            text = json.dumps(value)
            if attempt and r.random() < 0.05:
                text = text[: r.randrange(len(text) + 1)]
            file.write_text(text)
        out = tmp_path / "out" / f"{attempt}.jsonl"
        try:
            result = convert(source, tmp_path / "in", out)
        except InputError:
            assert attempt
            continue
        lines = len(out.read_text("utf-8").splitlines())
        assert result["rows"] == result["out"] + result["refused"] and result["out"] == lines
        if get_source(source).kind == "records":
            assert len(list(read_records(out))) == lines
        else:
            assert all(normalise_tool(value) for value, _ in read_json_lines(out))
        fates |= {"out"} if result["out"] else set(result["reasons"])
        if attempt == 0:
            assert result["out"] >= 1 and not result["refused"], result
    assert len(fates) > 2, fates


@pytest.mark.parametrize("source", CASES)
def test_rows_travel_to_workers(tmp_path, source):
    (tmp_path / "all_apis.csv").write_text(CSV)
    for name, value in CASES[source].items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(json.dumps(value))
    found = get_source(source)
    rows = list(found.rows(tmp_path / "in"))
    assert rows and list(map(found.convert, pickle.loads(pickle.dumps(rows)))) == list(
        map(found.convert, rows)
    )
