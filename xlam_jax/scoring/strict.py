"""Strict rules beside BFCL's: what its checker forgives or misses, judged as the schemas and the languages have it.

The published answers stay the measure; only the comparison differs:

- text is compared with its punctuation (`-5` is not `5`), case and runs of white space aside;
- a number is its value at every depth: 1 in a list of floats is 1.0, `0.1 + 0.2` is 0.3, and True is no number;
- elements of lists are checked at every depth; a parameter of any type takes any value;
- `""` among the answers says that a parameter may be left out, and is itself a value of a required one only;
- parallel calls are matched in the best way, not the first;
- a relevant answer has to call functions that are offered, with the arguments that they require;
- Java and JavaScript are read as literals (`source_literals`), in which quotes protect commas.

Published scores are BFCL's; these are never mixed with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from xlam_jax.format import Tool, ToolCall
from xlam_jax.scoring.bfcl import CATEGORIES, LANGUAGES, OK, Answers, Verdict, check_name
from xlam_jax.scoring.source_literals import number_suffix, read_literal

_WORD_TYPES = {
    **dict.fromkeys(("string", "String", "char"), "string"),
    **dict.fromkeys(("integer", "long", "short", "byte", "Bigint"), "integer"),
    **dict.fromkeys(("float", "number", "double"), "number"),
    **dict.fromkeys(("boolean", "Boolean"), "boolean"),
    **dict.fromkeys(("array", "tuple", "Array", "ArrayList", "Queue", "Stack", "Set"), "array"),
    **dict.fromkeys(("dict", "object", "HashMap", "Hashtable"), "object"),
}


def score_strict(
    tools: Sequence[Tool],
    calls: Sequence[ToolCall],
    answers: Answers,
    *,
    category: str,
    language: str = "python",
) -> Verdict:
    """Judges `calls` against `answers`; codes as in `scoring.bfcl.score`.

    Args:
      tools: the functions offered, in any order.
      calls: what the model called, in any order.
      answers: the published possible answers, one for each call; unused for irrelevance and relevance.
      category: one of `CATEGORIES`.
      language: one of `LANGUAGES`; in Java and JavaScript every argument is source text in a string.

    Raises:
      InputError: unknown category or language.

    Example:
      >>> tool = Tool("f", "", {"properties": {"a": {"type": "string"}}, "required": ["a"]})
      >>> score_strict([tool], [ToolCall("f", {"a": "-5"})], [{"f": {"a": ["5"]}}], category="simple").error_type
      'value_error'
    """
    check_name("category", category, CATEGORIES)
    check_name("language", language, LANGUAGES)
    if category == "irrelevance":
        return OK if not calls else Verdict(False, "unexpected_call", f"called {calls[0].name}")
    by_name = {tool.name: tool for tool in tools}
    if category == "relevance":
        return _relevant(by_name, calls)
    expected = 1 if category == "simple" else len(answers)
    if len(calls) != expected:
        return Verdict(False, "wrong_count", f"{len(calls)} calls, expected {expected}")
    try:
        verdicts = [[_score_call(by_name, call, answer, language) for call in calls] for answer in answers]
    except (TypeError, ValueError, LookupError, AttributeError) as e:  # an answer that is none
        return Verdict(False, "checker_error", f"{type(e).__name__}: {e}")
    if len(calls) == 1:
        return verdicts[0][0]
    fits = [[v.valid for v in row] for row in verdicts]
    if _matched(fits) == len(answers):
        return OK
    return Verdict(False, "cannot_find_match", f"{_matched(fits)} of {len(answers)} expected calls were made")


def _relevant(by_name: dict[str, Tool], calls: Sequence[ToolCall]) -> Verdict:
    if not calls:
        return Verdict(False, "no_call", "no call where one is due")
    for call in calls:
        tool = by_name.get(call.name)
        if tool is None:
            return Verdict(False, "wrong_func_name", f"{call.name!r} is not offered")
        for name in tool.parameters.get("required") or ():
            if name not in call.arguments:
                return Verdict(False, "missing_required", name)
        for name in call.arguments:
            if name not in tool.parameters.get("properties", {}):
                return Verdict(False, "unexpected_param", name)
    return OK


def _matched(fits: list[list[bool]]) -> int:
    """The most answers (rows) that calls (columns) of their own meet, by augmenting paths."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(fits)))


