"""A record as chat messages."""

from __future__ import annotations

from typing import Any

from xlam_jax.format.opening import as_text
from xlam_jax.format.record import Record, Step


def messages_of(record: Record) -> list[dict[str, Any]]:
    """OpenAI's chat messages; arguments stay objects, as Hugging Face templates expect them."""
    out: list[dict[str, Any]] = []
    if record.task_instruction:
        out.append({"role": "system", "content": record.task_instruction})
    out.append({"role": "user", "content": record.query})
    for i, step in enumerate(record.steps, 1):
        calls = [
            {
                "id": f"call_{i}_{j}",
                "type": "function",
                "function": {"name": c.name, "arguments": c.arguments},
            }
            for j, c in enumerate(step.tool_calls, 1)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": step.thought}
        if calls:
            message["tool_calls"] = calls
        out.append(message)
        if (observation := observation_of(step)) is not None:
            result = {"role": "tool", "content": observation}
            out.append({**result, "tool_call_id": calls[0]["id"]} if calls else result)
        if step.user_input:
            out.append({"role": "user", "content": step.user_input})
    return out


def observation_of(step: Step) -> str | None:
    """The observation as text, or None where there is none; 0, False, [] and {} are observations."""
    value = step.next_observation
    return None if value is None or value == "" else as_text(value)
