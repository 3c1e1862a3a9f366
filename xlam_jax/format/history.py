"""The history of steps inside a prompt, as the client of the xLAM-1 models writes it.

Source: `xLAM/client/xLAM.py` of the xLAM repository. The user's last words are the query, and all messages so
far follow as a JSON list of steps: each turn of the user is one whose thought and `user_input` are the words,
each turn of the assistant one whose calls stand in a second list, and a result is the observation of the step
before it. A conversation that has only its first query has no history, as on the cards of the models.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from xlam_jax.format.messages import observation_of
from xlam_jax.format.record import Record


def with_history(record: Record, step: int) -> tuple[Record, str]:
    """The record that the prompt of step `step` (from 1) opens with, and the text that follows its sections."""
    before = record.steps[:step]
    query = next((s.user_input for s in reversed(before) if s.user_input), record.query)
    steps = [_step(1, record.query, user=record.query)]
    for past in before:
        calls = (
            [[{"name": c.name, "arguments": c.arguments} for c in past.tool_calls]] if past.tool_calls else []
        )
        steps.append(_step(len(steps) + 1, past.thought, calls, observation_of(past) or ""))
        if past.user_input:
            steps.append(_step(len(steps) + 1, past.user_input, user=past.user_input))
    listed = json.dumps(steps)
    text = f"\n[BEGIN OF HISTORY STEPS]\n{listed}\n[END OF HISTORY STEPS]\n"
    return replace(record, query=query, steps=()), text


def _step(
    number: int, thought: str, calls: Any = (), observation: str = "", user: str = ""
) -> dict[str, Any]:
    return {
        "step_id": number,
        "thought": thought,
        "tool_calls": list(calls),
        "next_observation": observation,
        "user_input": user,
    }
