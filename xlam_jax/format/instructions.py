"""What a format instruction promises, where its wording is one of ours or of a released family."""

from __future__ import annotations

import functools

from xlam_jax.format.call_formats import CALL_FORMATS
from xlam_jax.format.codec import Codec
from xlam_jax.format.instruction_texts import letters
from xlam_jax.format.opening import is_plain_chat
from xlam_jax.format.presets import PRESETS
from xlam_jax.format.record import Record


@functools.cache
def _promises() -> dict[str, set[tuple[str, bool]]]:
    """Letters of a wording -> the call formats it asks for, each with or without a thought."""
    promises: dict[str, set[tuple[str, bool]]] = {}
    for form in CALL_FORMATS.values():
        for thought in (False, True):
            for text in form.instructions(thought):
                promises.setdefault(letters(text), set()).add((form.name, thought))
    for preset in PRESETS.values():
        asked = promises.setdefault(letters(preset.format_instruction), set())
        asked.add((preset.call_format, preset.thought))
    return promises


def contradiction(record: Record, codec: Codec) -> str:
    """What the record's instruction asks for, where the codec writes its answers otherwise; else empty.

    A wording is known whatever its whitespace.
    Wordings of our own that differ by the thought alone are no contradiction: the codec takes the other one.
    """
    text = codec.instruction_of(record)
    asked = _promises().get(letters(text)) if text else None
    if not asked or is_plain_chat(record) or (codec.call_format, codec.thought) in asked:
        return ""
    name, thought = sorted(asked)[0]
    return f"asks for {_called(name, thought)}, is written as {_called(codec.call_format, codec.thought)}"


def _called(call_format: str, thought: bool) -> str:
    return f"{call_format} {'with' if thought else 'without'} a thought"
