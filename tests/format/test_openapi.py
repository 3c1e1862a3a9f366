"""OpenAPI documents -> tools; jsonschema judges the schemas that come out."""

import jsonschema
import pytest

from xlam_jax.errors import InputError
from xlam_jax.format import Tool
from xlam_jax.format.openapi import is_openapi, operation_tool, operations


def v3(paths, **schemas):
    return {"openapi": "3.0.0", "info": {"title": "T"}, "paths": paths, "components": {"schemas": schemas}}


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def body(schema, **more):
    return {"requestBody": {"content": {"text/plain": {}, "application/json": {"schema": schema}}, **more}}


def test_parameters_of_path_and_operation():
    item = {
        "summary": "Pets",
        "parameters": [
            {"name": "id", "in": "path", "schema": {"type": "integer"}},
            {"name": "lang", "in": "query", "schema": {"type": "string"}},
            {"name": "Authorization", "in": "header", "required": True, "schema": {"type": "string"}},
            {"name": "session", "in": "cookie", "schema": {"type": "string"}},
        ],
        "get": {
            "operationId": "get pet",
            "summary": "A pet",
            "description": "Finds a pet.",
            "parameters": [
                {
                    "name": "lang",
                    "in": "query",
                    "description": "Of the answer.",
                    "required": True,
                    "schema": {"type": "string", "enum": ["en", "de"], "example": "en"},
                },
                {"name": "X-Trace", "in": "header", "schema": {"type": "boolean", "nullable": True}},
                {"name": "where", "in": "query", "content": {"application/json": {"schema": ref("Place")}}},
            ],
        },
        "delete": {},
    }
    place = {"type": "object", "properties": {"x": {"type": "number", "minimum": "0", "default": "1.5"}}}
    document = v3({"/pets/{id}": item}, Place=place)
    assert list(operations(document)) == [("/pets/{id}", "get"), ("/pets/{id}", "delete")]
    assert operation_tool(document, "/pets/{id}", "get") == Tool(
        "get_pet",
        "A pet\nFinds a pet.",
        {
            "type": "object",
            "properties": {
                "id": {"type": "integer"},
                "lang": {"type": "string", "enum": ["en", "de"], "description": "Of the answer."},
                "X-Trace": {"type": ["boolean", "null"]},
                "where": {
                    "type": "object",
                    "properties": {"x": {"type": "number", "minimum": 0, "default": 1.5}},
                },
            },
            "required": ["id", "lang"],
        },
    )
    assert operation_tool(document, "/pets/{id}", "delete").name == "delete_pets_id"


def test_bodies():
    pet = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    dog = {
        "allOf": [
            ref("Pet"),
            {"properties": {"age": {"type": "integer"}, "id": {"readOnly": True}}, "required": ["age"]},
        ]
    }
    paths = {
        "/dogs": {
            "post": {
                "parameters": [{"name": "name", "in": "query", "schema": {"type": "integer"}}],
                **body(ref("Dog"), required=True),
            },
            "put": body({"type": "array", "items": ref("Pet")}, required=True, description="All."),
        },
        "/shared": {"post": {"requestBody": {"$ref": "#/components/requestBodies/Dog"}}},
    }
    document = v3(paths, Pet=pet, Dog=dog)
    document["components"]["requestBodies"] = {"Dog": body(ref("Dog"))["requestBody"]}
    post = operation_tool(document, "/dogs", "post").parameters
    # The query parameter keeps the name that the body has as well.
    assert post["properties"] == {"name": {"type": "integer"}, "age": {"type": "integer"}}
    assert post["required"] == ["age"]
    put = operation_tool(document, "/dogs", "put").parameters
    assert put["properties"]["body"] == {"type": "array", "items": pet, "description": "All."}
    assert put["required"] == ["body"]
    assert operation_tool(document, "/shared", "post").parameters["required"] == ["name", "age"]


def test_references_in_a_circle_are_cut():
    node = {"type": "object", "properties": {"value": {"type": "string"}, "next": ref("Node")}}
    document = v3(
        {"/n": {"post": body(ref("Node")), "put": body(ref("A"))}}, Node=node, A=ref("B"), B=ref("A")
    )
    schema = operation_tool(document, "/n", "post").parameters
    assert schema["properties"]["next"] == {"type": "object"}
    jsonschema.Draft202012Validator.check_schema(schema)
    assert operation_tool(document, "/n", "put").parameters["properties"] == {"body": {"type": "object"}}


def test_references_to_nowhere_demand_nothing():
    parameters = [{"$ref": "#/components/parameters/None"}, {"name": "a", "in": "query", "schema": ref("No")}]
    parameters.append({"name": "b", "in": "query", "schema": {"$ref": "other.yaml#/X"}})
    document = v3({"/a": {"get": {"parameters": parameters}}})
    assert operation_tool(document, "/a", "get").parameters["properties"] == {"a": {}, "b": {}}


def test_bounds_of_3_0_are_those_of_json_schema():
    schema = {
        "type": "integer",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 9,
        "exclusiveMaximum": False,
    }
    document = v3({"/a": {"get": {"parameters": [{"name": "a", "in": "query", "schema": schema}]}}})
    (made,) = operation_tool(document, "/a", "get").parameters["properties"].values()
    assert made == {"type": "integer", "exclusiveMinimum": 0, "maximum": 9}


def test_swagger_2():
    document = {
        "swagger": "2.0",
        "paths": {
            "/pets": {
                "post": {
                    "parameters": [
                        {
                            "name": "tag",
                            "in": "query",
                            "type": "array",
                            "items": {"type": "string"},
                            "required": True,
                        },
                        {"name": "file", "in": "formData", "type": "file"},
                        {"name": "pet", "in": "body", "schema": {"$ref": "#/definitions/Pet"}},
                    ]
                }
            }
        },
        "definitions": {"Pet": {"properties": {"name": {"type": "string"}}, "required": ["name"]}},
    }
    assert operation_tool(document, "/pets", "post").parameters == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tag": {"type": "array", "items": {"type": "string"}},
            "file": {"type": "string"},
        },
        "required": ["name", "tag"],
    }


def test_what_is_no_document():
    assert not is_openapi([]) and not is_openapi({"paths": {}}) and not is_openapi({"openapi": "3.0.0"})
    with pytest.raises(InputError, match="not an OpenAPI document"):
        list(operations({"paths": {}}))
    with pytest.raises(InputError, match="no such operation"):
        operation_tool(v3({}), "/a", "get")


def test_references_upon_references_end():
    # Each of thirty schemas refers to all others: written out to the depth of ten, that is 30^10 nodes.
    names = [f"S{i}" for i in range(30)]
    schemas = {n: {"type": "object", "properties": {m: ref(m) for m in names}} for n in names}
    tool = operation_tool(v3({"/a": {"post": body(ref("S0"))}}, **schemas), "/a", "post")
    assert list(tool.parameters["properties"]) == names
    assert len(str(tool.parameters)) < 200_000