def _score_call(by_name: dict[str, Tool], call: ToolCall, answer: dict[str, Any], language: str) -> Verdict:
    ((name, accepted),) = answer.items()
    tool = by_name[name]
    if call.name != name:
        return Verdict(False, "wrong_func_name", f"{call.name!r}, expected {name!r}")
    properties, required = tool.parameters.get("properties", {}), tool.parameters.get("required") or ()
    for key in required:
        if key not in call.arguments:
            return Verdict(False, "missing_required", key)
    for key, value in call.arguments.items():
        if key not in properties or key not in accepted:
            return Verdict(False, "unexpected_param", key)
        known = [a for a in accepted[key] if a != "" or key in required]
        error = _value_error(value, properties[key], known, language)
        if error:
            return Verdict(False, error, f"{key}={value!r}, accepted {accepted[key]!r}"[:400])
    for key, values in accepted.items():
        if key not in call.arguments and "" not in values:
            return Verdict(False, "missing_optional", key)
    return OK


def _value_error(value: Any, schema: dict[str, Any], accepted: list[Any], language: str) -> str:
    if language != "python":
        if not isinstance(value, str):
            return "type_error"
        if _kind(schema) in ("string", "any"):
            # Text may stand with its quotes or, being a name, without.
            read = read_literal(value, language)
            return "" if any(_same(v, a) for a in accepted for v in (value, read)) else "value_error"
        suffix = number_suffix(value)
        value = read_literal(value, language)
        if suffix == "l" and schema.get("type") != "long":
            return "type_error"
    if not _fits(value, schema):
        # An answer of another type than the schema's, such as the name of a variable, is met by itself.
        # As JSON, for to Python True is 1 and 1 is 1.0.
        return "" if json.dumps(value) in map(json.dumps, accepted) else "type_error"
    return "" if any(_same(value, a) for a in accepted) else "value_error"


def _kind(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, dict) else None
    return _WORD_TYPES.get(kind, "any") if isinstance(kind, str) else "any"


def _fits(value: Any, schema: Any) -> bool:
    """Whether a value has the type of its schema, elements included; fields are compared with the answers'."""
    match _kind(schema):
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "array":
            items = schema.get("items")
            return isinstance(value, list | tuple) and all(_fits(v, items) for v in value)
        case "object":
            return isinstance(value, dict)
    return True


def _same(value: Any, answer: Any) -> bool:
    if isinstance(answer, str):
        return isinstance(value, str) and _text(value) == _text(answer)
    if isinstance(answer, bool) or answer is None:
        return value is answer
    if isinstance(answer, int | float):
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isclose(value, answer, rel_tol=1e-9, abs_tol=1e-12)
        )
    if isinstance(answer, list | tuple):
        return (
            isinstance(value, list | tuple) and len(value) == len(answer) and all(map(_same, value, answer))
        )
    if isinstance(answer, dict) and isinstance(value, dict):
        return _same_fields(value, answer)
    return False


def _same_fields(value: dict[str, Any], answer: dict[str, Any]) -> bool:
    # A published dict lists the accepted values of each key; a few hold the values themselves.
    listed = all(isinstance(v, list) for v in answer.values())
    for key, item in value.items():
        if key not in answer:
            return False
        known = [a for a in answer[key] if a != ""] or [""] if listed else [answer[key]]
        if not any(_same(item, a) for a in known):
            return False
    return all(key in value or (listed and "" in accepted) for key, accepted in answer.items())


def _text(text: str) -> str:
    return " ".join(text.split()).casefold()
