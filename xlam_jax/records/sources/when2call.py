"""`nvidia/When2Call`: fine-tuning rows, preference rows, and multiple-choice test rows."""

from __future__ import annotations

from typing import Any

from xlam_jax.format.pair import Pair
from xlam_jax.format.record import Record
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id, tools
from xlam_jax.records.sources.call_text import literal, tagged
from xlam_jax.records.sources.conversation import record_from_messages


def convert(row: Row) -> Record | Pair:
    """By its fields: `chosen_response` makes a Pair, `correct_answer` a Record of the right choice.

    Tools are a list of JSON texts; calls stand in `<TOOLCALL>[...]</TOOLCALL>`.

    Raises:
      Refused: `bad_call`, `bad_tool`, `no_answer`, and those of `record_from_messages`.
    """
    obj = row.obj
    if "correct_answer" in obj:
        answers = as_json(obj.get("answers"))
        if not isinstance(answers, dict) or not answers.get(obj["correct_answer"]):
            raise Refused("no_answer", f"no text for {obj['correct_answer']!r}")
        question = {"role": "user", "content": obj.get("question")}
        right = answers[obj["correct_answer"]]
        if obj["correct_answer"] == "tool_call":
            return _record(row, [question, _calling(_calls(right))])
        return _record(row, [question, {"role": "assistant", "content": right}])
    messages = as_json(obj.get("messages"))
    if not isinstance(messages, list):
        raise Refused("bad_message", "messages are no list")
    if "chosen_response" not in obj:
        return _record(row, messages)
    chosen, rejected = obj["chosen_response"], obj.get("rejected_response")
    better, worse = _record(row, [*messages, chosen]), _record(row, [*messages, rejected])
    if len(better.steps) != len(worse.steps) or better.steps[:-1] != worse.steps[:-1]:
        raise Refused("bad_message", "the two responses do not answer the same turn")
    if better.steps[-1] == worse.steps[-1]:
        raise Refused("equal_pair")
    return Pair(better, worse.steps[-1], _reason(better, worse))


def _reason(better: Record, worse: Record) -> str:
    right, wrong = bool(better.steps[-1].tool_calls), bool(worse.steps[-1].tool_calls)
    if right:
        return "wrong_call" if wrong else "missing_call"
    return "unneeded_call" if wrong else "wrong_reply"


def _record(row: Row, messages: list[Any]) -> Record:
    obj = row.obj
    listed = as_json(obj.get("tools") or [])
    if not isinstance(listed, list):
        raise Refused("bad_tool", "tools are no list")
    return record_from_messages(
        [_message(m) for m in messages],
        id=row_id(SOURCE.name, row, obj.get("uuid") or obj.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=tools([as_json(t) for t in listed]),
    )


def _message(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str) or message.get("role") != "assistant" or "TOOLCALL>" not in content:
        return message
    text, inside = tagged(content, "TOOLCALL")
    return _calling([call for part in inside for call in _calls(part)], text)


def _calling(calls: list[Any], text: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": text, "tool_calls": calls}


def _calls(value: Any) -> list[Any]:
    """Calls as a list, one object, or the JSON text of either (also inside the list)."""
    value = literal(value) if isinstance(value, str) else value
    items = value if isinstance(value, list) else [value]
    return [literal(item) if isinstance(item, str) else item for item in items]


SOURCE = Source(
    name="when2call",
    summary="when to call, to ask, to decline; preference rows become pairs (When2Call)",
    license="CC-BY-4.0",
    url="https://huggingface.co/datasets/nvidia/When2Call",
    convert=convert,
)
