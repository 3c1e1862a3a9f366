"""Tool descriptions: every spelling in, one spelling inside (JSON Schema), views out.

Read: the flat xLAM spelling (`parameters: {name: {type, description, default?}}` with Python type names),
JSON Schema, OpenAI tool objects, MCP's `inputSchema`, and BFCL's words (`dict`, `float`, `tuple`, `any`).
`jinja/tools.jinja` reads the JSON Schema spelling in the same way, so that a server's prompt is the
trained one; what it cannot read so it refuses.
"""

from __future__ import annotations

from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.tool_schema import FLAGS, ONE_SCHEMA, SCHEMA_LIST, SCHEMA_MAP, SchemaReader
from xlam_jax.format.type_names import ANY, MAYBE, SCHEMA_TYPE, python_type
from xlam_jax.format.values import Tool

__all__ = ["SCHEMA_KEYS", "normalise_tool", "openai_view", "python_type", "tool_words", "xlam_view"]

SCHEMA_KEYS = ("parameters", "inputSchema", "input_schema", "arguments", "args", "params")
# How keys begin that say what a tool gives back: never its parameters, however much they look like a schema.
_RESULTS = ("output", "response", "result", "return")


def normalise_tool(obj: Any) -> Tool:
    """Reads one tool in any known spelling.

    A parameter is optional when `required` says so (a list of the parameters or of the tool, or flags), else
    when it has a default, its type says `optional`, or others are flagged as required. Keys holding null are
    dropped: typed tables fill them in, and models learn them. What is not understood, keys of the tool and
    type names, stands in the tool's `notes`.

    Raises:
      InputError: no name, parameters that are no mapping, or none where an unknown key holds a schema;
        `where` names the tool.
    """
    if isinstance(obj, Tool):
        return obj
    outer: dict[str, Any] = {}
    if isinstance(obj, dict) and isinstance(obj.get("function"), dict):
        outer = {k: v for k, v in obj.items() if k not in ("function", "type")}
        obj = obj["function"]
    if not isinstance(obj, dict) or not isinstance(obj.get("name"), str) or not obj["name"]:
        raise InputError("a tool needs a name", where=f"tool {str(obj)[:80]}")
    reader = SchemaReader(f"tool {obj['name']}")
    description = obj.get("description") or ""
    if not isinstance(description, str):
        raise InputError(
            f"description is no text but {type(description).__name__}", where=reader.where, hint="a string"
        )
    key = next((k for k in SCHEMA_KEYS if obj.get(k) is not None), None)
    known = ("name", "description", "type", "strict", "required", key)
    unknown = {k: v for k, v in {**outer, **obj}.items() if k not in known and v not in (None, "", [], {})}
    for name, value in unknown.items():
        if key is None and not name.lower().startswith(_RESULTS) and _looks_like_schema(value):
            raise InputError(
                f"no parameters, but the unknown key {name!r} holds a schema",
                where=reader.where,
                hint="parameters",
            )
        reader.note("tool_key_ignored", name)
    schema = reader.parameters(
        obj[key] if key else {}, obj.get("required", outer.get("required")), key or "parameters"
    )
    return Tool(obj["name"], description, schema, tuple(dict.fromkeys(reader.notes)))


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


def tool_words() -> dict[str, Any]:
    """The words that `jinja/tools.jinja` reads by; a type of "" demands nothing."""
    return {
        "schema_keys": SCHEMA_KEYS,
        "results": _RESULTS,
        "flags": {word: str(value).lower() for word, value in FLAGS.items()},
        "types": {**SCHEMA_TYPE, **dict.fromkeys(sorted(ANY), "")},
        "maybe": MAYBE,
        "one": ONE_SCHEMA,
        "lists": SCHEMA_LIST,
        "maps": [key for key in SCHEMA_MAP if key != "properties"],
    }


def _looks_like_schema(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("properties"), dict) or value.get("type") in ("object", "dict"):
        return True
    return all(isinstance(v, dict) and isinstance(v.get("type"), str) for v in value.values())
