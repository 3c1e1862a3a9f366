"""Keys and tokens that nothing in the context gave: a model trained on them makes up credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.records.quality.pii import KEY, KEY_STARTS
from xlam_jax.records.quality.references import holds_reference

# Parameters that hold nothing but a secret, and parameters that may hold one ("token": "ETH" is a coin).
_SECRET_NAME = re.compile(
    r"(?:api|app|access|auth|client|private|subscription|secret|rapid_?api|x)[\s_-]?(?:key|token|secret)\b"
    r"|\b(?:secret|bearer|authori[sz]ation)\b",
    re.IGNORECASE,
)
_MAYBE_NAME = re.compile(r"(?:^|[\s_-])(?:key|token|auth|credentials?)$", re.IGNORECASE)
# The key of some services (WolframAlpha, OpenWeatherMap), and elsewhere a package as in com.acme.game2.
_APP_ID = re.compile(r"(?:^|[\s_-])app[\s_-]?id$", re.IGNORECASE)
# Letters and digits in one word of ten or more, or what stands for a secret until somebody has one.
_RANDOM = re.compile(r"(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[\w.~+/=-]{10,}\Z")
_STAND_IN = re.compile(
    r"[<\[{]?\s*(?:your|my|insert|enter|replace)[\s_-].*(?:key|token|secret)|(?:x|\*){4,}\Z|<[\w\s-]*(?:key|token|secret)[\w\s-]*>",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"(?:bearer|token|basic|apikey)\s+", re.IGNORECASE)
# `Authorization: Bearer ...`, `api_key=...`, `?token=...`
_INSIDE = re.compile(
    r"\b(?:authori[sz]ation|(?:x[_-])?(?:api|access|auth|secret)[_-]?(?:key|token|secret))[\"']?\s*[:=]\s*[\"']?"
    r"(?:(?:bearer|basic|token|apikey)\s+)?([\w.~+/=-]{10,})"
    r"|[?&](?:[\w-]*key|[\w-]*token|secret|auth|sig|signature)=([\w.~+/%=-]{10,})",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def invented_secrets(record: Record) -> Iterator[tuple[int, str]]:
    """`(step, place)` of arguments and thoughts with a key that nothing said, returned or documented before."""
    documented = None
    for i, step in enumerate(record.steps):
        suspects = [
            (f"{call.name}.{name}", secret)
            for call in step.tool_calls
            for name, value in _texts("", call.arguments)
            for secret in _secrets(name, value)
        ]
        if any(start in step.thought for start in KEY_STARTS):
            suspects += [("thought", key) for key in KEY.findall(step.thought)]
        if not suspects:
            continue
        if documented is None:
            documented = json.dumps([tool.parameters for tool in record.tools], ensure_ascii=False)
        said = f"{documented}\n{_said(record, i)}".lower()
        for place, value in suspects:
            if _SCHEME.sub("", value, count=1).strip().lower() not in said:
                yield i, place


def _secrets(name: str, value: str) -> list[str]:
    """A value that is a secret, or the secrets in the headers and addresses that it holds."""
    if _is_secret(name, value):
        return [value]
    if not any(mark in value for mark in ":="):
        return []
    inside = (match[1] or match[2] for match in _INSIDE.finditer(value))
    return [text for text in inside if _RANDOM.match(text) and not holds_reference(value)]


def _is_secret(name: str, value: str) -> bool:
    if len(value) < 4 or holds_reference(value):
        return False
    if any(start in value for start in KEY_STARTS) and KEY.search(value):
        return True
    words = _CAMEL.sub("_", name)
    if _SECRET_NAME.search(words):
        return True
    if _APP_ID.search(words):
        return "." not in value and bool(_RANDOM.match(value))
    return bool(_MAYBE_NAME.search(words)) and bool(
        _RANDOM.match(_SCHEME.sub("", value, count=1)) or _STAND_IN.match(value)
    )


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """`(name, text)` of every text and whole number in a value; items of a list have the list's name."""
    if isinstance(value, str):
        yield name, value
    elif type(value) is int:
        yield name, str(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key, item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(name, item)


def _said(record: Record, step: int) -> str:
    parts: list[Any] = [record.query, record.task_instruction, *record.few_shot_examples]
    for earlier in record.steps[:step]:
        parts += [earlier.next_observation, earlier.user_input]
    return "\n".join(p if isinstance(p, str) else json.dumps(p, ensure_ascii=False) for p in parts)
