"""`Salesforce/xlam-function-calling-60k`: query, and tools and answers as JSON text."""

from __future__ import annotations

from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, call, row_id, tools


def convert(row: Row) -> Record:
    """One step with all calls; arguments may be an object or its JSON text."""
    obj = row.obj
    query = obj.get("query")
    if not isinstance(query, str) or not query.strip():
        raise Refused("empty_query")
    answers: Any = as_json(obj.get("answers") or "[]")
    if not isinstance(answers, list):
        raise Refused("bad_call", "answers is no list")
    step = Step(tool_calls=tuple(map(call, answers)))
    id = row_id(SOURCE.name, row, obj.get("id"))
    return Record(id, query, tools(obj.get("tools")), (step,), source=SOURCE.name, license=SOURCE.license)


SOURCE = Source(
    name="xlam-60k",
    summary="query, answers and tools as JSON text (xlam-function-calling-60k)",
    license="CC-BY-4.0",
    url="https://huggingface.co/datasets/Salesforce/xlam-function-calling-60k",
    convert=convert,
)
