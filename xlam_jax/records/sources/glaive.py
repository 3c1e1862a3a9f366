"""`glaiveai/glaive-function-calling-v2`: a transcript with USER, ASSISTANT and FUNCTION RESPONSE."""

from __future__ import annotations

import json
import re
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.sources.base import Refused, Row, Source, row_id, tools
from xlam_jax.records.sources.call_text import json_values
from xlam_jax.records.sources.conversation import record_from_messages

_TURN = re.compile(r"^[ \t]*(USER|ASSISTANT|FUNCTION RESPONSE):", re.MULTILINE)
_ROLE = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_END = "<|endoftext|>"
_CALL = "<functioncall>"
# Arguments are JSON text in single quotes, which no JSON reader takes.
_QUOTED = re.compile(r'("arguments"\s*:\s*)\'(.*)\'(\s*[,}])', re.DOTALL)


def convert(row: Row) -> Record:
    """Tools are JSON objects in `system`, turns and calls stand in `chat`.

    The line before the tools only announces them and is left out (lineage: `cut_native_prompt`); without
    tools the system text is the task instruction.

    Raises:
      Refused: `bad_tool`, `bad_call`, `bad_message`, and those of `record_from_messages`.
    """
    obj = row.obj
    system, chat = obj.get("system") or "", obj.get("chat")
    if not isinstance(system, str) or not isinstance(chat, str):
        raise Refused("bad_message", "system and chat must be text")
    system = system.strip().removeprefix("SYSTEM:").strip()
    words, brace, listed = system.partition("{")
    offered, rest = json_values(brace + listed)
    if rest:
        raise Refused("bad_tool", f"no JSON: {rest[:80]!r}")
    return record_from_messages(
        _messages(chat),
        id=row_id(SOURCE.name, row, obj.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=tools(offered),
        task_instruction="" if offered else words.strip(),
        lineage=("cut_native_prompt",) if offered else (),
    )


def _messages(chat: str) -> list[dict[str, Any]]:
    before, *parts = _TURN.split(chat)
    if before.strip():
        raise Refused("bad_message", f"text before the first turn: {before.strip()[:80]!r}")
    messages = []
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        text = text.strip().removesuffix(_END).strip()
        if _END in text:
            raise Refused("bad_message", f"{_END} inside a turn")
        message: dict[str, Any] = {"role": _ROLE[name], "content": text}
        if name == "ASSISTANT" and _CALL in text:
            words, *calls = text.split(_CALL)
            message |= {"content": words.strip(), "tool_calls": [_call(c) for c in calls]}
        messages.append(message)
    return messages


def _call(text: str) -> dict[str, Any]:
    """`{"name": ..., "arguments": '{...}'}`; the arguments may also be a plain object."""
    text, arguments = text.strip(), None
    quoted = _QUOTED.search(text)
    if quoted:
        arguments = _json(quoted[2])
        text = text[: quoted.start()] + quoted[1] + "null" + quoted[3] + text[quoted.end() :]
    call = _json(text)
    if not isinstance(call, dict):
        raise Refused("bad_call", f"no object: {text[:80]!r}")
    return {**call, "arguments": arguments} if quoted else call


def _json(text: str) -> Any:
    """JSON, where an apostrophe may carry the backslash that single quotes asked for."""
    for spelled in (text, text.replace("\\'", "'")):
        try:
            return json.loads(spelled)
        except (ValueError, RecursionError):
            continue
    raise Refused("bad_call", f"no JSON: {text[:80]!r}")


SOURCE = Source(
    name="glaive",
    summary="transcripts with <functioncall> and FUNCTION RESPONSE (glaive-function-calling-v2)",
    license="Apache-2.0",
    url="https://huggingface.co/datasets/glaiveai/glaive-function-calling-v2",
    convert=convert,
)
