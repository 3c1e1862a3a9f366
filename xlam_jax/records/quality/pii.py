"""Strings that identify a person or open a door: found by shape and check digit, masked by reserved ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import ToolCall

# git@host:path is an address of a repository.
_EMAIL = re.compile(r"(?<![\w.+-])(?!git@)[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
# RFC 2606 and common usage keep these for examples.
_EXAMPLE_HOST = re.compile(
    r"@(?:[\w-]+\.)*(?:example(?:\.\w+)?|\w+\.(?:test|invalid|localhost))\Z", re.IGNORECASE
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    r"|(?<![\w.-])\+\d{1,3}(?:[ .-]?\d){7,12}(?![\w-])"
)
KEY = re.compile(
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,}|sk-[A-Za-z0-9_-]{20,}"
    r"|(?:hf|npm|gsk|r8|[srp]k_(?:live|test)|do[opr]_v1)_[A-Za-z0-9]{20,}|glpat-[\w-]{16,}|ya29\.[\w-]{20,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{35}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
KEY_STARTS = (
    *(
        "AKIA",
        "ASIA",
        "gh",
        "sk-",
        "xox",
        "AIza",
        "eyJ",
        "-----BEGIN",
        "hf_",
        "npm_",
        "gsk_",
        "r8_",
        "k_live_",
    ),
    *("k_test_", "_v1_", "glpat-", "ya29.", "SG."),
)
_DIGITS = re.compile(r"\d{3}[ .)-]{0,2}\d\d")


def find_pii(text: str) -> list[tuple[str, str]]:
    """`(kind, string)` of each find, in order of kinds: email, key, ssn, card, phone.

    Reserved values are none: hosts of example.com, 555-01xx numbers, the card number of all test suites.
    """
    finds = []
    if "@" in text:
        finds += [("email", m) for m in _EMAIL.findall(text) if not _EXAMPLE_HOST.search(m)]
    if any(start in text for start in KEY_STARTS):
        finds += [("key", m) for m in KEY.findall(text)]
    if _DIGITS.search(text):
        finds += [("ssn", m) for m in _SSN.findall(text)]
        finds += [("card", m) for m in _CARD.findall(text) if _is_card(m)]
        finds += [("phone", m) for m in _PHONE.findall(text) if not _is_fiction(m) and not _is_card(m)]
    return finds


def _is_card(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 4:
        return False
    doubled = [d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _is_fiction(phone: str) -> bool:
    digits = re.sub(r"\D", "", phone)
    return digits[-7:-2] == "55501" or len(set(digits)) <= 2 or digits[-10:] == "1234567890"


def record_texts(record: Record) -> Iterator[str]:
    """What users, models and tools said; tool descriptions are documentation and stay out."""
    yield record.query
    yield record.task_instruction
    for step in record.steps:
        yield step.thought
        for call in step.tool_calls:
            yield from _strings(call.arguments)
        yield from _strings(step.next_observation)
        yield step.user_input


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif type(value) is int and value > 10**8:
        yield str(value)


def mask(record: Record) -> tuple[Record, list[str]]:
    """The record with every find replaced by a reserved value of its kind, the same one everywhere.

    Calls stay grounded, because a query and the arguments made of it change alike.

    Returns:
      The record, and the kinds that were masked, in order of first appearance.
    """
    finds: dict[str, str] = {}
    for text in record_texts(record):
        finds.update({string: kind for kind, string in find_pii(text) if string not in finds})
    if not finds:
        return record, []
    numbers: dict[str, int] = {}
    swap: dict[str, str] = {}
    for string, kind in finds.items():
        numbers[kind] = numbers.get(kind, 0) + 1
        swap[string] = _stand_in(kind, numbers[kind])
    # Longer ones first: a find may be a part of another.
    pattern = re.compile("|".join(re.escape(s) for s in sorted(swap, key=len, reverse=True)))

    def clean(value: str) -> str:
        return pattern.sub(lambda m: swap[m[0]], value)

    def masked(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value)
        if isinstance(value, dict):
            return {name: masked(item) for name, item in value.items()}
        if isinstance(value, list):
            return [masked(item) for item in value]
        if type(value) is int and str(value) in swap:
            return int(re.sub(r"\D", "", swap[str(value)]))
        return value

    steps = tuple(
        Step(
            clean(step.thought),
            tuple(ToolCall(call.name, masked(call.arguments)) for call in step.tool_calls),
            masked(step.next_observation),
            clean(step.user_input),
            step.weight,
        )
        for step in record.steps
    )
    changed = replace(
        record, query=clean(record.query), task_instruction=clean(record.task_instruction), steps=steps
    )
    return changed, list(numbers)


def _stand_in(kind: str, number: int) -> str:
    if kind == "email":
        return f"person{number}@example.com"
    if kind == "phone":
        return f"202-555-01{number % 100:02d}"
    if kind == "ssn":
        return f"000-00-{number:04d}"
    # Luhn accepts no number of this form: its check digit is off by one.
    return f"0000 0000 0000 {number:04d}" if kind == "card" else f"SECRET_{number}"
