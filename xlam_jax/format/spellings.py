"""The other spellings of a Record: Unified 2.0 trajectories and rows of the 60k set, read and written.

Writers check themselves: what they return reads back as the same Record, or they refuse and name the first
thing that the spelling cannot hold. Readers take what is found in the wild; a row in canonical spelling
(the writer's) comes back as it was.

**Unified 2.0**: `unique_trajectory_id, task_instruction, tools` (OpenAI tool objects), `conversation` (chat
messages). Canonical: arguments are objects; calls have the ids `call_<step>_<number>`; several calls have
one tool message each, in their order; no empty user or tool messages, no system message. Read as well:
arguments as JSON text, foreign ids (renamed; results are matched by them), contents that are null or lists
of text parts, a system message at the head (joins the task instruction), user messages in a row (joined).
The results of several calls become a list observation; any other number of tool messages after a turn is
kept as the list of these messages themselves, and written back as they are.

**60k**: `id, query, answers, tools`, the latter two JSON text (lists are read as well) with Python type
names. A parameter is optional by its default or by `, optional` behind its type. It has one turn: no
thought, observation, further words of the user, instructions or examples.

In both, what they have no field for (`format_instruction`, `few_shot_examples`, `style` in Unified 2.0;
`source, license, lineage` in both) travels under the Record's own key, where there is any.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.call_keys import arguments_of
from xlam_jax.format.record import Record, Step
from xlam_jax.format.tools import openai_view, python_type
from xlam_jax.format.type_names import read_type
from xlam_jax.format.values import Tool

_PROVENANCE = ("source", "license", "lineage")
_EXTRAS = ("format_instruction", "few_shot_examples", "style", *_PROVENANCE)


def from_unified_v2(obj: Any, where: str = "") -> Record:
    """Reads a Unified 2.0 trajectory.

    Raises:
      InputError: unknown fields or roles, a tool message with no turn before it, bad calls or tools.
    """
    if not isinstance(obj, dict) or not isinstance(obj.get("conversation"), list):
        raise InputError("a Unified 2.0 trajectory needs a list under 'conversation'", where=where)
    rest = {k: v for k, v in obj.items() if k != "conversation" and v is not None}
    system, query, turns = _turns(obj["conversation"], where)
    if system:
        rest["task_instruction"] = "\n".join(filter(None, (rest.get("task_instruction", ""), system)))
    return Record.from_json({**rest, "query": query, "steps": turns}, where)


def to_unified_v2(record: Record) -> dict[str, Any]:
    """Writes a Unified 2.0 trajectory.

    Raises:
      InputError: what it cannot hold, for example tool messages kept as such that are regular after all.
    """
    messages: list[dict[str, Any]] = []
    if record.query:
        messages.append({"role": "user", "content": record.query})
    for i, step in enumerate(record.steps, 1):
        ids = [f"call_{i}_{j}" for j in range(1, len(step.tool_calls) + 1)]
        said: dict[str, Any] = {"role": "assistant", "content": step.thought}
        if ids:
            said["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}, "id": id_}
                for c, id_ in zip(step.tool_calls, ids, strict=True)
            ]
        if step.weight != 1:
            said["weight"] = step.weight
        messages += [said, *_tool_messages(step, ids)]
        if step.user_input:
            messages.append({"role": "user", "content": step.user_input})
    obj = {
        "unique_trajectory_id": record.id,
        "task_instruction": record.task_instruction,
        "tools": [openai_view(tool) for tool in record.tools],
        "conversation": messages,
        **_extras(record, _EXTRAS),
    }
    _check(record, from_unified_v2(obj), "Unified 2.0")
    return obj


def from_60k(obj: Any, where: str = "") -> Record:
    """Reads a row of the 60k set.

    Raises:
      InputError: missing or unknown fields, answers or tools that are no JSON lists, bad calls or tools.
    """
    if not isinstance(obj, dict):
        raise InputError("a 60k row is a mapping", where=where)
    for key in ("id", "query", "answers", "tools"):
        if key not in obj:
            raise InputError(f"missing field {key!r}", where=where)
    if isinstance(obj["id"], bool) or not isinstance(obj["id"], int | str):
        raise InputError(f"id is neither number nor text but {type(obj['id']).__name__}", where=where)
    rest = {k: v for k, v in obj.items() if k != "answers"}
    calls = [_call(item, where) for item in _json_list(obj["answers"], "answers", where)]
    tools = _json_list(obj["tools"], "tools", where)
    return Record.from_json(
        {**rest, "id": str(obj["id"]), "tools": tools, "steps": [{"tool_calls": calls}]}, where
    )


def to_60k(record: Record) -> dict[str, Any]:
    """Writes a row of the 60k set; an id of digits becomes a number.

    Raises:
      InputError: what it cannot hold: other than one step, a thought, an observation, instructions, ...
    """
    if len(record.steps) != 1:
        raise InputError(f"the 60k spelling has one step, not {len(record.steps)}", where=_at(record))
    for key, empty in (("thought", ""), ("next_observation", ""), ("user_input", ""), ("weight", 1)):
        if getattr(record.steps[0], key) != empty:
            raise InputError(f"the 60k spelling has no place for {key}", where=f"{_at(record)}, step 1")
    calls = [{"name": c.name, "arguments": c.arguments} for c in record.steps[0].tool_calls]
    number = record.id.isascii() and record.id.isdigit() and record.id == str(int(record.id[:18]))
    obj = {
        "id": int(record.id) if number else record.id,
        "query": record.query,
        "answers": json.dumps(calls, ensure_ascii=False),
        "tools": json.dumps([_flat(tool) for tool in record.tools], ensure_ascii=False),
        **_extras(record, _PROVENANCE),
    }
    _check(record, from_60k(obj), "60k")
    return obj


@dataclass(frozen=True)
class Spelling:
    """How one spelling is read, `(object, where) -> Record`, and written."""

    read: Callable[[Any, str], Record]
    write: Callable[[Record], dict[str, Any]]


SPELLINGS = {
    "v1": Spelling(Record.from_json, Record.to_json),
    "unified-v2": Spelling(from_unified_v2, to_unified_v2),
    "60k": Spelling(from_60k, to_60k),
}


def _turns(conversation: list[Any], where: str) -> tuple[str, str, list[dict[str, Any]]]:
    """The system text, the query, and the steps as v1's JSON."""
    system: list[str] = []
    query: list[str] = []
    steps: list[dict[str, Any]] = []
    said: list[str] = query  # where the user's next words go
    ids: list[Any] = []
    results: list[dict[str, Any]] = []

    def close() -> None:
        if steps:
            steps[-1]["next_observation"] = _observation(results, ids)
            steps[-1]["user_input"] = "\n".join(said)

    for number, message in enumerate(conversation, 1):
        at = f"{where}: message {number}" if where else f"message {number}"
        role = message.get("role") if isinstance(message, dict) else None
        if role == "system" and not (query or steps):
            system.append(_content(message, at))
        elif role == "user":
            text = _content(message, at)
            said += [text] if text else []
        elif role == "assistant":
            close()
            calls = message.get("tool_calls") or []
            if not isinstance(calls, list):
                raise InputError("tool_calls is no list", where=at)
            step = {"thought": _content(message, at), "tool_calls": [_call(item, at) for item in calls]}
            steps.append(step | ({"weight": message["weight"]} if message.get("weight") is not None else {}))
            said, results, ids = [], [], [item.get("id") for item in calls]
        elif role == "tool":
            if not steps or said:
                raise InputError("a tool message follows no turn of the assistant", where=at)
            results.append(message)
        else:
            hint = "a system message stands first" if role == "system" else "user, assistant or tool"
            raise InputError(f"a message of role {role!r}", where=at, hint=hint)
    close()
    return "\n".join(filter(None, system)), "\n".join(query), steps


