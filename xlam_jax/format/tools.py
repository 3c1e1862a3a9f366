"""Tool descriptions: every spelling in, one spelling inside (JSON Schema), views out.

Read: the flat xLAM spelling (`parameters: {name: {type, description, default?}}` with Python type names),
JSON Schema, OpenAI tool objects, MCP's `inputSchema`, and BFCL's words (`dict`, `float`, `tuple`, `any`).
`jinja/tools.jinja` reads the JSON Schema spelling in the same way, so that a server's prompt is the
trained one; what it cannot read so it refuses.
"""

from __future__ import annotations

from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_keys import ARGUMENT_KEYS, BESIDE
from xlam_jax.format.tool_schema import (
    FLAG_KEYS,
    FLAGS,
    ONE_SCHEMA,
    SCHEMA_LIST,
    SCHEMA_MAP,
    TRUTHS,
    SchemaReader,
)
from xlam_jax.format.type_names import ANY, MAYBE, SCHEMA_TYPE, python_type
from xlam_jax.format.values import Tool

__all__ = ["SCHEMA_KEYS", "normalise_tool", "openai_view", "python_type", "tool_words", "xlam_view"]

SCHEMA_KEYS = ("parameters", "inputSchema", "input_schema", "arguments", "args", "params")
# How keys begin that say what a tool gives back: never its parameters, however much they look like a schema.
_RESULTS = ("output", "response", "result", "return")
# What keys hold that speak of parameters, whatever stands under them looks like.
_INPUTS = ("param", "arg", "input", "schema", "propert")


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
    for wrapper in ("function", "toolSpec"):  # OpenAI's, and Bedrock's
        if isinstance(obj, dict) and isinstance(function := obj.get(wrapper), dict):
            outer = {k: v for k, v in obj.items() if k not in (wrapper, "type")}
            obj = {**outer, **{k: v for k, v in function.items() if v is not None}}
    if not isinstance(obj, dict) or not isinstance(obj.get("name"), str) or not obj["name"]:
        raise InputError("a tool needs a name", where=f"tool {str(obj)[:80]}")
    reader = SchemaReader(f"tool {obj['name']}")
    description = obj.get("description") or ""
    if not isinstance(description, str):
        raise InputError(
            f"description is no text but {type(description).__name__}", where=reader.where, hint="a string"
        )
    given = [k for k in SCHEMA_KEYS if obj.get(k) is not None]
    key = next((k for k in given if not _is_hollow(obj[k])), given[0] if given else None)
    known = ("name", "description", "type", "strict", "required", key)
    for name, value in obj.items():
        if name in known or value in (None, "", [], {}):
            continue
        if (key is None or _is_hollow(obj[key])) and _holds_parameters(name.lower(), value):
            raise InputError(
                f"no parameters, but the unknown key {name!r} holds a schema",
                where=reader.where,
                hint="parameters",
            )
        reader.note("tool_key_ignored", name)
    schema = reader.parameters(obj[key] if key else {}, obj.get("required"), key or "parameters")
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
    """The words that the chat template reads tools and calls by; a type of "" demands nothing."""
    return {
        "argument_keys": ARGUMENT_KEYS,
        "beside": BESIDE,
        "schema_keys": SCHEMA_KEYS,
        "results": _RESULTS,
        "inputs": _INPUTS,
        "flag_keys": FLAG_KEYS,
        "flags": {word: str(value).lower() for word, value in FLAGS.items()},
        "truths": {word: str(value).lower() for word, value in TRUTHS.items()},
        "types": {**SCHEMA_TYPE, **dict.fromkeys(sorted(ANY), "")},
        "maybe": MAYBE,
        "one": ONE_SCHEMA,
        "lists": SCHEMA_LIST,
        "maps": [key for key in SCHEMA_MAP if key != "properties"],
    }


def _is_hollow(value: Any) -> bool:
    """Whether a schema of all parameters names none: another key may then hold them."""
    if isinstance(value, str):
        return value.strip() in ("", "{}", "[]", "null")
    if not isinstance(value, dict):
        return value in (None, [])
    typed = value.get("type") in ("object", "dict") or "properties" in value
    full = any(isinstance(v, dict | list) and v for v in value.values())
    return not value or (typed and not full and not value.get("properties"))


def _holds_parameters(key: str, value: Any) -> bool:
    """Whether what stands under an unknown key may be the parameters, so that without it the tool had none."""
    if key.startswith(_RESULTS) or _is_hollow(value):
        return False
    if any(word in key for word in _INPUTS) and "example" not in key:
        return isinstance(value, dict | list) or (isinstance(value, str) and value.strip()[:1] in ("{", "["))
    if isinstance(value, list):
        return all(isinstance(v, dict) and {"name", "type"} <= v.keys() for v in value)
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("properties"), dict) or value.get("type") in ("object", "dict"):
        return True
    return all(isinstance(v, dict) and isinstance(v.get("type"), str) for v in value.values())
