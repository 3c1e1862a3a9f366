"""Tool descriptions: every spelling in, one spelling inside (JSON Schema), views out.

Read: the flat xLAM spelling (`parameters: {name: {type, description, default?}}` with Python type names),
JSON Schema, OpenAI tool objects, MCP's `inputSchema`, and BFCL's words (`dict`, `float`, `tuple`, `any`).
"""

from __future__ import annotations

from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.record import Tool
from xlam_jax.format.type_names import python_type, read_type

__all__ = ["normalise_tool", "openai_view", "python_type", "xlam_view"]

_SCHEMA_KEYS = ("parameters", "inputSchema", "input_schema")
_JSON_TYPES = frozenset(("string", "integer", "number", "boolean", "array", "object", "null"))
# Words that `_schema` may write in another way.
_REWRITTEN = frozenset(("optional", "required", "properties", "prefixItems", "anyOf", "oneOf", "allOf"))


def normalise_tool(obj: Any) -> Tool:
    """Reads one tool in any known spelling.

    A parameter is optional when `required` says so (list or flag), else when it has a default or its type
    says `optional`. Keys holding null are dropped: typed tables fill them in, and models learn them.

    Raises:
      InputError: no name, or parameters that are no mapping; `where` names the tool.
    """
    if isinstance(obj, Tool):
        return obj
    if isinstance(obj, dict) and isinstance(obj.get("function"), dict):
        obj = obj["function"]
    if not isinstance(obj, dict) or not isinstance(obj.get("name"), str) or not obj["name"]:
        raise InputError("a tool needs a name", where=f"tool {str(obj)[:80]}")
    where = f"tool {obj['name']}"
    key = next((k for k in _SCHEMA_KEYS if obj.get(k) is not None), None)
    parameters = obj[key] if key else {}
    if not isinstance(parameters, dict):
        raise InputError(f"{key} is no mapping but {type(parameters).__name__}", where=where)
    if _is_normal(parameters):
        schema = parameters
    elif _is_schema(parameters):
        schema = _object(parameters, where)
    else:
        listed = parameters.get("required")
        listed = listed if isinstance(listed, list) else None
        parameters = {k: v for k, v in parameters.items() if v is not listed}
        schema = _object({"properties": parameters, "required": listed}, where, flat=True)
    return Tool(obj["name"], obj.get("description") or "", schema)


def xlam_view(tool: Tool) -> dict[str, Any]:
    """The reduced schema a prompt shows: `{name, description, parameters: {parameter: schema}}`.

    Optionality: a default is shown as `default`; an optional parameter without one gets
    `"required": false`; a required one carries nothing. (An optional object that lists its own required
    keys keeps that list, since one key cannot say both.)
    """
    view: dict[str, Any] = {"name": tool.name}
    if tool.description:
        view["description"] = tool.description
    required = tool.parameters.get("required", ())
    view["parameters"] = {
        name: schema
        if name in required or "default" in schema or "required" in schema
        else {**schema, "required": False}
        for name, schema in tool.parameters.get("properties", {}).items()
    }
    return view


def openai_view(tool: Tool) -> dict[str, Any]:
    """The tool object of OpenAI's chat API, which chat templates and servers take."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _is_schema(parameters: dict[str, Any]) -> bool:
    if isinstance(parameters.get("type"), str):
        return True
    properties = parameters.get("properties")
    if not isinstance(properties, dict) or "type" in parameters:
        return False
    # A flat spelling may have a parameter called "properties"; its description then holds texts.
    return all(isinstance(value, dict) for value in properties.values())


def _is_normal(parameters: dict[str, Any]) -> bool:
    """Whether `_object` would give the same back, as it does for our own files; a no costs time only."""
    properties, required = parameters.get("properties"), parameters.get("required")
    return (
        parameters.get("type") == "object"
        and isinstance(properties, dict)
        and isinstance(required, list)
        and list(parameters)[:3] == ["type", "properties", "required"]
        and None not in parameters.values()
        and all(map(_is_normal_value, properties.values()))
        and required == [name for name in properties if name in required]
    )


def _is_normal_value(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    for key, value in schema.items():
        if key == "type":
            if value.__class__ is not str or value not in _JSON_TYPES:
                return False
        elif key in ("items", "additionalProperties"):
            if value.__class__ is not bool and not _is_normal_value(value):
                return False
        elif value is None or key in _REWRITTEN or (key == "description" and not value):
            return False
    return True


def _object(node: dict[str, Any], where: str, flat: bool = False) -> dict[str, Any]:
    """Normalises an object schema: `type, properties, required`, then whatever else it says."""
    properties, required = {}, []
    listed = node.get("required")
    listed = listed if isinstance(listed, list) else None
    for name, child in (node.get("properties") or {}).items():
        if child is None:
            continue
        if isinstance(child, str):
            child = {"type": child}
        if not isinstance(child, dict):
            raise InputError(f"parameter {name!r} is no mapping but {type(child).__name__}", where=where)
        schema, optional = _schema(child, where)
        flag = child.get("required") if isinstance(child.get("required"), bool) else None
        if flag is None:
            if listed is not None:
                flag = name in listed
            else:
                flag = flat and not (optional or "default" in child)
        properties[name] = schema
        if flag:
            required.append(name)
    rest = {k: v for k, v in node.items() if k not in ("type", "properties", "required") and v is not None}
    return {"type": "object", "properties": properties, "required": required, **rest}


def _schema(node: dict[str, Any], where: str) -> tuple[dict[str, Any], bool]:
    """Normalises one parameter's schema and tells whether its own words call it optional."""
    out: dict[str, Any] = {}
    optional = node.get("optional") is True
    for key, value in node.items():
        if (
            value is None
            or key in ("optional", "properties", "required")
            or (key == "description" and not value)
        ):
            continue
        if key == "type":
            read, says_optional = _type(value)
            optional |= says_optional
            out.update(read)
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = _schema(value, where)[0]
        elif key in ("items", "prefixItems", "anyOf", "oneOf", "allOf") and isinstance(value, list):
            # Drafts before 2020-12 wrote the schemas of a fixed-length array under `items`.
            key = "prefixItems" if key == "items" else key
            out[key] = [_schema(v, where)[0] if isinstance(v, dict) else v for v in value]
        else:
            out[key] = value
    if isinstance(node.get("properties"), dict):
        inner = _object({k: node.get(k) for k in ("properties", "required")}, where)
        out = {**out, "type": "object", "properties": inner["properties"]}
        if inner["required"]:
            out["required"] = inner["required"]
    elif isinstance(node.get("required"), list):
        out["required"] = node["required"]
    return out, optional


def _type(value: Any) -> tuple[dict[str, Any], bool]:
    if isinstance(value, list):
        kinds = [read_type(v)[0].get("type") for v in value if isinstance(v, str)]
        kinds = list(dict.fromkeys(k for k in kinds if isinstance(k, str)))
        return ({"type": kinds} if kinds else {}), False
    return read_type(value) if isinstance(value, str) else ({}, False)
