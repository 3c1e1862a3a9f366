"""`Salesforce/xlam-function-calling-60k`: query, and tools and answers as JSON text."""

from __future__ import annotations

from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, call, row_id, tools

# What sets of this shape call the list of calls.
_ANSWER_KEYS = ("answers", "answer", "tool_calls")


def convert(row: Row) -> Record:
    """One step with all calls; arguments may be an object or its JSON text. An empty list says that none fits.

    Raises:
      Refused: `empty_query`, `no_answer` (an absent, null or empty answer says nothing of calls), `bad_call`,
        `bad_json`, `bad_tool`.
    """
    obj = row.obj
    query = obj.get("query")
    if not isinstance(query, str) or not query.strip():
        raise Refused("empty_query")
    key = next((k for k in _ANSWER_KEYS if obj.get(k) not in (None, "")), None)
    answers: Any = as_json(obj[key]) if key else None
    if answers is None:
        raise Refused("no_answer", " or ".join(_ANSWER_KEYS))
    if not isinstance(answers, list):
        raise Refused("bad_call", f"{key} is no list")
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
