"""Tool descriptions: every spelling becomes the same JSON Schema, and views can be read back."""

import gzip
import json
import os
from pathlib import Path

import jsonschema
import pytest
from format_strategies import tools
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Tool, normalise_tool, openai_view, python_type, xlam_view
from xlam_jax.format.tool_schema import SchemaReader, is_normal
from xlam_jax.format.type_names import read_type

WANTED = Tool(
    "move",
    "Moves it",
    {
        "type": "object",
        "properties": {
            "to": {"type": "array", "items": {"type": "number"}, "description": "x, y"},
            "fast": {"type": "boolean", "default": False},
            "note": {"type": "string"},
        },
        "required": ["to"],
    },
)
FLAT = {
    "name": "move",
    "description": "Moves it",
    "parameters": {
        "to": {"description": "x, y", "type": "List[float]"},
        "fast": {"type": "bool", "default": False},
        "note": {"type": "str, optional"},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "to": {"type": "array", "items": {"type": "number"}, "description": "x, y"},
        "fast": {"type": "boolean", "default": False},
        "note": {"type": "string"},
    },
    "required": ["to"],
}
BFCL = {
    "type": "dict",
    "properties": {
        "to": {"type": "tuple", "items": {"type": "float"}, "description": "x, y"},
        "fast": {"type": "boolean", "default": False, "optional": True},
        "note": {"type": "string"},
    },
    "required": ["to"],
}


@pytest.mark.parametrize(
    "spelling",
    [
        FLAT,
        {**FLAT, "parameters": {**FLAT["parameters"], "note": {"type": "Optional[str]"}}},
        {**FLAT, "parameters": {**FLAT["parameters"], "note": {"type": "string", "required": False}}},
        {**FLAT, "parameters": {**FLAT["parameters"], "note": "str, optional"}},
        {**FLAT, "parameters": {**FLAT["parameters"], "required": ["to"]}},
        {"name": "move", "description": "Moves it", "parameters": SCHEMA},
        {"type": "function", "function": {"name": "move", "description": "Moves it", "parameters": SCHEMA}},
        {"name": "move", "description": "Moves it", "inputSchema": SCHEMA},
        {"name": "move", "description": "Moves it", "input_schema": SCHEMA, "parameters": None},
        {"name": "move", "description": "Moves it", "parameters": BFCL},
        {"toolSpec": {"name": "move", "description": "Moves it", "inputSchema": {"json": SCHEMA}}},
        WANTED,
    ],
)
def test_spellings_agree(spelling):
    assert normalise_tool(spelling) == WANTED


def test_views():
    assert xlam_view(WANTED) == {
        "name": "move",
        "description": "Moves it",
        "parameters": {
            "to": {"type": "array", "items": {"type": "number"}, "description": "x, y"},
            "fast": {"type": "boolean", "default": False},
            "note": {"type": "string", "required": False},
        },
    }
    assert openai_view(WANTED)["function"]["parameters"] == SCHEMA
    bare = normalise_tool({"name": "now"})
    assert bare == Tool("now", "", {"type": "object", "properties": {}, "required": []})
    assert xlam_view(bare) == {"name": "now", "parameters": {}}


@examples(100)
@given(tools())
def test_views_read_back(tool):
    assert normalise_tool(openai_view(tool)) == tool
    assert normalise_tool(xlam_view(tool)) == tool


def test_nulls_of_typed_tables_are_dropped_but_still_mean_optional():
    tool = normalise_tool(
        {
            "name": "f",
            "description": None,
            "parameters": {"a": {"type": "int", "default": None, "enum": None}, "b": None},
        }
    )
    assert tool == Tool("f", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": []})


def test_nested_objects_keep_their_own_required_list():
    inner = {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]}
    tool = normalise_tool({"name": "f", "parameters": {"type": "dict", "properties": {"p": inner}}})
    want = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    assert tool.parameters["properties"]["p"] == want
    assert tool.parameters["required"] == []
    assert xlam_view(tool)["parameters"]["p"] == want


