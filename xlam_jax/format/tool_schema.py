"""The schema of a tool's parameters, however it is spelled, as JSON Schema: read once, for every door.

A JSON Schema keeps its keys and their order; `jinja/tools.jinja` reads and writes it in the same way.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from xlam_jax.errors import InputError
from xlam_jax.format.type_names import null_type, read_type, unread_type

# Keys whose value is a schema, a list of schemas, or schemas by name.
ONE_SCHEMA = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("additionalItems", "unevaluatedItems", "unevaluatedProperties"),
)
SCHEMA_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
SCHEMA_MAP = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_COMPOSED = ("$ref", "allOf", "anyOf", "oneOf")
_JSON_TYPES = frozenset(("string", "integer", "number", "boolean", "array", "object", "null"))
# Words of a value's schema that are kept as they are, and so need no long way.
_KEPT = frozenset(
    (
        "default",
        "enum",
        "format",
        "title",
        "minimum",
        "maximum",
        "examples",
        "pattern",
        "minLength",
        "maxLength",
    )
)
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# What a parameter's own flag says, and under which keys it stands.
FLAGS = {**TRUTHS, "required": True, "mandatory": True, "optional": False}
FLAG_KEYS = ("required", "isRequired", "is_required")


class SchemaReader:
    """Reads the schemas of one tool, and notes what it cannot."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.notes: list[str] = []

    def note(self, what: str, text: str) -> None:
        self.notes.append(f"{what}:{text[:80]}")

    def parameters(self, given: Any, listed: Any, key: str) -> dict[str, Any]:
        """`type, properties, required`, then whatever else the schema of all parameters says."""
        if isinstance(given, str) and given.lstrip()[:1] in (
            "{",
            "[",
        ):  # typed tables carry nested values as text
            try:
                given = json.loads(given)
            except (ValueError, RecursionError) as e:
                raise InputError(f"{key} is text that is no JSON: {e}", where=self.where) from None
        if key == "inputSchema" and isinstance(given, dict) and list(given) == ["json"]:  # Bedrock's envelope
            inner = given["json"]
            given = inner if isinstance(inner, dict) and isinstance(inner.get("properties"), dict) else given
        named = isinstance(given, list) and all(
            isinstance(p, dict) and isinstance(p.get("name"), str) for p in given
        )
        if isinstance(given, list) and named:  # a list of parameters with their names; PHP's empty mapping
            given = {p["name"]: {k: v for k, v in p.items() if k != "name"} for p in given}
        if not isinstance(given, dict):
            raise InputError(f"{key} is no mapping but {type(given).__name__}", where=self.where)
        listed = _name_list(listed)
        if listed is None and is_normal(given):
            return given
        if not named and _is_schema(given):
            given = self._lifted(given, given)
            own = _name_list(given.get("required"))
            return self._object(given, listed if own is None else own)
        own = _name_list(given.get("required"))
        if own is not None:
            listed, given = own, {k: v for k, v in given.items() if k != "required"}
        return self._object({"properties": given}, listed, flat=True)

    def _lifted(self, node: dict[str, Any], root: dict[str, Any], depth: int = 0) -> dict[str, Any]:
        """An object schema made of parts as one: its parameters are then known by name."""
        parts: list[dict[str, Any]] = []
        kept: list[str] = []  # alternatives of what is required, say: they name no parameters
        if depth > 8 or not any(node.get(word) for word in _COMPOSED):
            return node
        if isinstance(node.get("$ref"), str) and isinstance(target := point(root, node["$ref"]), dict):
            parts.append(self._lifted(target, root, depth + 1))
        for part in node.get("allOf") or ():
            if isinstance(part, dict):
                parts.append(self._lifted(part, root, depth + 1))
        for word in ("anyOf", "oneOf"):
            options = node.get(word)
            options = options if isinstance(options, list) else []
            lifted = [self._lifted(o, root, depth + 1) for o in options if isinstance(o, dict)]
            lifted = [o for o in lifted if isinstance(o.get("properties"), dict)]
            if not lifted:
                kept.append(word)
                continue
            self.note("alternatives_united", word)
            names = {n: s for o in reversed(lifted) for n, s in o["properties"].items()}
            common = [n for n in names if all(n in (o.get("required") or ()) for o in lifted)]
            parts.append({"properties": names, "required": common})
        rest = {k: v for k, v in node.items() if k not in _COMPOSED or k in kept}
        out = dict(rest)
        for part in parts:
            mine, its = out.get("properties") or {}, part.get("properties") or {}
            out = {**part, **out}
            if mine or its:
                out["properties"] = {**its, **mine}
            needed = [*(rest.get("required") or ()), *(r for p in parts for r in p.get("required") or ())]
            out["required"] = list(dict.fromkeys(needed))
        return out

    def _object(self, node: dict[str, Any], listed: list[Any] | None, flat: bool = False) -> dict[str, Any]:
        children = node.get("properties") or {}
        if not isinstance(children, dict):
            raise InputError(f"properties is no mapping but {type(children).__name__}", where=self.where)
        given = {name: self._child(name, child) for name, child in children.items() if child is not None}
        flags = {name: _flag(child) for name, child in given.items()}
        some = flat and True in flags.values()
        properties, required = {}, []
        for name, child in given.items():
            schema, optional = self.schema(child)
            flag = flags[name]
            if flag is None and listed is not None:
                flag = name in listed
            elif flag is None:
                flag = flat and not some and not (optional or "default" in child)
            if flag and isinstance(child.get("type"), str) and null_type(child["type"]):
                schema = _with_null(schema)
            properties[name] = schema
            if flag:
                required.append(name)
        for name in listed or ():
            if name not in properties:
                self.note("required_unknown", str(name))
        rest, _ = self.schema({k: v for k, v in node.items() if k not in ("type", "properties", "required")})
        return {"type": "object", "properties": properties, "required": required, **rest}

    def _child(self, name: str, child: Any) -> dict[str, Any]:
        if isinstance(child, bool):
            return {} if child else {"not": {}}
        if isinstance(child, str):
            return {"type": child}
        if not isinstance(child, dict):
            raise InputError(f"parameter {name!r} is no mapping but {type(child).__name__}", where=self.where)
        return child

    def schema(self, node: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """One schema, its keys in their order, and whether its own words call it optional."""
        out: dict[str, Any] = {}
        optional = _truth(node.get("optional")) is True
        for key, value in node.items():
            if key == "const" and value is None:
                # Null is a constant where the type lets it be one; elsewhere a typed table filled it in.
                kinds = node.get("type")
                if kinds is None or "null" in (kinds if isinstance(kinds, list) else (kinds,)):
                    out[key] = None
            elif value is None or (key == "description" and not value):
                continue
            elif key == "optional" or key in FLAG_KEYS[1:]:
                if _truth(value) is None:
                    out[key] = value
            elif key == "type":
                read, says_optional = self._type(value)
                optional |= says_optional
                out.update(read)
            elif key == "properties" and (isinstance(value, dict) or value == []):
                if not (node.get("type") is not None and self._type(node["type"])[0]):
                    out["type"] = "object"
                out[key] = self._named(value or {})
            elif key == "required":
                if isinstance(value, list):
                    out[key] = value
            elif key in ONE_SCHEMA and isinstance(value, dict):
                out[key] = self.schema(value)[0]
            elif key in (*SCHEMA_LIST, "items") and isinstance(value, list):
                # Drafts before 2020-12 wrote the schemas of a fixed-length array under `items`.
                key = "prefixItems" if key == "items" else key
                out[key] = [self.schema(v)[0] if isinstance(v, dict) else v for v in value]
            elif key in SCHEMA_MAP and isinstance(value, dict):
                out[key] = self._named(value)
            else:
                out[key] = value
        if isinstance(node.get("properties"), dict):
            flags = {n: _flag(c) for n, c in node["properties"].items() if isinstance(c, dict)}
            listed = out.get("required", [])
            kept = [name for name in listed if not isinstance(name, str) or flags.get(name) is not False]
            kept += [name for name, flag in flags.items() if flag and name not in kept]
            if kept or "required" in out:
                out["required"] = kept
        return out, optional

    def _named(self, schemas: dict[str, Any]) -> dict[str, Any]:
        children = {name: self._child(name, child) for name, child in schemas.items() if child is not None}
        return {name: self.schema(child)[0] for name, child in children.items()}

    def _type(self, value: Any) -> tuple[dict[str, Any], bool]:
        """A type name, or a list of them; one that nobody knows leaves the value without constraint."""
        if isinstance(value, str):
            if value not in _JSON_TYPES and unread_type(value):
                self.note("type_words_ignored", value)
            return read_type(value)
        names = value if isinstance(value, list) else []
        kinds = [read_type(v)[0].get("type") if isinstance(v, str) else None for v in names]
        if not kinds or not all(isinstance(k, str) for k in kinds):
            self.note("type_words_ignored", json.dumps(value, default=str))
            return {}, False
        return {"type": list(dict.fromkeys(kinds))}, False


def point(root: Any, reference: str) -> Any:
    """What a pointer into this document finds; None for other documents and for nothing there."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    for part in reference[2:].split("/"):
        part = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and part.isdecimal() and int(part) < len(root):
            root = root[int(part)]
        else:
            root = root.get(part) if isinstance(root, dict) else None
    return root


def _flag(child: dict[str, Any]) -> bool | None:
    """What a parameter's own `required` says, where it is a flag."""
    for key in FLAG_KEYS:
        value = child.get(key)
        if isinstance(value, bool | int | str) and (flag := FLAGS.get(str(value).lower())) is not None:
            return flag
    return None


def _truth(value: Any) -> bool | None:
    return TRUTHS.get(str(value).lower()) if isinstance(value, bool | int | str) else None


def _name_list(value: Any) -> list[Any] | None:
    """A list of names, or the one that its JSON text spells; None for anything else, such as a flag."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind := schema.get("type"), str | list):
        kinds = [kind] if isinstance(kind, str) else kind
        if "null" in kinds:
            return schema
        out = {**schema, "type": [*kinds, "null"]}
        return {**out, "enum": [*out["enum"], None]} if isinstance(out.get("enum"), list) else out
    if isinstance(options := schema.get("anyOf"), list):
        return {**schema, "anyOf": [*options, {"type": "null"}]}
    return schema


def _is_schema(parameters: dict[str, Any]) -> bool:
    kind, properties = parameters.get("type"), parameters.get("properties")
    if isinstance(kind, str) or (isinstance(kind, list) and all(isinstance(k, str) for k in kind)):
        return True
    if kind is not None:
        return False
    if isinstance(properties, dict):
        # A flat spelling may have a parameter called "properties"; its description then holds texts.
        return all(value is None or isinstance(value, dict | bool) for value in properties.values())
    if isinstance(parameters.get("$ref"), str):
        return True
    return properties == [] or any(isinstance(parameters.get(word), list) for word in _COMPOSED)


def is_normal(parameters: dict[str, Any]) -> bool:
    """Whether the long way would give the same back, as it does for our own files; a no costs time only."""
    properties, required = parameters.get("properties"), parameters.get("required")
    rest = {k: v for k, v in parameters.items() if k not in ("type", "properties", "required")}
    return (
        parameters.get("type") == "object"
        and isinstance(properties, dict)
        and isinstance(required, list)
        and list(parameters)[:3] == ["type", "properties", "required"]
        and all(map(_is_normal_value, properties.values()))
        and _is_normal_value(rest)
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
        elif value is None or (key not in _KEPT and not (key == "description" and value)):
            return False
    return True
