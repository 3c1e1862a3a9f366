"""Schemas as strangers write them, through the commands: no right value is changed, dropped or kept for a wrong one."""

import pytest

from tests.records.commands import converted, record, row, typed, verified
from xlam_jax.format.record import read_records


def kept_values(tmp_path, schema, *values):
    """The values of the rows that stay, of rows with one call each."""
    tool = typed("x", schema)
    tool["parameters"]["required"] = ["x"]
    rows = [record(f"r{i}", f"take number {i}", {"x": v}, tool=tool) for i, v in enumerate(values)]
    verified(tmp_path, *rows)
    return [r.steps[0].tool_calls[0].arguments["x"] for r in read_records(tmp_path / "kept.jsonl")]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("str, int", [5, "a"]),
        ("int, str", ["abc", 5]),
        ("bool, str", ["a", True]),
        ("string,number", [5, 2.5, "5"]),
        ("str, list", [["a"], "a"]),
        ("int, list of int", [[5], 5]),
        ("integer, null", [None, 5]),
        ("string (or integer)", [5, "5"]),
        ("str (or int)", [5, "5"]),
        ("str(or list)", [["a"], "a"]),
        ("string(number)", [5, "5"]),
        ("List[str], str", ["a", ["a"]]),
        ("Enum[str]", ["red", "a"]),
        ("enum[int]", [5]),
        ("Enum(Color)", ["red", 5]),
        ("Union", [5, "a", [1]]),
    ],
)
def test_a_value_of_any_listed_type_stays(tmp_path, name, values):
    kept = kept_values(tmp_path, {"type": name}, *values)
    assert kept == values and list(map(type, kept)) == list(map(type, values))


def test_a_value_of_no_listed_type_goes(tmp_path):
    assert kept_values(tmp_path, {"type": "int, list of int"}, ["a"], 5) == [5]


INT, LIST = {"type": "integer"}, {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    ("schema", "value", "kept"),
    [
        ({"type": ["integer", "string"]}, 5.0, [5]),
        ({"type": ["integer", "null"]}, 5.0, [5]),
        ({"anyOf": [INT, LIST]}, 5.0, [5]),
        ({"anyOf": [INT, {"type": "string"}]}, -2.0, [-2]),
        (INT, 1e16, [10**16]),
        (INT, 1e23, []),
        (LIST, [5.0], [[5]]),
        ({**INT, "enum": [1, 2]}, 2.0, [2]),
        ({"type": ["number", "string"]}, 5.0, [5.0]),
        ({"type": "string"}, 5.0, ["5.0"]),
        (INT, 5.5, []),
        ({"type": ["integer", "boolean"]}, 5.5, []),
        (INT, 1.2345678901234567e19, []),
    ],
)
def test_a_whole_number_with_a_point_is_an_integer_where_one_is_meant(tmp_path, schema, value, kept):
    found = kept_values(tmp_path, schema, value)
    assert found == kept and list(map(type, found)) == list(map(type, kept))


CALL = {"name": "f", "arguments": {"x": "Oslo"}}


def test_no_row_has_a_tool_that_lost_its_parameters(tmp_path):
    schema = typed("x", {"type": "string"})["parameters"]
    lost = [
        {"name": "f", "description": "d", "api_parameters": [{"name": "x", "type": "string"}]},
        {"name": "f", "description": "d", "parameters": {}, "inputs": {"x": "str"}},
        {"name": "f", "description": "d", "schema": str(schema).replace("'", '"')},
    ]
    found, refused = converted(tmp_path, *(row(f"r{i}", CALL, tool) for i, tool in enumerate(lost)))
    assert found == {} and refused == ["bad_tool"] * 3
    read = [
        {"name": "f", "description": "d", "parameters": {}, "inputSchema": schema},
        {"name": "f", "description": "d", "parameters": {"x": {"type": "str", "is_required": False}}},
    ]
    found, refused = converted(tmp_path, *(row(f"r{i}", CALL, tool) for i, tool in enumerate(read)))
    assert [r.tools[0].parameters["properties"] for r in found.values()] == [{"x": {"type": "string"}}] * 2
    assert refused == [] and found["r1"].tools[0].parameters["required"] == []


def test_a_null_that_a_required_parameter_takes_is_no_padding(tmp_path):
    """Arguments of all tools in one column, as a table of one type for all rows has them."""
    free = {"description": "anything"}
    node = {"type": "object", "properties": {"v": {"type": ["integer", "null"]}}, "required": ["v"]}
    schemas = {
        "by_reference": {"$ref": "#/$defs/N"},
        "without_type": free,
        "by_name": {"type": "Optional[int]"},
        "inside": {"anyOf": [{"$ref": "#/$defs/O"}, {"type": "null"}]},
        "no_null": {"type": "integer"},
    }
    values = {name: {"v": None} if name == "inside" else None for name in schemas}
    rows = []
    for name, schema in schemas.items():
        tool = {"name": f"set_{name}", "description": "d", "parameters": {"type": "object"}}
        tool["parameters"] |= {"properties": {name: schema, "k": {"type": "string"}}, "required": [name, "k"]}
        tool["parameters"]["$defs"] = {"N": {"type": ["integer", "null"]}, "O": node}
        padded = dict.fromkeys(schemas) | {name: values[name], "k": "a"}
        one = {"id": name, "query": f"Clear {name} of a", "tools": [tool]}
        rows.append({**one, "answers": [{"name": tool["name"], "arguments": padded}]})
    found, refused = converted(tmp_path, *rows, source="xlam-60k")
    assert refused == []
    calls = {
        name: r.steps[0].tool_calls[0].arguments for r, name in zip(found.values(), schemas, strict=True)
    }
    kept = [name for name in schemas if name != "no_null"]
    assert calls == {name: {name: values[name], "k": "a"} for name in kept} | {"no_null": {"k": "a"}}
