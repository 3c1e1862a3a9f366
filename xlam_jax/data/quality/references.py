"""Values that stand for the result of an earlier call, in the spellings of the data sets that have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from xlam_jax.format.record import Record

# Seal-Tools' API_call_0, plans' $call_1.result and ${step_2}, ReWOO's #E1, ToolAlpaca's ${id from search};
# not prices such as $500.
_REFERENCE = re.compile(
    r"\bAPI_call_(\d+)\b"
    r"|\$\{?(?:api_call|call|step|result|output|response|ref|var|tool)s?[._\[]?(\d+)\b"
    r"|\$\{?(\d+)(?=[.\[][A-Za-z_\"'])"
    r"|(?<!\w)#E(\d+)\b"
    r"|\$\{[\w ]+ from (?P<name>\w+)\}"
)
_PATH = re.compile(r"[\w.\[\]'\"-]*\}?")
# Seal-Tools numbers the values that calls return, and a call may return several.
_VALUES_OF_A_CALL = 16


def is_reference(value: Any) -> bool:
    """Whether a value is a reference to the result of a call, and nothing beside it."""
    if not isinstance(value, str):
        return False
    match = _REFERENCE.match(value)
    return match is not None and _PATH.fullmatch(value, match.end()) is not None


def holds_reference(value: Any) -> bool:
    """Whether a text has a reference in it."""
    return isinstance(value, str) and _REFERENCE.search(value) is not None


def undefined_references(record: Record) -> Iterator[tuple[int, str, str]]:
    """`(step, argument, reference)` of values that point at the result of a call not made before.

    A reference is defined when something said or returned so far names it, or when so many calls went before
    (numbers may start at 0 or 1).
    """
    before: list[str] = []
    for i, step in enumerate(record.steps):
        for call in step.tool_calls:
            for name, value in call.arguments.items():
                text = value if isinstance(value, str) else json.dumps(value) if _nested(value) else ""
                if "$" not in text and "API_call_" not in text and "#E" not in text:
                    continue
                for match in _REFERENCE.finditer(text):
                    if not _is_defined(match, before) and match[0].rstrip("}") not in _spoken(record, i):
                        yield i, name, match[0]
            before.append(call.name)


def _is_defined(match: re.Match[str], before: list[str]) -> bool:
    if match["name"]:
        return match["name"] in before
    number = int(next(group for group in match.groups() if group is not None))
    if match[0].startswith("API_call_"):
        return number < _VALUES_OF_A_CALL * len(before)
    return number <= len(before) and len(before) > 0


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _spoken(record: Record, step: int) -> str:
    """What was said and returned before a step."""
    parts = [record.query, record.task_instruction]
    for earlier in record.steps[:step]:
        parts += [json.dumps(earlier.next_observation, ensure_ascii=False), earlier.user_input]
    return "\n".join(parts)
