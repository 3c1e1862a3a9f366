"""BFCL's AST rules: is a list of calls one of the published answers?

The rules are those of the Berkeley Function Calling Leaderboard's checker, versions 2 to 4, with all their
quirks: scores are only comparable when the quirks are kept. Among them: `5.0` is no integer while `5` is a
float, but not inside a list; punctuation inside strings is dropped before comparing (`"-5"` equals `"5"`);
parallel calls are matched greedily without backtracking; and an answer the rules cannot digest counts
against the model (`checker_error`).

Tools may carry BFCL's own type names (`float`, `dict`, `tuple`, `any`; Java's and JavaScript's) or JSON
Schema's. A parameter without one plain type is treated as `any`, an array without an element type gets no
element check; the original raises in both cases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError, unknown
from xlam_jax.format import Tool, ToolCall
from xlam_jax.scoring.source_values import (
    CONTAINERS,
    JAVA_TYPES,
    JAVASCRIPT_TYPES,
    java_value,
    javascript_value,
)

CATEGORIES = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance", "relevance")
LANGUAGES = ("python", "java", "javascript")

# BFCL's possible_answer: one {function: {parameter: [accepted values]}} a call; "" means "may be omitted".
Answers = Sequence[dict[str, dict[str, list[Any]]]]

_PYTHON_TYPES: dict[str, type] = {
    **dict.fromkeys(("string", "any"), str),
    "integer": int,
    **dict.fromkeys(("float", "number"), float),
    "boolean": bool,
    **dict.fromkeys(("array", "tuple"), list),
    **dict.fromkeys(("dict", "object"), dict),
}


@dataclass(frozen=True)
class Verdict:
    """The outcome; `error_type` is a code such as `wrong_count` or `type_error:nested`, empty when valid."""

    valid: bool
    error_type: str = ""
    detail: str = ""


OK = Verdict(True)


def score(
    tools: Sequence[Tool],
    calls: Sequence[ToolCall],
    answers: Answers,
    *,
    category: str,
    language: str = "python",
) -> Verdict:
    """Judges `calls` against `answers`.

    Args:
      tools: the functions offered, in their order (`simple` looks at the first).
      calls: what the model called; text that does not parse counts as no calls, as BFCL does for xLAM.
      answers: the published possible answers; unused for irrelevance and relevance.
      category: one of `CATEGORIES`.
      language: one of `LANGUAGES`; in Java and JavaScript every argument is source text in a string.

    Raises:
      InputError: unknown category or language.

    Example:
      >>> tool = Tool("f", "", {"type": "object", "properties": {"a": {"type": "float"}}, "required": ["a"]})
      >>> score([tool], [ToolCall("f", {"a": 5})], [{"f": {"a": [5.0]}}], category="simple").valid
      True
    """
    check_name("category", category, CATEGORIES)
    check_name("language", language, LANGUAGES)
    if category == "irrelevance":
        return OK if not calls else Verdict(False, "unexpected_call", f"called {calls[0].name}")
    if category == "relevance":
        return OK if calls else Verdict(False, "no_call", "no call where one is due")
    expected = 1 if category == "simple" else len(answers)
    if len(calls) != expected:
        return Verdict(False, "wrong_count", f"{len(calls)} calls, expected {expected}")
    try:
        if category == "simple":
            return _score_call(tools[0], calls[0], answers[0], language)
        if category == "multiple":
            return _score_call(_tool_of(tools, answers[0]), calls[0], answers[0], language)
        return _score_parallel(tools, calls, answers, language)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as e:
        return Verdict(False, "checker_error", f"{type(e).__name__}: {e}")


def answers_of(tools: Sequence[Tool], calls: Sequence[ToolCall]) -> list[dict[str, dict[str, list[Any]]]]:
    """Possible answers that accept exactly the gold calls.

    An optional parameter may be omitted where the call gives its default, and given its default where the
    call omits it; everything else must be as in the call.

    Raises:
      InputError: a call to a function that is not among the tools.
    """
    by_name = {tool.name: tool for tool in tools}
    out = []
    for call in calls:
        if call.name not in by_name:
            raise InputError(f"gold call to unknown function {call.name!r}", hint=", ".join(by_name))
        schema = by_name[call.name].parameters
        required = schema.get("required") or ()
        accepted: dict[str, list[Any]] = {}
        for name, value in call.arguments.items():
            parameter = schema.get("properties", {}).get(name, {})
            accepted[name] = [_as_answer(value, parameter)]
            if name not in required and "default" in parameter and _same(value, parameter["default"]):
                accepted[name].append("")
        for name, parameter in schema.get("properties", {}).items():
            if name not in accepted and name not in required and "default" in parameter:
                accepted[name] = [_as_answer(parameter["default"], parameter), ""]
        out.append({call.name: accepted})
    return out


def _as_answer(value: Any, schema: dict[str, Any]) -> Any:
    """Dicts in answers hold a list of accepted values per key, where the rules look inside them."""
    expected, inner = _python_type(schema), _inner_type(schema)
    if expected is dict and isinstance(value, dict):
        return {k: [v] for k, v in value.items()}
    if expected is list and inner is dict and isinstance(value, list):
        return [{k: [v] for k, v in e.items()} if isinstance(e, dict) else e for e in value]
    return value


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def _score_parallel(
    tools: Sequence[Tool], calls: Sequence[ToolCall], answers: Answers, language: str
) -> Verdict:
    """Greedy: each expected call takes the first unused call that passes."""
    unused = list(range(len(calls)))
    for i, answer in enumerate(answers):
        tool = _tool_of(tools, answer)
        reasons = []
        for index in unused:
            verdict = _score_call(tool, calls[index], answer, language)
            if verdict.valid:
                unused.remove(index)
                break
            reasons.append(f"call {index}: {verdict.error_type}")
        else:
            return Verdict(
                False, "cannot_find_match", f"expected call {i} ({tool.name}); {'; '.join(reasons)}"
            )
    return OK


def _tool_of(tools: Sequence[Tool], answer: dict[str, Any]) -> Tool:
    name = next(iter(answer))
    for tool in tools:
        if tool.name == name:
            return tool
    raise LookupError(f"the answer names {name!r}, which is no tool")


def _score_call(tool: Tool, call: ToolCall, answer: dict[str, Any], language: str) -> Verdict:
    accepted = next(iter(answer.values()))
    properties = tool.parameters.get("properties", {})
    if call.name != tool.name:
        return Verdict(False, "wrong_func_name", f"{call.name!r}, expected {tool.name!r}")
    for name in tool.parameters.get("required") or ():
        if name not in call.arguments:
            return Verdict(False, "missing_required", name)
    for name, value in call.arguments.items():
        if name not in properties or name not in accepted:
            return Verdict(False, "unexpected_param", name)
        error = _score_value(value, properties[name], accepted[name], language)
        if error:
            return Verdict(False, error, f"{name}={value!r}, accepted {accepted[name]!r}"[:400])
    for name, values in accepted.items():
        if name not in call.arguments and "" not in values:
            return Verdict(False, "missing_optional", name)
    return OK


def _score_value(value: Any, schema: dict[str, Any], accepted: Any, language: str) -> str:
    """Error code of one argument, empty when it is accepted."""
    kind: Any = schema.get("type")
    if language == "python":
        expected, inner = _python_type(schema), _inner_type(schema)
        if kind == "tuple" and type(value) is tuple:
            value = list(value)
        if expected is float and type(value) is int:
            value = float(value)
    else:
        types = JAVA_TYPES if language == "java" else JAVASCRIPT_TYPES
        read = java_value if language == "java" else javascript_value
        expected, inner = types[kind], None
        if type(value) is not str:
            return "type_error:java" if language == "java" else "type_error:js"
        if kind in CONTAINERS:
            inner = types[schema["items"]["type"]]
            value = read(value, kind, schema["items"]["type"])
        else:
            value = read(value, kind)

    error, variable = _type_error(value, accepted, expected, inner)
    if error:
        return error
    # An answer of another type than the schema's is a variable's name: it must match to the letter.
    if not variable:
        if expected is dict:
            return _dict_error(value, accepted)
        if expected is list and inner is dict:
            return _dict_list_error(value, accepted)
        if expected is str:
            known = [_standardise(a) for a in accepted if type(a) is str]
            return "" if _standardise(value) in known else "value_error:string"
        if expected is list:
            known = [[_loose(e) for e in a] for a in accepted]
            return "" if [_loose(e) for e in value] in known else "value_error:list/tuple"
    return "" if value in accepted else "value_error:others"


def _python_type(schema: dict[str, Any]) -> type:
    kind = schema.get("type")
    return _PYTHON_TYPES.get(kind, str) if isinstance(kind, str) else str


def _inner_type(schema: dict[str, Any]) -> type | None:
    items = schema.get("items")
    if (
        _python_type(schema) is not list
        or not isinstance(items, dict)
        or not isinstance(items.get("type"), str)
    ):
        return None
    return _python_type(items)


def _type_error(value: Any, accepted: Any, expected: type, inner: type | None) -> tuple[str, bool]:
    """(error code, whether the answer is a variable); elements are checked one level deep."""
    answer_type = next((type(a) for a in accepted if a != ""), None)
    if type(value) is expected:
        if inner is None or any(_elements_fit(value, answer, inner) for answer in accepted):
            return "", answer_type is not None and answer_type is not expected
        return ("type_error:nested" if type(value) is answer_type else "type_error:simple"), False
    if answer_type is not None and type(value) is answer_type:
        return "", True
    return "type_error:simple", False


def _elements_fit(value: list[Any], answer: Any, inner: type) -> bool:
    if type(answer) is not list:  # "may be omitted" lets any element pass
        return True
    return all(not _type_error(element, answer, inner, None)[0] for element in value)


def _dict_error(value: dict[str, Any], accepted: Any) -> str:
    error = "value_error:dict"
    for answer in accepted:
        if answer == "":
            continue
        error = ""
        for key, item in value.items():
            if key not in answer:
                error = "value_error:dict_key"
                break
            # By index: a mapping in the place of a list is an answer the rules cannot digest.
            known = [_loose(answer[key][i]) for i in range(len(answer[key]))]
            if _loose(item) not in known:
                error = "value_error:dict_value"
                break
        for key, values in answer.items():
            if key not in value and "" not in values:
                error = "value_error:dict_key"
                break
        if not error:
            return ""
    return error


def _dict_list_error(value: list[Any], accepted: Any) -> str:
    error = "value_error:list_dict"
    for answer in accepted:
        if len(value) != len(answer):
            error = "value_error:list_dict_count"
            continue
        for item, expected in zip(value, answer, strict=True):
            error = _dict_error(item, [expected])
            if error:
                break
        else:
            return ""
    return error


_IGNORED = re.compile(r"[ ,./\-_*^]")


def _standardise(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _loose(value: Any) -> Any:
    return _standardise(value) if type(value) is str else value


def check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    """Raises InputError, with the nearest known name, when `name` is not among `known`."""
    if name not in known:
        raise unknown(what, name, known)
