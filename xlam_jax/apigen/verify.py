"""Is a row fit to learn from? Format rules, execution of every call, duplicates; each failure has a code."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jsonschema
from jsonschema.validators import extend

from xlam_jax.apigen.library import ApiFunction
from xlam_jax.apigen.offline.provenance import trace_call
from xlam_jax.apigen.sandbox import Outcome, Sandbox
from xlam_jax.format import Record, Tool, ToolCall

STAGES = ("format", "execution", "semantic", "duplicates")
FORMAT_REASONS = (
    "empty_query", "wrong_count", "unknown_function", "missing_required", "unknown_parameter", "wrong_type",
    "not_in_enum", "ungrounded_value",
)  # fmt: skip
EXECUTION_REASONS = ("raised", "timeout", "memory", "too_large", "not_serialisable")
DUPLICATE_REASONS = ("duplicate", "near_duplicate")


@dataclass(frozen=True)
class Rejection:
    """Why a row is dropped: a reason code and what was found."""

    reason: str
    detail: str = ""


def queries_of(record: Record) -> list[str]:
    """The user's message before each step."""
    return [record.query, *(step.user_input for step in record.steps[:-1])]


def check_format(record: Record) -> Rejection | None:
    """Stage 1: rules on the text and the calls alone.

    Every user turn has words; a style with one call has one, a parallel one several, irrelevance none (first
    turn); each call names an offered tool, gives what is required and nothing unknown, with values of the
    right type and of the enum, and each number, text and list item is to be found in the query.
    """
    style = next((part[6:] for part in record.lineage if part.startswith("style:")), "")
    tools = {tool.name: tool for tool in record.tools}
    for i, (query, step) in enumerate(zip(queries_of(record), record.steps, strict=True)):
        if not query.strip():
            return Rejection("empty_query", f"turn {i + 1}")
        for call in step.tool_calls:
            if call.name not in tools:
                return Rejection("unknown_function", call.name)
            if fault := _check_arguments(call, tools[call.name]):
                return fault
            if fault := check_grounding(call, tools[call.name], query):
                return fault
        if i == 0 and (fault := check_count(style, step.tool_calls)):
            return fault
    return None


def check_count(style: str, calls: Sequence[ToolCall]) -> Rejection | None:
    """Whether a row of this style has so many calls of so many functions."""
    n, names = len(calls), {call.name for call in calls}
    right = {
        "simple": n == 1,
        "multiple": n == 1,
        "parallel": n > 1 and len(names) == 1,
        "parallel_multiple": n > 1 and len(names) > 1,
        "irrelevance": n == 0,
    }.get(style, True)
    return (
        None if right else Rejection("wrong_count", f"{n} calls of {len(names)} functions in a {style} row")
    )


def _check_arguments(call: ToolCall, tool: Tool) -> Rejection | None:
    properties = tool.parameters["properties"]
    for name in tool.parameters["required"]:
        if name not in call.arguments:
            return Rejection("missing_required", f"{call.name}.{name}")
    for name, value in call.arguments.items():
        if name not in properties:
            return Rejection("unknown_parameter", f"{call.name}.{name}")
        error = next(_validator(json.dumps(properties[name])).iter_errors(value), None)
        if error is not None:
            reason = "not_in_enum" if error.validator == "enum" else "wrong_type"
            return Rejection(reason, f"{call.name}.{name}: {error.message[:120]}")
    return None


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# JSON Schema counts 5.0 as an integer; Python functions and the scoring rules do not.
_Strict = extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


@functools.lru_cache(maxsize=4096)
def _validator(schema: str) -> Any:
    return _Strict(json.loads(schema))


def check_grounding(call: ToolCall, tool: Tool, query: str) -> Rejection | None:
    """Whether a span of the query means each value of a call, see `offline.provenance`."""
    _, lost = trace_call(call, tool, query)
    if not lost:
        return None
    value = json.dumps(call.arguments.get(lost[0].partition(".")[0]), ensure_ascii=False)[:80]
    return Rejection("ungrounded_value", f"{call.name}.{lost[0]} = {value}")


class Executor:
    """Stage 2: runs calls in a sandbox, each different call once.

    Args:
      library: where to find the functions by name.
    """

    def __init__(self, library: Iterable[ApiFunction], sandbox: Sandbox):
        self._targets = {api.name: api.target for api in library}
        self._sandbox = sandbox
        self._outcomes: dict[str, Outcome] = {}

    def run(self, records: Iterable[Record]) -> None:
        """Executes every call of the records that has not been executed yet."""
        new: dict[str, ToolCall] = {}
        for record in records:
            for step in record.steps:
                for call in step.tool_calls:
                    if (key := call_key(call)) not in self._outcomes:
                        new[key] = call
        jobs = [(self._targets[call.name], call.arguments) for call in new.values()]
        for key, outcome in zip(new, self._sandbox.run(jobs), strict=True):
            self._outcomes[key] = outcome

    def outcome(self, call: ToolCall) -> Outcome:
        """The outcome of an executed call."""
        return self._outcomes[call_key(call)]

    def check(self, record: Record) -> Rejection | None:
        """The first call of the record that did not end well."""
        for step in record.steps:
            for call in step.tool_calls:
                outcome = self.outcome(call)
                if outcome.status != "ok":
                    return Rejection(outcome.status, f"{call.name}: {outcome.error}")
        return None

    def observe(self, record: Record, max_chars: int = 120) -> Record:
        """Fills each step's observation with the results, cut to `max_chars`."""
        steps = []
        for step in record.steps:
            results = [self.outcome(call).value for call in step.tool_calls]
            text = json.dumps(results, ensure_ascii=False) if results else ""
            steps.append(
                replace(step, next_observation=text if len(text) <= max_chars else text[:max_chars] + "...")
            )
        return replace(record, steps=tuple(steps))


class Deduplicator:
    """Stage 3: drops a row whose content, or whose words and calls, were seen before."""

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._near: set[str] = set()

    def check(self, record: Record) -> Rejection | None:
        """Remembers the record, or says which kind of repetition it is.

        Exact: the same canonical JSON but for the id. Near: the same words and calls whatever the case,
        punctuation and spacing (and, when nothing is called, the same tools).
        """
        obj = record.to_json()
        obj.pop("id")
        exact = json.dumps(obj, sort_keys=True, ensure_ascii=False)
        words = [" ".join(re.findall(r"\w+", query.casefold())) for query in queries_of(record)]
        calls = [[call_key(call) for call in step.tool_calls] for step in record.steps]
        tools = sorted(tool.name for tool in record.tools) if not all(calls) else []
        near = json.dumps([words, calls, tools], ensure_ascii=False)
        if exact in self._exact:
            return Rejection("duplicate")
        if near in self._near:
            return Rejection("near_duplicate", record.query[:80])
        self._exact.add(exact)
        self._near.add(near)
        return None


def call_key(call: ToolCall) -> str:
    """A call as canonical JSON."""
    return json.dumps([call.name, call.arguments], sort_keys=True, ensure_ascii=False)
