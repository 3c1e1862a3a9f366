"""Faults of steps among each other: references to nothing, errors left standing, turns taken twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import ToolCall

_ERROR_TEXT = re.compile(
    r"\W*(?:\w+ )?(?:(?:\w*(?:error|exception))\b(?!-free| rate| bar| margin|s? (?:found|detected)\b)"
    r"|traceback \(most|failed\b|failure\b|invalid \w+|unauthori[sz]ed\b|forbidden\b|access denied"
    r"|not found\b|bad request|request (?:timed out|failed)|timed? ?out\b|rate limit exceeded|too many req"
    r"|internal server|service unavailable|http/?(?:\d\.\d)? ?[45]\d\d\b"
    r"|[45]\d\d (?:client|server|bad|not|un)"
    r"|unknown (?:function|tool|argument)|no such (?:function|tool|api))",
    re.IGNORECASE,
)
_ERROR_KEYS = ("error", "errors", "exception", "traceback", "error_message")
_NO_ERROR = (None, "", False, 0, [], {}, "null", "none", "None")
_DATA_KEYS = ("response", "result", "results", "data")
_BAD_WORDS = ("error", "fail", "failed", "failure", "exception")


def is_error(observation: Any) -> bool:
    """Whether an observation reports that its call failed: by its keys, its status, or its first words."""
    if isinstance(observation, str):
        text = observation.strip()
        if text[:1] in ("{", "["):
            try:
                return is_error(json.loads(text))
            except (ValueError, RecursionError):
                return bool(re.match(r"\W*error\b['\"]?\s*:\s*['\"]?\w", text[:60], re.IGNORECASE))
        return bool(_ERROR_TEXT.match(text[:120]))
    if isinstance(observation, list):
        return bool(observation) and all(
            isinstance(o, dict | str | list) and is_error(o) for o in observation
        )
    if not isinstance(observation, dict):
        return False
    for key, value in observation.items():
        name = key.lower()
        if name in _ERROR_KEYS and value not in _NO_ERROR:
            # ToolBench sends data together with a complaint about its length.
            return not any(observation.get(key) for key in _DATA_KEYS)
        if name in ("status", "result", "outcome") and isinstance(value, str) and value.lower() in _BAD_WORDS:
            return True
        if (
            name in ("status", "status_code", "statuscode", "code")
            and type(value) is int
            and 400 <= value < 600
        ):
            return True
        if name in ("success", "ok") and value is False:
            return True
    return False


def unrecovered_errors(record: Record) -> Iterator[tuple[int, str]]:
    """`(step, observation)` of failed calls that no later step made good by calling the function again."""
    failed: dict[str, tuple[int, str]] = {}
    for i, step in enumerate(record.steps):
        if not step.tool_calls or step.next_observation in ("", None):
            continue
        for call, bad in _outcomes(step):
            if bad:
                failed[call.name] = (i, _text(step.next_observation)[:80])
            else:
                failed.pop(call.name, None)
    yield from sorted(set(failed.values()))


def recovered_errors(record: Record) -> list[int]:
    """Steps all of whose calls failed, where later ones called each of their functions with success."""
    waiting: dict[int, set[str]] = {}
    for i, step in enumerate(record.steps):
        if not step.tool_calls or step.next_observation in ("", None):
            continue
        outcomes = list(_outcomes(step))
        for names in waiting.values():
            names.difference_update(call.name for call, bad in outcomes if not bad)
        if all(bad for _, bad in outcomes):
            waiting[i] = {call.name for call, _ in outcomes}
    return [i for i, names in waiting.items() if not names]


def _text(observation: Any) -> str:
    return observation if isinstance(observation, str) else json.dumps(observation, ensure_ascii=False)


def _outcomes(step: Step) -> Iterator[tuple[ToolCall, bool]]:
    """Each call with its verdict: its own where observations come one a call, else the common one."""
    seen = step.next_observation
    if isinstance(seen, str) and seen.lstrip()[:1] == "[":
        try:
            seen = json.loads(seen)
        except (ValueError, RecursionError):
            seen = step.next_observation
    if isinstance(seen, list) and len(seen) == len(step.tool_calls):
        yield from ((call, is_error(one)) for call, one in zip(step.tool_calls, seen, strict=True))
    else:
        bad = is_error(seen)
        yield from ((call, bad) for call in step.tool_calls)


def repeated_turns(record: Record) -> Iterator[tuple[int, str]]:
    """`(step, what)` of steps that only repeat the one before: the same calls, or the same words.

    A call made again after an error, or because the user spoke in between, is no repetition.
    """
    for i in range(1, len(record.steps)):
        last, step = record.steps[i - 1], record.steps[i]
        if last.tool_calls != step.tool_calls or last.user_input:
            continue
        if step.tool_calls:
            if not is_error(last.next_observation):
                yield i, step.tool_calls[0].name
        elif step.thought and step.thought == last.thought:
            yield i, step.thought[:60]
