"""Anthropic's Messages API: content blocks of text, thinking, tool_use and tool_result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id, tools
from xlam_jax.records.sources.conversation import record_from_messages, text_of


def convert(row: Row) -> Record:
    """`system`, `messages` and `tools` of a request, and the answer in `response` where it stands apart.

    A result with `is_error` becomes `{"error": ...}`. Tools of the provider's own side are refused: what
    they did is not in the row.

    Raises:
      Refused: `bad_message`, `not_text`, `server_tool`, and those of `record_from_messages`.
    """
    obj = row.obj
    request = obj["request"] if isinstance(obj.get("request"), dict) else obj
    messages = as_json(request.get("messages"))
    if not isinstance(messages, list):
        raise Refused("bad_message", "messages are no list")
    response = as_json(obj.get("response"))
    if isinstance(response, dict):
        messages = [*messages, {"role": "assistant", "content": response.get("content")}]
    system = text_of(text_blocks(request.get("system")))
    return record_from_messages(
        [said for message in messages for said in _messages(message)],
        id=row_id(SOURCE.name, row, obj.get("id") or request.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=tools(list(map(_tool, as_json(request.get("tools")) or []))),
        task_instruction=system if system.strip() else "",
    )


def text_blocks(content: Any) -> Any:
    """Blocks of text without what only speaks of caching."""
    if not isinstance(content, list):
        return content
    return [{"type": "text", "text": b.get("text")} if _kind(b) == "text" else b for b in content]


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def _tool(tool: Any) -> Any:
    if isinstance(tool, dict) and tool.get("type") not in (None, "custom"):
        raise Refused("server_tool", str(tool["type"]))
    return (
        {k: v for k, v in tool.items() if k not in ("type", "cache_control")}
        if isinstance(tool, dict)
        else tool
    )


def _messages(message: Any) -> Iterator[dict[str, Any]]:
    """One message as chat messages: results come before the words that follow them."""
    if not isinstance(message, dict):
        raise Refused("bad_message", f"no object but {type(message).__name__}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(content, list):
        yield {"role": role, "content": content}
        return
    words: list[Any] = []
    calls: list[dict[str, Any]] = []
    thinking: list[str] = []
    for block in content:
        kind = _kind(block)
        if kind == "tool_result" and role == "user":
            yield _result(block)
        elif kind == "tool_use" and role == "assistant":
            calls.append({"id": block.get("id"), "name": block.get("name"), "arguments": block.get("input")})
        elif kind == "thinking" and role == "assistant":
            thinking.append(text_of(block.get("thinking")))
        elif kind == "redacted_thinking":
            continue  # nobody but the provider can read it
        elif isinstance(kind, str) and kind.startswith(
            ("server_tool", "web_search", "code_execution", "mcp_tool")
        ):
            raise Refused("server_tool", kind)
        else:
            words.append(block)
    text = text_of(text_blocks(words))
    if role == "assistant":
        more = {"reasoning_content": "\n".join(thinking)} if thinking else {}
        yield {"role": role, "content": text, "tool_calls": calls, **more}
    elif text.strip() or not content:
        yield {"role": role, "content": text}


def _result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content")
    if isinstance(content, list):
        content = text_of(text_blocks(content))
    if block.get("is_error"):
        content = {"error": content}
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}


SOURCE = Source(
    name="anthropic",
    summary="requests and answers of Anthropic's Messages API: tool_use and tool_result blocks",
    license="",
    url="https://docs.anthropic.com/en/api/messages",
    convert=convert,
)