@pytest.mark.parametrize(
    ("name", "schema", "back"),
    [
        ("int", {"type": "integer"}, "int"),
        (
            "List[List[int]]",
            {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            None,
        ),
        ("list", {"type": "array"}, "list"),
        ("Dict[str, int]", {"type": "object", "additionalProperties": {"type": "integer"}}, "dict"),
        ("Union[int, str]", {"type": ["integer", "string"]}, "Union[int, str]"),
        ("int | None", {"type": ["integer", "null"]}, "Optional[int]"),
        ("Tuple[float, float]", {"type": "array", "items": {"type": "number"}}, "List[float]"),
        ("Tuple[float, str]", {"type": "array"}, "list"),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"]}, "str"),
        ("typing.Any", {}, "Any"),
        ("Frobnicator", {}, "Any"),
        ("List[", {"type": "array"}, "list"),
        ("", {}, "Any"),
    ],
)
def test_type_names(name, schema, back):
    tool = normalise_tool({"name": "f", "parameters": {"a": {"type": name}}})
    assert tool.parameters["properties"]["a"] == schema
    assert python_type(schema) == (name if back is None else back)


@pytest.mark.parametrize(
    ("name", "schema", "optional"),
    [
        ("int32", {"type": "integer"}, False),
        ("numeric", {"type": "number"}, False),
        ("string[]", {"type": "array", "items": {"type": "string"}}, False),
        ("int[][]", {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, False),
        ("Array<number>", {"type": "array", "items": {"type": "number"}}, False),
        ("list(str)", {"type": "array", "items": {"type": "string"}}, False),
        ("array of strings", {"type": "array", "items": {"type": "string"}}, False),
        ("Map<string, float64>", {"type": "object", "additionalProperties": {"type": "number"}}, False),
        ("Literal[1, 2]", {"type": "integer", "enum": [1, 2]}, False),
        ("Literal['a, b', None]", {"type": ["string", "null"], "enum": ["a, b", None]}, False),
        ("int?", {"type": "integer"}, True),
        ("str (optional)", {"type": "string"}, True),
        ("float or int", {"type": ["number", "integer"]}, False),
        ("float or None", {"type": "number"}, False),
        ("int (1-10)", {"type": "integer"}, False),
        ("Union[np.ndarray, list]", {}, False),
        ("[][]float64", {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, False),
        ("map[string]*int", {"type": "object", "additionalProperties": {"type": "integer"}}, False),
        ("map[string]interface{}", {"type": "object"}, False),
        ("java.util.List<java.lang.String>", {"type": "array", "items": {"type": "string"}}, False),
        ("Map<String, Object>", {"type": "object"}, False),
        ("Option<Vec<u32>>", {"type": "array", "items": {"type": "integer"}}, True),
        ("std::vector<unsigned int>", {"type": "array", "items": {"type": "integer"}}, False),
        ("'auto' | 'none' | null", {"type": "string", "enum": ["auto", "none"]}, False),
        ("1 | 2", {"type": "integer", "enum": [1, 2]}, False),
        ("(string | number)[]", {"type": "array", "items": {"type": ["string", "number"]}}, False),
        ("readonly string[] | undefined", {"type": "array", "items": {"type": "string"}}, False),
        ("[string, number]", {"type": "array"}, False),
        ("(a: string) => number", {}, False),
        ("Optional[str] = None", {"type": "string"}, True),
        ("Annotated[int, Field(ge=1)]", {"type": "integer"}, False),
        ("np.int64", {"type": "integer"}, False),
        ("?string", {"type": "string"}, True),
        ("string array", {"type": "array", "items": {"type": "string"}}, False),
        ("positive integer", {"type": "integer"}, False),
        ("str, int", {"type": ["string", "integer"]}, False),
        ("string (or integer)", {"type": ["string", "integer"]}, False),
        (
            "int, list of int",
            {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
            False,
        ),
        ("Union[str, int], optional", {"type": ["string", "integer"]}, True),
        ("str, the text to look for", {"type": "string"}, False),
        ("integer(int32)", {"type": "integer"}, False),
        ("Literal[1] | str", {"anyOf": [{"type": "integer", "enum": [1]}, {"type": "string"}]}, False),
        ("enum[int]", {"type": "integer"}, False),
        ("enum(low, high)", {"type": "string", "enum": ["low", "high"]}, False),
        ("Object[]", {"type": "array"}, False),
        *((unknown, {}, False) for unknown in ("np.ndarray", "json", "percentage", "datetime", "{a: int}")),
    ],
)
def test_type_names_of_strangers(name, schema, optional):
    assert read_type(name) == (schema, optional)
    if schema == {} or "(1" in name:
        tool = normalise_tool({"name": "f", "parameters": {"a": {"type": name}}})
        assert tool.notes == (f"type_words_ignored:{name}",)


P = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("spelling", "required"),
    [
        *(({key: {**P, "required": ["a"]}}, ["a"]) for key in ("arguments", "args", "params", "inputSchema")),
        ({"parameters": P, "required": ["b"]}, ["b"]),
        ({"parameters": P["properties"], "required": ["b"]}, ["b"]),
        ({"parameters": {"a": {"type": "str", "required": True}, "b": {"type": "int"}}}, ["a"]),
        ({"parameters": {"a": {"type": "str", "required": "true"}, "b": {"type": "int"}}}, ["a"]),
        ({"parameters": {"a": {"type": "str", "required": False}, "b": {"type": "int"}}}, ["b"]),
        ({"parameters": {"a": {"type": "str", "required": 1}, "b": {"type": "int", "required": 0}}}, ["a"]),
        ({"parameters": {"a": {"type": "str", "required": "optional"}, "b": {"type": "int"}}}, ["b"]),
        ({"parameters": {"a": {"type": "str", "isRequired": True}, "b": {"type": "int"}}}, ["a"]),
        ({"parameters": {"a": {"type": "str", "is_required": False}, "b": {"type": "int"}}}, ["b"]),
        ({"parameters": {"a": {"type": "str"}, "b": {"type": "int", "optional": "true"}}}, ["a"]),
        ({"parameters": P["properties"], "required": '["b"]'}, ["b"]),
        ({"parameters": {**P, "required": '["a"]'}}, ["a"]),
        ({"parameters": {}, "inputSchema": {**P, "required": ["a"]}}, ["a"]),
        ({"parameters": {"type": "object", "properties": {}}, "args": {**P, "required": ["a"]}}, ["a"]),
        ({"parameters": json.dumps({**P, "required": ["a"]})}, ["a"]),
        ({"parameters": [{"name": "a", "type": "str"}, {"name": "b", "type": "int?"}]}, ["a"]),
        ({"parameters": {"allOf": [{**P, "required": ["a"]}]}}, ["a"]),
        ({"parameters": {"$ref": "#/$defs/P", "$defs": {"P": {**P, "required": ["a"]}}}}, ["a"]),
        ({"parameters": {"oneOf": [{**P, "required": ["a", "b"]}, {**P, "required": ["b"]}]}}, ["b"]),
    ],
)
def test_where_strangers_put_parameters_and_what_is_required(spelling, required):
    tool = normalise_tool({"name": "f", **spelling})
    assert tool.parameters["properties"] == P["properties"]
    assert tool.parameters["required"] == required


def test_unknown_keys_of_a_tool_are_noted_or_refused():
    tool = {"name": "f", "parameters": P, "strict": True, "returns": {"type": "object"}, "note": ""}
    record = Record.from_json({"id": "1", "query": "q", "tools": [tool], "steps": [], "lineage": ["x", "x"]})
    assert record.lineage == ("x", "x", "tool_key_ignored:returns")
    assert Record.from_json(record.to_json()) == record
    with pytest.raises(InputError, match="'schema' holds a schema"):
        normalise_tool({"name": "f", "schema": P})
    assert normalise_tool({"name": "f", "output": P}).parameters["properties"] == {}
    for key, value in {
        "api_parameters": [{"name": "a", "type": "str"}],
        "required_parameters": [{"name": "a", "type": "STRING"}],
        "inputs": {"a": "int"},
        "input": ["a"],
        "schema": json.dumps(P),
        "fields": [{"name": "a", "type": "str"}],
    }.items():
        for empty in ({}, {"parameters": {}}, {"parameters": {"type": "object", "properties": {}}}):
            with pytest.raises(InputError, match=f"'{key}' holds a schema"):
                normalise_tool({"name": "f", **empty, key: value})
        assert normalise_tool({"name": "f", "parameters": P, key: value}).notes == (
            f"tool_key_ignored:{key}",
        )


def test_values_stay_what_they_are():
    """What is no constraint, or null, leaves no trace but where null is the value."""
    schema = {"a": {"const": None}, "b": {"type": "string", "const": None, "default": None}, "c": True}
    tool = normalise_tool({"name": "f", "parameters": {"type": "object", "properties": schema}})
    assert tool.parameters["properties"] == {"a": {"const": None}, "b": {"type": "string"}, "c": {}}


def test_a_flat_parameter_may_be_called_type_or_properties():
    tool = normalise_tool(
        {
            "name": "f",
            "parameters": {"type": {"type": "str"}, "properties": {"type": "str", "description": "d"}},
        }
    )
    assert list(tool.parameters["properties"]) == ["type", "properties"]
    assert tool.parameters["required"] == ["type", "properties"]


@pytest.mark.parametrize("bad", [None, [], {}, {"name": ""}, {"name": 3}, {"name": "f", "parameters": [1]}])
def test_bad_tools(bad):
    with pytest.raises(InputError):
        normalise_tool(bad)


def public(*parts):
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"public data folder not found: {path}")
    return path


def test_public_tools_become_valid_schemas():
    with gzip.open(public("mcp_servers", "servers.jsonl.gz"), "rt", encoding="utf-8") as lines:
        found = [tool for line in lines for tool in json.loads(line)["tools"]]
    for path in public("bfcl_v2").glob("BFCL_v2_*.json"):
        found += [f for line in path.read_text("utf-8").splitlines() for f in _functions(json.loads(line))]
    unique = {json.dumps(tool): tool for tool in found}
    assert len(unique) > 8_000
    refused, invalid = [], []
    for i, obj in enumerate(unique.values()):
        try:
            tool = normalise_tool(obj)
        except InputError as e:
            refused.append(e.what)
            continue
        assert normalise_tool(openai_view(tool)) == tool
        # Checking against the metaschema costs a few milliseconds, so every eighth must do.
        if i % 8 == 0 and not _METASCHEMA.is_valid(tool.parameters):
            invalid.append(tool)
    # One server nests a whole schema inside `properties`.
    assert set(refused) == {"parameter 'required' is no mapping but list"}
    assert len(refused) == 6
    assert invalid == []


_METASCHEMA = jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA)


def _functions(row):
    functions = row["function"]
    return functions if isinstance(functions, list) else [functions]


json_words = st.sampled_from(
    ["type", "description", "default", "enum", "items", "required", "optional", "properties", "anyOf", "x"]
)
json_schemas = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(["string", "integer", "str", "List[int]", "", "object", "array"]),
        st.lists(st.sampled_from(["a", "b", "string"]), max_size=2),
    ),
    lambda inner: st.dictionaries(json_words, inner, max_size=4),
    max_leaves=12,
)


@examples(400)
@given(
    st.dictionaries(st.sampled_from("abc"), json_schemas, max_size=3),
    st.lists(st.sampled_from("abcd"), max_size=3),
    st.dictionaries(st.sampled_from(["additionalProperties", "$defs", "title"]), json_schemas, max_size=1),
)
def test_what_is_normal_already_is_what_normalising_gives(properties, required, rest):
    """The short cut for our own files says yes only where the long way changes nothing."""
    parameters = {"type": "object", "properties": properties, "required": required, **rest}
    if is_normal(parameters):
        made = SchemaReader("")._object(parameters, parameters["required"])
        assert json.dumps(made) == json.dumps(parameters)
    try:
        tool = normalise_tool({"name": "f", "parameters": parameters})
    except InputError:
        return
    again = normalise_tool({"name": "f", "parameters": json.loads(json.dumps(tool.parameters))})
    assert again == tool
