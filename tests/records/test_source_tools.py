"""Sources of tool descriptions: MCP servers and OpenAPI documents."""

import gzip
import json

import jsonschema
import pytest

from tests.records.native_data import converted_tools, folder, outcomes
from xlam_jax.errors import InputError
from xlam_jax.format.tools import normalise_tool

SERVER = {
    "server": "Clock",
    "category": "Time",
    "overview": "Tells the time.",
    "license": "MIT",
    "tools": [
        {
            "name": "now",
            "description": "The time.",
            "input_schema": {"type": "object", "properties": {"zone": {"type": "string", "title": None}}},
        },
        {"description": "no name"},
    ],
}


def test_mcp(tmp_path):
    lines = [SERVER, {**SERVER, "tools": []}, []]
    (tmp_path / "servers.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    first, *refused = outcomes("mcp", tmp_path)
    assert first == {
        "id": "mcp-Clock/now",
        "name": "now",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": []},
        "namespace": "Clock",
        "category": "Time",
        "source": "mcp",
        "license": "MIT",
    }
    assert refused == ["bad_tool", "no_tools", "not_an_object"]


def test_published_servers(tmp_path):
    summary, tools = converted_tools("mcp", folder("mcp_servers"), tmp_path)
    # One server puts its schema below `properties`.
    assert (summary["rows"], summary["out"], summary["reasons"]) == (5734, 5728, {"bad_tool": 6})
    assert sum(bool(tool["parameters"]["properties"]) for tool in tools) == 4871 - 6
    assert all(normalise_tool(tool).parameters == tool["parameters"] for tool in tools)


YAML = """
openapi: 3.0.0
info: {title: Clock, license: {name: MIT}}
paths:
  /time/{zone}:
    get:
      summary: The time.
      parameters:
        - {name: zone, in: path, required: true, schema: {type: string}}
        - {name: day, in: query, schema: {type: string, default: 2020-01-01}}
"""


def test_openapi(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.yaml").write_text(YAML)
    (tmp_path / "c.yml").write_text("a: [")
    (tmp_path / "d.json").write_text('{"openapi": "3.0.0", "paths": {"/x": {}}}')
    (tmp_path / "LICENSE").write_text("MIT")
    broken, tool, bad_yaml, empty = outcomes("openapi", tmp_path)
    assert (broken, bad_yaml, empty) == ("bad_document", "bad_document", "no_operations")
    assert tool == {
        "id": "openapi-Clock/get_time_zone",
        "name": "get_time_zone",
        "description": "The time.",
        "parameters": {
            "type": "object",
            # A date in YAML is text in JSON.
            "properties": {"zone": {"type": "string"}, "day": {"type": "string", "default": "2020-01-01"}},
            "required": ["zone"],
        },
        "namespace": "Clock",
        "method": "GET",
        "path": "/time/{zone}",
        "source": "openapi",
        "license": "MIT",
    }
    assert outcomes("openapi", tmp_path / "b.yaml") == [tool]
    with pytest.raises(InputError, match="no OpenAPI document"):
        outcomes("openapi", tmp_path / "nothing")


def test_published_documents(tmp_path):
    root = folder("openapi")
    summary, tools = converted_tools("openapi", root, tmp_path)
    verbs = ("get", "put", "post", "delete", "patch")
    documents = [json.loads(p.read_text("utf-8")) for p in root.glob("*.json")]
    count = sum(verb in item for d in documents for item in d["paths"].values() for verb in verbs)
    assert summary["rows"] == summary["out"] == count == 40 + 54
    assert len({tool["id"] for tool in tools}) == count
    assert "$ref" not in json.dumps(tools)
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool["parameters"])
    placeholders = [t for t in tools if "{" in t["path"]]
    assert placeholders
    for tool in placeholders:
        named = {part.strip("{}") for part in tool["path"].split("/") if part.startswith("{")}
        assert named <= set(tool["parameters"]["required"]), tool["id"]
