"""ShareGPT rows: `conversations` of from/value, `system`, and `tools` as JSON text."""

from __future__ import annotations

from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id, tools
from xlam_jax.records.sources.conversation import record_from_messages, refuse_media

_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call", "function-call"), "call"),
    **dict.fromkeys(("observation", "tool", "function", "tool_response", "function_response"), "tool"),
}
# Of a message in OpenAI's manner; and how a trainer's mark says no.
_KEPT = (
    "tool_calls",
    "tool_call_id",
    "name",
    "reasoning_content",
    "reasoning",
    "thinking",
    "thought",
    "weight",
)
_UNLEARNED = (False, 0, "false")


def turns(obj: dict[str, Any]) -> list[tuple[str, Any]]:
    """`(role, value)` of each turn, with roles `system, user, assistant, call, tool`; `system` first.

    Turns are read as from/value and as role/content.

    Raises:
      Refused: `bad_message`, `unknown_role`, `not_text`.
    """
    refuse_media(obj)
    listed = as_json(_listed(obj))
    if not isinstance(listed, list):
        raise Refused("bad_message", "conversations are no list")
    pairs: list[tuple[str, Any]] = [("system", obj["system"])] if obj.get("system") else []
    for number, turn in enumerate(listed, 1):
        if not isinstance(turn, dict):
            raise Refused("bad_message", f"message {number} is no object")
        name = turn.get("from", turn.get("role"))
        role = _ROLES.get(name.lower()) if isinstance(name, str) else None
        if role is None:
            raise Refused("unknown_role", f"message {number}: {name!r}")
        pairs.append((role, turn.get("value", turn.get("content"))))
    return pairs


def messages(obj: dict[str, Any]) -> list[dict[str, Any]]:
    """The turns as chat messages.

    What OpenAI's messages have beside their content stays, and a turn that is not to be learned (`loss` or `train`
    false, as trainers write it) has the weight 0.
    """
    made, said = [message(role, value) for role, value in turns(obj)], as_json(_listed(obj))
    for one, turn in zip(reversed(made), reversed(said), strict=False):
        if one["role"] in ("assistant", "tool"):
            one |= {key: turn[key] for key in _KEPT if turn.get(key) is not None and key not in one}
        if one["role"] == "assistant" and (turn.get("loss") in _UNLEARNED or turn.get("train") in _UNLEARNED):
            one["weight"] = 0
    return made


def _listed(obj: dict[str, Any]) -> Any:
    return obj.get("conversations") or obj.get("conversation")


def message(role: str, value: Any) -> dict[str, Any]:
    """A turn as a chat message; the value of a call is one or a list of them, or JSON text."""
    if role != "call":
        return {"role": role, "content": value}
    calls = as_json(value)
    return {"role": "assistant", "tool_calls": calls if isinstance(calls, list) else [calls]}


def record(row: Row, source: Source) -> Record:
    """The Record of a ShareGPT row of that source."""
    obj = row.obj
    return record_from_messages(
        messages(obj),
        id=row_id(source.name, row, obj.get("id")),
        source=source.name,
        license=source.license,
        tools=tools(obj.get("tools")),
    )


def convert(row: Row) -> Record:
    """See `record_from_messages`."""
    return record(row, SOURCE)


SOURCE = Source(
    name="sharegpt",
    summary="conversations of from/value with function_call and observation turns (ShareGPT)",
    license="",
    url="https://llamafactory.readthedocs.io/en/latest/getting_started/data_preparation.html",
    convert=convert,
)
