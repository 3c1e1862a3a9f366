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
        results = _results(step, calls)
        if not results and not step.user_input and i < len(record.steps) and _goes_on(step, record.steps[i]):
            results = _one_result("", calls)  # or the two messages would be read as one turn
        message: dict[str, Any] = {"role": "assistant", "content": step.thought}
        if calls:
            message["tool_calls"] = calls
        out += [message, *results]
        if step.user_input:
            out.append({"role": "user", "content": step.user_input})
    return out


def _goes_on(step: Step, after: Step) -> bool:
    """Whether a message of the assistant right after another one is read as a part of its turn."""
    return not step.tool_calls or bool(after.tool_calls and not after.thought.strip())


def _results(step: Step, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came back: a message for each call, or one where it is no list of a result for each.

    One result for several calls is nobody's in particular, so that the ids go: a result with an id is that call's.
    """
    if (observation := observation_of(step)) is None:
        return []
    if each := _texts_of_each(step):
        return [
            {"role": "tool", "content": text, "tool_call_id": call["id"]}
            for text, call in zip(each, calls, strict=True)
        ]
    return _one_result(observation, calls)


def _one_result(content: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = {"role": "tool", "content": content}
    if len(calls) == 1:
        result["tool_call_id"] = calls[0]["id"]
    for call in calls if len(calls) > 1 else ():
        del call["id"]
    return [result]


def observation_of(step: Step) -> str | None:
    """The observation as text, or None where there is none; 0, False, [] and {} are observations.

    The results of several calls are a list of texts, structured ones too: a client's messages hold nothing else.
    """
    value = _texts_of_each(step) or step.next_observation
    return None if value is None or value == "" else as_text(value)


def _texts_of_each(step: Step) -> list[str] | None:
    """A text for each of several calls; None where the observation is no list of a result for each."""
    value = step.next_observation
    if not isinstance(value, list) or not len(value) == len(step.tool_calls) > 1:
        return None
    return ["" if v is None else as_text(v) for v in value]
