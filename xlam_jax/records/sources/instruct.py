"""General instruction data, without tools; how a row is written is seen from its fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.sources import sharegpt
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id
from xlam_jax.records.sources.conversation import record_from_messages
from xlam_jax.records.sources.rows import data_files, read_members, read_rows

_ASKED = ("instruction", "prompt", "question", "inputs")
_ANSWERED = ("output", "response", "completion", "answer", "targets")


def rows(path: Path) -> Iterator[Row]:
    """As `read_rows`; a DialogStudio file is one object of dialogues by name, each of which is a row."""
    for file in data_files(path):
        yield from read_members(file, "log") or read_rows(file)


def convert(row: Row) -> Record:
    """Reads, by its fields, one of:

    * chat messages (`messages`) or ShareGPT (`conversations`);
    * Data Provenance: a list of `{from, text, parent, score}`, where branches follow the best score
      (lineage: `cut_other_replies`);
    * DialogStudio: `log` of `user utterance` and `system response`, `prompt` and `external knowledge`
      (knowledge of single turns is left out: `cut_external_knowledge`; of several prompts the first
      is taken: `cut_other_prompts`);
    * Alpaca: `instruction, input, output` with `system` and `history`, or other names of question and answer.

    Raises:
      Refused: `has_tools` (another source is right), `unknown_shape`, and those of `record_from_messages`.
    """
    value = row.value
    lineage: list[str] = []
    if isinstance(value, list):
        return _record(row, None, _provenance(value, lineage), lineage)
    obj = row.obj
    if obj.get("tools") or obj.get("functions"):
        raise Refused("has_tools")
    if isinstance(obj.get("log"), list):
        messages = _dialog(obj, lineage)
    elif obj.get("messages"):
        messages = as_json(obj["messages"])
        first = messages[0] if isinstance(messages, list) and messages else None
        if isinstance(first, dict) and "text" in first:
            messages = _provenance(messages, lineage)
    elif obj.get("conversations") or obj.get("conversation"):
        messages = sharegpt.messages(obj)
    else:
        messages = _alpaca(obj)
    own = obj.get("id") or obj.get("new dialog id") or obj.get("original dialog id")
    return _record(row, own, messages, lineage)


def _record(row: Row, own: Any, messages: Any, lineage: list[str]) -> Record:
    record = record_from_messages(
        messages,
        id=row_id(SOURCE.name, row, row.extra or own),
        source=SOURCE.name,
        license=SOURCE.license,
        lineage=tuple(lineage),
    )
    if any(step.tool_calls for step in record.steps):
        raise Refused("has_tools")
    return record


def _alpaca(obj: dict[str, Any]) -> list[dict[str, Any]]:
    asked = next((key for key in _ASKED if obj.get(key)), None)
    answered = next((key for key in _ANSWERED if obj.get(key)), None)
    if not asked or not answered:
        raise Refused("unknown_shape", ", ".join(map(str, obj))[:200])
    messages = [{"role": "system", "content": obj["system"]}] if obj.get("system") else []
    for turn in obj.get("history") or []:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Refused("bad_message", "history is no list of pairs")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    parts = [obj[asked], obj.get("input") or obj.get("context")]
    if not all(isinstance(part or "", str) for part in parts):
        raise Refused("not_text", str(parts)[:80])
    query = "\n\n".join(part for part in parts if part)
    return [
        *messages,
        {"role": "user", "content": query},
        {"role": "assistant", "content": obj[answered]},
    ]


def _provenance(items: list[Any], lineage: list[str]) -> list[dict[str, Any]]:
    """Walks from the first message to its best answer, that one's best answer, and so on."""
    if not items or not all(isinstance(item, dict) and isinstance(item.get("text"), str) for item in items):
        raise Refused("unknown_shape", "a list of other things than messages with text")
    messages, at = [], 0
    while at is not None:
        role = "assistant" if at and items[at].get("from") != "user" else items[at].get("from")
        messages.append({"role": role, "content": items[at]["text"]})
        replies = [i for i, item in enumerate(items) if i > at and item.get("parent") == at]
        at = max(replies, key=lambda i: items[i].get("score") or 0, default=None)
    if len(messages) < len(items):
        lineage.append("cut_other_replies")
    return messages


def _dialog(obj: dict[str, Any], lineage: list[str]) -> list[dict[str, Any]]:
    prompts = obj.get("prompt") or []
    prompts = prompts if isinstance(prompts, list) else [prompts]
    if len(prompts) > 1:
        lineage.append("cut_other_prompts")
    messages = [{"role": "system", "content": p} for p in [*prompts[:1], obj.get("external knowledge")] if p]
    for turn in obj["log"]:
        if not isinstance(turn, dict):
            raise Refused("bad_message", "a turn that is no object")
        if turn.get("external knowledge") and "cut_external_knowledge" not in lineage:
            lineage.append("cut_external_knowledge")
        said = {"user": turn.get("user utterance"), "assistant": turn.get("system response")}
        messages += [{"role": role, "content": text} for role, text in said.items() if text]
    return messages


SOURCE = Source(
    name="instruct",
    summary="general instruction data: chats, Alpaca, DialogStudio, Data Provenance",
    license="",
    url="https://github.com/salesforce/DialogStudio",
    convert=convert,
    rows=rows,
    calls=False,
)
