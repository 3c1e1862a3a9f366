"""JSON Schemas of arguments, for grammars: what a grammar engine understands of a tool's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def closed(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else [k for k in properties if k in required],
        "additionalProperties": False,
    }


def value_schema(schema: Any) -> dict[str, Any]:
    """Keeps what shapes a value, and drops what grammar engines refuse (formats, defaults, references)."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(schema.get("properties"), dict):
        properties = {k: value_schema(v) for k, v in schema["properties"].items()}
        return closed(properties, schema.get("required") or ())
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return {"enum": schema["enum"]}
    if "const" in schema:
        return {"const": schema["const"]}
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return {"anyOf": [value_schema(option) for option in schema[key]]}
    kept = {k: schema[k] for k in ("type", "minItems", "maxItems") if k in schema}
    if isinstance(schema.get("items"), dict):
        kept["items"] = value_schema(schema["items"])
    return kept