def _content(message: dict[str, Any], where: str) -> str:
    """The text of a user's or assistant's message: null is no text, parts are put together."""
    content = message.get("content")
    parts = content if isinstance(content, list) else ["" if content is None else content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    words = [text for text in texts if isinstance(text, str)]
    if len(words) < len(texts):
        raise InputError("the content of a message is no text", where=where)
    return "\n".join(words)


def _observation(results: list[dict[str, Any]], ids: list[Any]) -> Any:
    """What came back: one value for one message, a list in the calls' order for a message per call."""
    values = {json.dumps(r.get("tool_call_id")): r.get("content") for r in results}
    contents = [r.get("content") for r in results]
    if len(results) <= 1:
        return contents[0] if contents else ""
    keys = [json.dumps(i) for i in ids]
    if len(results) != len(ids):
        return results
    if len(values) == len(ids) and set(keys) == set(values):
        contents = [values[key] for key in keys]
    return contents


def _tool_messages(step: Step, ids: list[str]) -> list[dict[str, Any]]:
    value = step.next_observation
    if value is None or value == "":
        return []
    if (
        isinstance(value, list)
        and value
        and all(isinstance(v, dict) and v.get("role") == "tool" for v in value)
    ):
        return value
    single = len(ids) < 2 or not isinstance(value, list) or len(value) != len(ids)
    named = [
        {"role": "tool", "name": call.name, "tool_call_id": id_}
        for call, id_ in zip(step.tool_calls, ids, strict=True)
    ]
    if single:
        return [{**(named[0] if named else {"role": "tool"}), "content": value}]
    return [{**message, "content": content} for message, content in zip(named, value, strict=True)]


def _call(item: Any, where: str) -> dict[str, Any]:
    inner = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise InputError("a call has no name", where=where)
    try:
        arguments = arguments_of(inner, item)
    except InputError as e:
        raise InputError(f"{inner['name']}: {e.what}", where=where, hint=e.hint) from None
    if isinstance(arguments, str):
        arguments = _parsed(arguments or "{}", f"arguments of {inner['name']}", where)
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise InputError(f"arguments of {inner['name']} are no mapping", where=where)
    return {"name": inner["name"], "arguments": arguments}


def _json_list(value: Any, what: str, where: str) -> list[Any]:
    value = _parsed(value, what, where) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise InputError(f"{what} is no list", where=where)
    return value


def _parsed(text: str, what: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{what}: not valid JSON: {e}", where=where) from None


def _flat(tool: Tool) -> dict[str, Any]:
    required = tool.parameters.get("required", ())
    parameters = {
        name: _flat_parameter(schema, name in required)
        for name, schema in tool.parameters.get("properties", {}).items()
    }
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _flat_parameter(schema: dict[str, Any], required: bool) -> dict[str, Any]:
    """A Python type name where it says all that the schema's type does, else the schema with a flag."""
    name = python_type(schema)
    read, optional = read_type(name)
    shape = ("type", "items", "anyOf", "oneOf", "properties", "enum")
    if optional or read != {k: schema[k] for k in schema if k in shape and k != "enum"}:
        return schema if required else {**schema, "required": False}
    rest = {k: v for k, v in schema.items() if k not in read}
    out = {"description": rest.pop("description")} if "description" in rest else {}
    if not required and "default" not in schema:
        name += ", optional"
    return {**out, "type": name, **rest}


def _extras(record: Record, keys: tuple[str, ...]) -> dict[str, Any]:
    """Fields of the Record's own that the spelling lacks, where they hold anything."""
    obj = record.to_json()
    return {key: obj[key] for key in keys if obj.get(key)}


def _check(record: Record, back: Record, spelling: str) -> None:
    """Refuses a record that did not survive."""
    for field in fields(Record):
        if getattr(record, field.name) != getattr(back, field.name):
            raise InputError(
                f"the {spelling} spelling cannot hold this record's {field.name}",
                where=_at(record),
                hint=f"it would read back as {str(getattr(back, field.name))[:120]}",
            )


def _at(record: Record) -> str:
    return f"record {record.id}"
