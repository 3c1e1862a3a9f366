"""OpenAI's fine-tuning rows: `messages` and `tools` (or the older `functions`)."""

from __future__ import annotations

from xlam_jax.format.record import Record
from xlam_jax.records.sources.base import Row, Source, row_id, tools
from xlam_jax.records.sources.conversation import record_from_messages, refuse_media


def convert(row: Row) -> Record:
    """See `record_from_messages`; `tools` and `messages` may be JSON text."""
    obj = row.obj
    refuse_media(obj)
    return record_from_messages(
        obj.get("messages"),
        id=row_id(SOURCE.name, row, obj.get("id")),
        source=SOURCE.name,
        license=SOURCE.license,
        tools=tools(obj.get("tools") or obj.get("functions")),
    )


SOURCE = Source(
    name="openai",
    summary="chat messages with tool_calls, and tools (OpenAI fine-tuning)",
    license="",
    url="https://platform.openai.com/docs/guides/supervised-fine-tuning",
    convert=convert,
)
