"""Seal-Tools rows -> Records, joined with the catalogue."""

import json

import pytest

from tests.records.native_data import converted, folder, outcomes
from xlam_jax.errors import InputError
from xlam_jax.format import Tool, ToolCall
from xlam_jax.records.sources.seal_tools import OTHERS


def entry(name, field, **parameters):
    return {
        "api_name": name,
        "api_description": f"Does {name}.",
        "field": field,
        "parameters": {k: {"type": t, "description": k.upper()} for k, t in parameters.items()},
        "required": list(parameters)[:1],
        "responses": {},
    }


def write(root, rows, tools):
    (root / "tool.jsonl").write_text("\n".join(map(json.dumps, tools)))
    (root / "field.jsonl").write_text('{"Science": ["Geology"]}')
    (root / "dev.jsonl").write_text("\n".join(map(json.dumps, rows)))


TOOLS = [
    entry("dig", "Science/Geology", depth="float", where="str"),
    *(entry(f"other{i}", "Science/Biology", n="int") for i in range(9)),
    entry("play", "Sports/Golf", n="int"),
]


def row(id, *calling):
    return {"id": id, "query": "Dig.", "calling": list(calling)}


def test_gold_calls_and_seeded_others_of_the_area(tmp_path):
    call = {"api": "dig", "parameters": {"depth": 2, "where": "API_call_0"}, "responses": ["API_call_1"]}
    write(tmp_path, [row("dev-1", call), row("dev-2", call), row("dev-1", call)], TOOLS)
    first, second, again = outcomes("seal-tools", tmp_path)
    assert (first.id, first.query, first.license) == ("seal-tools-dev-1", "Dig.", "Apache-2.0")
    assert first.steps[0].tool_calls == (ToolCall("dig", {"depth": 2, "where": "API_call_0"}),)
    schema = {
        "type": "object",
        "properties": {
            "depth": {"type": "number", "description": "DEPTH"},
            "where": {"type": "string", "description": "WHERE"},
        },
        "required": ["depth"],
    }
    assert Tool("dig", "Does dig.", schema) in first.tools
    assert len({tool.name for tool in first.tools}) == 1 + OTHERS
    assert all(tool.name != "play" for tool in first.tools)
    assert first == again and first.tools != second.tools


def test_refusals(tmp_path):
    rows = [row("a"), row("b", {"api": "fly", "parameters": {}}), {**row("c", {"api": "dig"}), "query": " "}]
    write(tmp_path, rows, TOOLS)
    assert outcomes("seal-tools", tmp_path) == ["no_answer", "unknown_tool", "empty_query"]
    (tmp_path / "tool.jsonl").unlink()
    with pytest.raises(InputError, match="tools of Seal-Tools not found"):
        outcomes("seal-tools", tmp_path)


def test_published_files(tmp_path):
    root = folder("seal_tools")
    summary, records = converted("seal-tools", root, tmp_path)
    assert (summary["rows"], summary["out"], summary["refused"]) == (1400, 1400, 0)
    assert len({record.id for record in records}) == 1400
    # Numbers as text, and references to earlier calls where a number is due.
    assert (summary["calls"], summary["valid"], summary["faults"]) == (3599, 3492, {"wrong_type": 107})
    for record in records:
        gold = {call.name for call in record.steps[0].tool_calls}
        assert gold <= {tool.name for tool in record.tools} and len(record.tools) >= len(gold) + 1
    alone, same = converted("seal-tools", root / "dev.jsonl", tmp_path)
    assert alone["rows"] == 700 and same == records[:700]
