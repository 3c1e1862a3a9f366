"""The opening of a conversation: the sections of a Record as system and first user turn."""

from __future__ import annotations

import json
from typing import Any

from xlam_jax.format.layout import Layout
from xlam_jax.format.record import Record
from xlam_jax.format.templates import ChatTemplate


def is_plain_chat(record: Record) -> bool:
    """Whether the record is an ordinary conversation: no tools, and no format is asked for.

    Such a record shows no sections and no format instruction, and its answers without calls are plain
    text. Only what a prompt knows decides, so that training and generation agree.
    """
    return not record.tools and not record.format_instruction


def opening(
    record: Record, chat: ChatTemplate, layout: Layout, task_instruction: str, format_instruction: str
) -> str:
    """The text before the first assistant turn.

    Args:
      task_instruction, format_instruction: for records that bring none.
    """
    task, query = layout.words(record.task_instruction), layout.words(record.query)
    task = task if task.strip() else ""  # a blank one instructs nothing
    shots = "\n".join(map(as_text, record.few_shot_examples))
    plain = is_plain_chat(record)
    if plain and not layout.default_system:
        system, user = "\n\n".join(filter(None, (task, shots))), query
    else:
        defaults_apply = not layout.default_system or not (task or plain)
        text = layout.join(
            {
                "TASK INSTRUCTION": task or task_instruction,
                "AVAILABLE TOOLS": layout.tools.text(record.tools),
                "FORMAT INSTRUCTION": record.format_instruction
                or (format_instruction if defaults_apply else ""),
                "FEW-SHOT EXAMPLES": shots,
                "QUERY": "" if layout.system else query,
            }
        )
        system, user = (text, query) if layout.system else ("", text)
    return chat.bos + chat.preamble + _turns(chat, system, user)


def _turns(chat: ChatTemplate, system: str, user: str) -> str:
    before = ""
    if system and chat.system[0]:
        before = chat.system[0] + system + chat.system[1]
    elif system:
        user = system + "\n\n" + user
    return before + chat.user[0] + user + chat.user[1]


def as_text(value: Any) -> str:
    """Text as it is, any other JSON value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
