"""OpenAI's Responses API: items of messages, function_call, function_call_output and reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id, tools
from xlam_jax.records.sources.conversation import record_from_messages, text_of

_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def convert(row: Row) -> Record:
    """`instructions`, `input` and `tools` of a request, and the items of `output` (or `response.output`).

    Raises:
      Refused: `bad_message`, `not_text`, `server_tool` for what a tool of the provider's own side did, and
        those of `record_from_messages`.
    """
    obj = row.obj
    request = obj["request"] if isinstance(obj.get("request"), dict) else obj
    response = obj["response"] if isinstance(obj.get("response"), dict) else obj
    asked, answered = request.get("input"), as_json(response.get("output") or [])
    if isinstance(asked, str) and not asked.lstrip().startswith("["):
        asked = [{"role": "user", "content": asked}]
    asked = as_json(asked)
    if not isinstance(asked, list) or not isinstance(answered, list):
        raise Refused("bad_message", "input and output must be text or lists of items")
    return record_from_messages(
        list(_messages([*asked, *answered])),
        id=row_id(SOURCE.name, row, obj.get("id") or response.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=tools(list(map(_tool, as_json(request.get("tools")) or []))),
        task_instruction=text_of(request.get("instructions") or response.get("instructions")),
    )


def _tool(tool: Any) -> Any:
    if isinstance(tool, dict) and tool.get("type") not in (None, "function"):
        raise Refused("server_tool", str(tool["type"]))
    return tool


def _messages(items: list[Any]) -> Iterator[dict[str, Any]]:
    """Items as chat messages: the reasoning, words and calls of one answer are one message."""
    turn: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, dict):
            raise Refused("bad_message", f"no object but {type(item).__name__}")
        kind = item.get("type") or "message"
        if kind == "message" and item.get("role") == "assistant":
            if turn.get("tool_calls"):  # words after calls are another answer
                yield turn
                turn = {}
            _begin(turn)
            turn["content"] = "\n".join(filter(None, (turn["content"], _text(item.get("content")))))
        elif kind == "reasoning":
            if turn.get("content") or turn.get("tool_calls"):
                yield turn
                turn = {}
            _begin(turn)
            text = _text(item.get("content") or item.get("summary"))
            turn["reasoning_content"] = "\n".join(filter(None, (turn.get("reasoning_content"), text)))
        elif kind == "function_call":
            _begin(turn)
            call = {"id": item.get("call_id"), "name": item.get("name"), "arguments": item.get("arguments")}
            turn["tool_calls"].append(call)
        elif kind in ("message", "function_call_output"):
            if turn:
                yield turn
                turn = {}
            if kind == "message":
                yield {"role": item.get("role"), "content": _text(item.get("content"))}
            else:
                output = item.get("output")
                output = _text(output) if isinstance(output, list) else output
                yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
        else:
            raise Refused("server_tool", str(kind))
    if turn:
        yield turn


def _begin(turn: dict[str, Any]) -> None:
    turn.setdefault("role", "assistant")
    turn.setdefault("content", "")
    turn.setdefault("tool_calls", [])


def _text(content: Any) -> str:
    """The text of parts, under the names that this interface gives them."""
    if not isinstance(content, list):
        return text_of(content)
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXTS:
            parts.append({"type": "text", "text": part.get("text")})
        elif kind == "refusal":
            parts.append({"type": "text", "text": part.get("refusal")})
        else:
            parts.append(part)
    return text_of(parts)


SOURCE = Source(
    name="openai-responses",
    summary="requests and answers of OpenAI's Responses API: function_call and function_call_output items",
    license="",
    url="https://platform.openai.com/docs/api-reference/responses",
    convert=convert,
)
