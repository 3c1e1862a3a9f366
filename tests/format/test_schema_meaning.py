"""Strangers' schemas: what they mean is checked, and what cannot be read is said with its place."""

import json

import jsonschema
import pytest

from xlam_jax.format import Record, Step, ToolCall, normalise_tool
from xlam_jax.format.schema_meaning import meaning
from xlam_jax.records.quality.rules import RuleConfig, Rules
from xlam_jax.records.quality.schema_check import check_call

METASCHEMA = jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA)
OBJECT = {"type": "object", "properties": {"n": {"type": "int"}}, "required": ["n"]}
# schema of the parameter p; values it admits; values it does not (written by hand from the specifications)
MEANT = {
    "draft-4 bounds": ({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, [1], [0, "1"]),
    "bounds as text": ({"type": "number", "minimum": "0.5", "maximum": "2"}, [0.5, 2], [0.4, 3, "1"]),
    "a flag that is off": ({"type": "integer", "maximum": 3, "exclusiveMaximum": False}, [3], [4]),
    "nullable": ({"type": "string", "nullable": True, "enum": ["a"]}, ["a", None], ["b", 1]),
    "nullable reference": ({"$ref": "#/$defs/O", "nullable": True}, [None, {"n": 1}], [{"n": "x"}, 3]),
    "type list": ({"type": ["object", "null"], **{k: OBJECT[k] for k in ("properties", "required")}},
                  [None, {"n": 1}], [{}, "x"]),
    "const null": ({"const": None}, [None], [0, "null", False]),
    "pattern of ECMA": ({"type": "string", "pattern": "^\\p{Lu}{2}$"}, ["ÅB"], ["ab", "ABC", 3]),
    "named group of ECMA": ({"type": "string", "pattern": "^(?<y>\\d{4})$"}, ["2024"], ["24"]),
    "list under items": ({"type": "array", "items": [{"type": "integer"}, {"type": "string"}]},
                         [[1, "a"], [1]], [["a"], 1]),
    "boolean items": ({"type": "array", "items": True}, [[1, "a"]], ["a"]),
    "false property": ({"type": "object", "properties": {"a": False}}, [{}, {"b": 1}], [{"a": 1}]),
    "reference to a neighbour": ({"$ref": "#/properties/other"}, [1], ["a"]),
    "reference to itself": ({"$ref": "#/$defs/Tree"}, [{"k": [{"k": []}]}], [{"k": [{"k": 1}]}]),
    "chain of references": ({"$ref": "#/$defs/A"}, [{"n": 1}], [{"n": 1.5}]),
    "words beside a reference": ({"$ref": "#/$defs/I", "minimum": 3}, [3], [2, "3"]),
    "allOf": ({"allOf": [{"type": "string"}, {"enum": ["a", "b"]}]}, ["a"], ["c", 1]),
    "anyOf beside type": ({"type": "string", "anyOf": [{"minLength": 3}, {"const": "a"}]}, ["a", "abc"], ["b", 1]),
    "typed map": ({"type": "object", "additionalProperties": {"type": "int"}}, [{"a": 1}], [{"a": "x"}]),
    "choices of items": ({"type": "array", "enum": ["a", "b"]}, [["a"], []], [["c"]]),
    "choices as text": ({"type": "integer", "enum": ["1", "2"]}, [1], [3]),
    "numbers as choices of a text": ({"type": "string", "enum": [1, 2.5]}, ["1", "2.5"], [1, "3"]),
    "numbers as choices of a text or null": ({"type": ["string", "null"], "enum": [1, None]}, ["1", None], [1]),
    "choices as text or null": ({"type": ["integer", "null"], "enum": ["1", None]}, [1, None], ["1"]),
    "truths as text": ({"type": "boolean", "enum": ["True", "dontcare"]}, [True], [False, "True", "dontcare"]),
    "counts as text": ({"type": "array", "minItems": "1"}, [[1]], [[]]),
}  # fmt: skip
DEFS = {
    "O": OBJECT,
    "I": {"type": "int"},
    "A": {"$ref": "#/$defs/B"},
    "B": {"allOf": [{"$ref": "#/$defs/O"}]},
    "Tree": {"type": "object", "properties": {"k": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}},
}


def offered(schema):
    properties = {"p": schema, "other": {"type": "integer"}}
    return normalise_tool(
        {"name": "f", "parameters": {"type": "object", "properties": properties, "$defs": DEFS}}
    )


def faults(tool, value, **kwargs):
    return [f.code for f in check_call(ToolCall("f", {"p": value}), {"f": tool}, **kwargs)]


@pytest.mark.parametrize("name", MEANT)
def test_what_is_meant_is_checked(name):
    schema, good, bad = MEANT[name]
    tool = offered(schema)
    for value in good:
        assert faults(tool, value, unverifiable=True) == [], value
    for value in bad:
        assert len(faults(tool, value, unverifiable=True)) == 1, value
    # A schema that any validator takes, with all its references inside.
    found = meaning(tool.parameters["properties"]["p"], tool.parameters)
    assert METASCHEMA.is_valid(found.schema)
    assert meaning(found.schema).unread == ()


UNREAD = {
    "dangling": ({"$ref": "#/$defs/none"}, "#/$ref", 1),
    "another document": ({"$ref": "https://example.org/x.json"}, "#/$ref", 1),
    "circle": ({"$ref": "#/$defs/C", "type": "integer"}, "#/$defs/C/allOf/0/$ref", 1),
    "multipleOf": ({"type": "integer", "multipleOf": 0}, "#/multipleOf", 1),
    "pattern": ({"type": "string", "pattern": "(["}, "#/pattern", "x"),
    "empty choices": ({"type": "integer", "enum": []}, "#/enum", 1),
    "bound": ({"type": "integer", "minimum": "none"}, "#/minimum", 1),
    "deep": ({"type": "object", "properties": {"a": {"type": "string", "maxLength": -1}}},
             "#/properties/a/maxLength", {"a": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_cannot_be_read_is_said_and_the_type_is_checked(name):
    schema, place, value = UNREAD[name]
    defs = {"C": {"allOf": [{"$ref": "#/$defs/C"}]}}
    parameters = {"type": "object", "properties": {"p": schema}, "$defs": defs}
    tool = normalise_tool({"name": "f", "parameters": parameters})
    step = Step(tool_calls=(ToolCall("f", {"p": value}),))
    fixed, entry = Rules(RuleConfig()).apply(Record("1", f"use {json.dumps(value)}", (tool,), (step,)))
    assert entry.verdict == "pass" and f"p: {place}: " in entry.detail
    assert "flagged:unverifiable" in fixed.lineage
    if "type" in schema:
        assert faults(tool, ["x"]) == ["wrong_type"]


def test_arguments_beyond_the_named_ones_and_together():
    parameters = {
        "type": "object",
        "properties": {"a": {}, "b": {}},
        "additionalProperties": {"type": "int"},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    tool = {"f": normalise_tool({"name": "f", "parameters": parameters})}
    assert check_call(ToolCall("f", {"a": 1, "more": 2}), tool) == []
    assert [f.code for f in check_call(ToolCall("f", {"a": 1, "more": "x"}), tool)] == ["wrong_type"]
    assert [f.code for f in check_call(ToolCall("f", {"more": 2}), tool)] == ["out_of_bounds"]
