"""Does a call mean what the query asks? The paper's five criteria, put to a language model as judge."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from xlam_jax.apigen.executors import Executed
from xlam_jax.apigen.verify import Rejection
from xlam_jax.format import Record
from xlam_jax.format.tools import xlam_view
from xlam_jax.llm import Messages

_SYSTEM = (
    "You check whether function calls answer a query. They do not pass if any of these holds:\n"
    "1. a call does not match the goal of the query, or its arguments are not what the query says;\n"
    "2. a function or an argument is not the best choice among the functions given;\n"
    "3. there are more or fewer calls than the query asks for;\n"
    "4. a result has nothing to do with what the function is for;\n"
    "5. a result shows an error.\n"
    "A query that no function given can answer, or that lacks a needed value, passes with no calls, and only so. "
    "Made-up or shortened results are no fault.\n"
    'Answer with one JSON object and nothing else: {"thought": "...", "pass": "yes" or "no"}.'
)
_RESULT_CHARS = 500


def question(record: Record, results: Sequence[Executed]) -> Messages:
    """What the judge is asked about a row of one step and the results of its calls."""
    calls = [{"name": c.name, "arguments": c.arguments} for c in record.steps[0].tool_calls]
    shown = [
        "made up" if r.executor == "mock" else json.dumps(r.outcome.value, ensure_ascii=False)[:_RESULT_CHARS]
        for r in results
    ]
    parts = (
        "Functions:\n" + "\n".join(json.dumps(xlam_view(t), ensure_ascii=False) for t in record.tools),
        f"Query: {record.query}",
        f"Calls: {json.dumps(calls, ensure_ascii=False)}",
        f"Results: {json.dumps(shown, ensure_ascii=False)}",
    )
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}]


def verdict(answer: str) -> Rejection | None:
    """Reads the judge's answer; one that is no verdict does not pass a row."""
    text = re.sub(r"(?s)<think>.*?</think>", "", answer)
    for match in re.finditer(r"{", text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        said = str(value.get("pass", value.get("passes", ""))).strip().lower()
        if said in ("yes", "true"):
            return None
        if said in ("no", "false"):
            return Rejection("judged_wrong", str(value.get("thought", ""))[:300])
    return Rejection("judge_unreadable", answer[:120])
