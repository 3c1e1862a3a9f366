"""Corruptions of what stands around the calls: observations, turns, thoughts, queries, neighbours."""

from __future__ import annotations

import json
from dataclasses import replace

from xlam_jax.format.record import Record
from xlam_jax.records.quality.corrupt_places import Pool, Rng, pick, with_step


def error_observation(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The last calls come back as an error, and the record goes on as if nothing had happened."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    if not steps:
        return None
    errors = (
        {"error": "Invalid API key."},
        "Error: request timed out",
        {"status": "error", "message": "city not found"},
        json.dumps({"error": "Rate limit exceeded", "response": ""}),
        "Traceback (most recent call last):\n  ...\nValueError: bad input",
        {"status_code": 500, "body": "Internal Server Error"},
    )
    step = replace(record.steps[steps[-1]], next_observation=pick(rng, errors))
    return with_step(record, steps[-1], step)


def repeated_turn(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A step is taken twice in a row, with the same calls and the same result."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    index = pick(rng, steps)
    if index is None:
        return None
    step = replace(record.steps[index], user_input="")
    return with_step(record, index, step, record.steps[index])


def low_quality_thought(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A thought that says nothing, goes in circles, or contradicts the calls it stands before."""
    steps = [i for i, step in enumerate(record.steps) if step.tool_calls]
    index = pick(rng, steps)
    if index is None:
        return None
    called = {call.name for call in record.steps[index].tool_calls}
    thoughts = [
        "ok",
        "N/A",
        "...",
        "I need to call the tool. " * 4,
        "None of the available tools is needed for this request, so I will not call any of them.",
        "As an AI language model, I cannot access real-time data, so the answer is unknown to me.",
    ]
    others = [tool.name for tool in record.tools if tool.name not in called]
    if others:
        thoughts.append(f"The right function here is {pick(rng, others)}, so I will call it.")
    return with_step(record, index, replace(record.steps[index], thought=pick(rng, thoughts)))


def too_long(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """A query that goes on for more than any context holds."""
    words = [str(pick(rng, pool.functions) or "word") + str(int(rng.integers(1_000_000))) for _ in range(500)]
    return replace(record, query=record.query + " " + " ".join(words * (1 + 300_000 // len(" ".join(words)))))


def pii(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The query gives away a person or a secret."""
    n = [int(d) for d in rng.integers(0, 10, 20)]
    digits = "".join(map(str, n))
    card = _luhn_complete("4" + digits[:14])
    secrets = (
        f"My address is jane.doe{digits[:3]}@fastmail.com.",
        f"Call me at (415) {2 + n[0] % 8}{n[1]}{n[2]}-{digits[3:7]}.",
        f"You can charge {card[:4]} {card[4:8]} {card[8:12]} {card[12:]}.",
        f"My SSN is {100 + n[0] * 10 + n[1]}-{10 + n[2]}-{1000 + int(digits[3:6])}.",
        f"Use the key AKIA{''.join(chr(65 + d) for d in n[:16])}.",
        f"My token is ghp_{''.join(chr(97 + d) for d in n)}{''.join(chr(65 + d) for d in n[:16])}.",
    )
    return replace(record, query=f"{record.query} {pick(rng, secrets)}")


def _luhn_complete(digits: str) -> str:
    total = 0
    for i, c in enumerate(reversed(digits)):
        d = int(c) * (2 if i % 2 == 0 else 1)
        total += d - 9 if d > 9 else d
    return digits + str(-total % 10)


def duplicate(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The same row under another id, its spacing and capitals aside."""
    query = record.query if rng.random() < 0.5 else "  ".join(record.query.split(" ")).upper()
    return replace(record, id=f"{record.id}-copy", query=query)


def near_duplicate(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The same row with a word of courtesy; None where the query is too short to stay near."""
    if len(record.query.split()) < 12:
        return None
    query = f"{record.query} Thanks!" if rng.random() < 0.5 else f"Please: {record.query}"
    return replace(record, id=f"{record.id}-near", query=query)


def contamination(record: Record, rng: Rng, pool: Pool) -> Record | None:
    """The query of an evaluation set, as it is or inside a longer one."""
    query = pick(rng, pool.evaluation)
    if query is None:
        return None
    if len(query.split()) >= 13 and rng.random() < 0.5:
        query = f"Here is what I want. {query} That is all."
    return replace(record, query=query)
