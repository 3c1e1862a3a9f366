"""OpenAPI 3 and Swagger 2 documents: one tool an operation.

A tool's parameters are the operation's path, query and header parameters and, lifted to the same level, the
properties of its request body. References are resolved in place; one that leads back into itself is cut to
a plain object. Written from the OpenAPI 3.0/3.1 and Swagger 2.0 specifications.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.schema_meaning import number_of
from xlam_jax.format.tool_schema import point
from xlam_jax.format.tools import normalise_tool
from xlam_jax.format.values import Tool

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# The specification says that parameters of these names are to be ignored.
_OWN_HEADERS = ("accept", "content-type", "authorization")
_KEPT = (
    *("type", "description", "enum", "default", "format", "pattern", "const", "required", "uniqueItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
_NUMBERS = ("default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_DEPTH = 12  # of nested references: a schema deeper than this teaches a model nothing
_NODES = 2000  # of one tool's schemas


def operations(document: Any) -> Iterator[tuple[str, str]]:
    """`(path, method)` of every operation, in the order of the document.

    Raises:
      InputError: no OpenAPI or Swagger document.
    """
    if not is_openapi(document):
        raise InputError("not an OpenAPI document: no openapi or swagger version beside paths")
    for path, item in document["paths"].items():
        item = _follow(document, item)
        yield from ((str(path), method) for method in METHODS if isinstance(item.get(method), dict))


def is_openapi(document: Any) -> bool:
    """Whether this is an OpenAPI 3 or Swagger 2 document with paths."""
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        return False
    return "openapi" in document or "swagger" in document


def operation_tool(document: dict[str, Any], path: str, method: str) -> Tool:
    """The tool of one operation, named by its `operationId`, else `method_path`.

    Raises:
      InputError: no such operation.
    """
    item = _follow(document, document["paths"].get(path))
    operation = item.get(method)
    if not isinstance(operation, dict):
        raise InputError("no such operation", where=f"{method.upper()} {path}")
    schemas = _Schemas(document)
    parameters: dict[str, tuple[dict[str, Any], bool]] = {}
    body: dict[str, Any] | None = None
    for parameter in _parameters(document, item, operation):
        if parameter["in"] == "body":  # Swagger 2
            body = parameter
        else:
            parameters[parameter["name"]] = _parameter(schemas, parameter)
    if isinstance(operation.get("requestBody"), dict):
        body = _follow(document, operation["requestBody"])
    if body is not None:
        # A parameter of the same name came first and keeps it.
        parameters = {**_body(schemas, body), **parameters}
    schema = {
        "type": "object",
        "properties": {name: schema for name, (schema, _) in parameters.items()},
        "required": [name for name, (_, required) in parameters.items() if required],
    }
    texts = [str(operation.get(key) or "").strip() for key in ("summary", "description")]
    text = texts[1] if texts[0] in texts[1] else "\n".join(filter(None, texts))
    return normalise_tool({"name": _name(operation, path, method), "description": text, "parameters": schema})


def place_of(document: dict[str, Any], path: str, method: str) -> dict[str, str]:
    """Where each parameter of an operation's tool goes in a request: path, query, header, form or body.

    A body that is no object is the one parameter `body`, whose place is `whole`.
    """
    item = _follow(document, document["paths"].get(path))
    operation = item[method]
    given = _parameters(document, item, operation)
    places: dict[str, str] = {
        p["name"]: "form" if p["in"] == "formData" else str(p["in"]) for p in given if p["in"] != "body"
    }
    body = next((p for p in given if p["in"] == "body"), None)
    if isinstance(operation.get("requestBody"), dict):
        body = _follow(document, operation["requestBody"])
    if body is not None:
        names = _body(_Schemas(document), body)
        whole = "whole" if not _has_properties(document, body) else "body"
        places = {**dict.fromkeys(names, whole), **places}
    return places


def _has_properties(document: dict[str, Any], body: dict[str, Any]) -> bool:
    given = _media(body["content"]) if isinstance(body.get("content"), dict) else body.get("schema")
    return isinstance(_Schemas(document).read(given).get("properties"), dict)


def _name(operation: dict[str, Any], path: str, method: str) -> str:
    own = str(operation.get("operationId") or "").strip()
    return re.sub(r"\s+", "_", own) if own else re.sub(r"[\W_]+", "_", f"{method}_{path}").strip("_")


def _parameters(
    document: dict[str, Any], item: dict[str, Any], operation: dict[str, Any]
) -> list[dict[str, Any]]:
    """Of the path and of the operation, which wins under the same name and place."""
    by_place: dict[tuple[str, str], dict[str, Any]] = {}
    for given in [*(item.get("parameters") or []), *(operation.get("parameters") or [])]:
        parameter = _follow(document, given)
        name, place = parameter.get("name"), parameter.get("in")
        if not isinstance(name, str) or place not in ("path", "query", "header", "formData", "body"):
            continue
        if place == "header" and name.lower() in _OWN_HEADERS:
            continue
        by_place[name, place] = parameter
    return list(by_place.values())


def _parameter(schemas: _Schemas, parameter: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    given = parameter.get("schema")
    if given is None and isinstance(parameter.get("content"), dict):
        given = _media(parameter["content"])
    # Swagger 2 writes the schema's keys into the parameter, where `required` is about the parameter.
    if given is None:
        given = {k: v for k, v in parameter.items() if k != "required"}
    schema = schemas.read(given)
    if parameter.get("description"):
        schema["description"] = parameter["description"]
    return schema, parameter.get("required") is True or parameter["in"] == "path"


def _body(schemas: _Schemas, body: dict[str, Any]) -> dict[str, tuple[dict[str, Any], bool]]:
    """The properties of an object body; any other body is one parameter, `body`."""
    given = _media(body["content"]) if isinstance(body.get("content"), dict) else body.get("schema")
    schema = schemas.read(given)
    if isinstance(schema.get("properties"), dict):
        required = schema.get("required") or ()
        return {name: (inner, name in required) for name, inner in schema["properties"].items()}
    if body.get("description"):
        schema.setdefault("description", body["description"])
    return {"body": (schema, body.get("required") is True)}


def _media(content: dict[str, Any]) -> Any:
    """The schema of the JSON variant, else of the first one."""
    media = [v for k, v in content.items() if "json" in k.lower()] or list(content.values())
    return media[0].get("schema") if media and isinstance(media[0], dict) else None


@dataclass
class _Schemas:
    """Reads the schemas of one tool; `left` nodes more, for references upon references grow without end."""

    document: dict[str, Any]
    left: int = _NODES

    def read(self, node: Any, trail: tuple[str, ...] = ()) -> dict[str, Any]:
        """The schema with its references put in, without what only documents a response or an example.

        `trail` are the references that lead here.
        """
        if not isinstance(node, dict):
            return {}
        self.left -= 1
        reference = node.get("$ref")
        if isinstance(reference, str):
            if reference in trail or len(trail) >= _DEPTH or self.left < 0:
                return {"type": "object"}
            # OpenAPI 3.1 lets a description stand beside a reference.
            beside = {"description": node["description"]} if node.get("description") else {}
            return {**self.read(point(self.document, reference), (*trail, reference)), **beside}
        out = _own_keys(node)
        if self.left < 0:
            return out
        if isinstance(node.get("properties"), dict):
            out["type"] = "object"
            out["properties"] = {
                str(name): self.read(inner, trail)
                for name, inner in node["properties"].items()
                if not (isinstance(inner, dict) and inner.get("readOnly") is True)
            }
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                out[key] = self.read(node[key], trail)
        for key in ("anyOf", "oneOf"):
            if isinstance(node.get(key), list):
                out[key] = [self.read(inner, trail) for inner in node[key]]
        if isinstance(node.get("allOf"), list):
            out = functools.reduce(_merge, [*(self.read(inner, trail) for inner in node["allOf"]), out])
        if node.get("nullable") is True and isinstance(out.get("type"), str):
            out["type"] = [out["type"], "null"]
            if isinstance(out.get("enum"), list) and None not in out["enum"]:
                out["enum"] = [*out["enum"], None]
        return out


def _own_keys(node: dict[str, Any]) -> dict[str, Any]:
    """The node's keywords that hold no schemas, as JSON Schema has them."""
    out = {key: node[key] for key in _KEPT if key in node}
    if out.get("type") == "file":  # Swagger 2: the file's content
        out["type"] = "string"
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        # A flag beside the bound before OpenAPI 3.1.
        if isinstance(out.get(key), bool) and out.pop(key) and bound in out:
            out[key] = out.pop(bound)
    if not isinstance(out.get("required", []), list):
        del out["required"]
    if out.get("type") in ("integer", "number"):
        for key in _NUMBERS:  # numbers written as text, as they often are
            if isinstance(out.get(key), str) and (number := number_of(out[key])) is not None:
                out[key] = number
    if node.get("additionalProperties") is False:
        out["additionalProperties"] = False
    return out


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both schemas as one: properties and required names united, of other keys those of `above` win."""
    out = {**below, **above}
    if "properties" in below and "properties" in above:
        out["properties"] = {**below["properties"], **above["properties"]}
    if "required" in below and "required" in above:
        out["required"] = list(dict.fromkeys([*below["required"], *above["required"]]))
    return out


def _follow(document: dict[str, Any], node: Any) -> dict[str, Any]:
    """`node`, or what it refers to."""
    for _ in range(_DEPTH):
        if not isinstance(node, dict):
            return {}
        if not isinstance(node.get("$ref"), str):
            return node
        node = point(document, node["$ref"])
    return {}
