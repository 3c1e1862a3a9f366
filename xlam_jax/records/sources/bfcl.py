"""The Berkeley Function-Calling Leaderboard's files: questions, with `possible_answer/` beside them.

The published answers list accepted values; the call made of them has the first value of every argument, and
leaves out what may be left out unless the question names it. Java and JavaScript arguments are source text in
strings, as their rules want them, and their tools say so. Every answer is put before the leaderboard's own
rules; the few that fail them are refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.codec import TASK_INSTRUCTION
from xlam_jax.format.record import Record, Step, parse_line, read_lines
from xlam_jax.format.tools import normalise_tool
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.base import Refused, Row, Source, row_id
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.python_text import python_call
from xlam_jax.records.sources.rows import data_files
from xlam_jax.scoring.bfcl import score
from xlam_jax.scoring.source_text import java_source, javascript_source

ANSWERS = "possible_answer"
# BFCL 4 calls `simple_python`, `simple_java` and `simple_javascript` what were `simple`, `java` and `javascript`.
_NAME = re.compile(r"BFCL_v\d+_(?:simple_(?=java))?(\w+?)(?:_python)?\.json")
_WRITERS = {"java": java_source, "javascript": javascript_source}
_WORDS = {"java": "Java", "javascript": "JavaScript"}


def rows(path: Path) -> Iterator[Row]:
    """Questions of a file or folder; `extra` is `(category, published answer or None)`.

    Raises:
      InputError: a file that is no BFCL category, or answers that cannot be read.
    """
    # A folder of bfcl-eval has others beside and below them: answers, function docs, conversations for memory.
    every = [file for file in data_files(path) if file.parent.name != ANSWERS]
    files = [file for file in every if file.parent == path and _NAME.fullmatch(file.name)] or every
    for file in files:
        name = _NAME.fullmatch(file.name)
        if not name:
            raise InputError("not a BFCL file", where=str(file), hint="BFCL_v2_simple.json, ...")
        beside = file.parent / ANSWERS / file.name
        answers = {}
        for line, where in read_lines(beside) if beside.is_file() else ():
            answer = parse_line(line, where)
            if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
                raise InputError("not a published answer: no id", where=where)
            answers[answer["id"]] = answer.get("ground_truth")
        for line, where in read_lines(file):
            # The id alone is cut out of the line, so that workers parse the rest.
            own = re.search(rb'"id":\s*"([^"]*)"', line)
            answer = answers.get(own[1].decode("utf-8", "replace")) if own else None
            yield Row(where, raw=line, extra=(name[1], answer))


def convert(row: Row) -> Record:
    """One step with all calls; none for irrelevance.

    Refused: `no_answer` where none is published, `bad_answer` where the rules refuse it, `bad_call`.
    """
    category, answer = row.extra
    obj = row.obj
    language = category if category in _WRITERS else "python"
    try:
        record = question(obj, language)
    except InputError as e:
        raise Refused("bad_tool", f"{e.where}: {e.what}") from None
    if category.endswith("irrelevance"):
        calls = []
    elif category.startswith("exec_"):
        if not obj.get("ground_truth"):
            raise Refused("no_answer", category)
        parameters = {tool.name: list(tool.parameters["properties"]) for tool in record.tools}
        calls = [python_call(text, parameters) for text in obj["ground_truth"]]
    elif answer is None:
        raise Refused("no_answer", category)
    else:
        calls = _answer_calls(obj, category, answer, record)
    return checked(
        dataclasses.replace(
            record,
            id=row_id(SOURCE.name, row, obj["id"]),
            steps=(Step(tool_calls=tuple(calls)),),
            source=SOURCE.name,
            license=SOURCE.license,
        )
    )


def question(obj: dict[str, Any], language: str = "python") -> Record:
    """A question without steps: users' turns are the query, system turns follow the task instruction (as the
    leaderboard's xLAM handler does).

    Args:
      language: of the functions; in "java" and "javascript" every parameter becomes source text in a string.

    Raises:
      InputError: a function that is no tool.
    """
    turns = obj["question"]
    if turns and isinstance(turns[0], list):  # v3 and later: a list of turns, each a list of messages
        turns = turns[0]
    said = {role: [m["content"] for m in turns if m["role"] == role] for role in ("user", "system")}
    return Record(
        id=obj["id"],
        query="\n".join(said["user"]),
        tools=tuple(
            _source_tool(function, language) if language in _WORDS else normalise_tool(function)
            for function in _functions(obj)
        ),
        steps=(),
        task_instruction="\n".join([TASK_INSTRUCTION, *said["system"]]) if said["system"] else "",
    )


def published_tools(obj: dict[str, Any]) -> tuple[Tool, ...]:
    """The functions of a question with BFCL's own type names, which its rules are about."""
    return tuple(Tool(f["name"], f.get("description") or "", f["parameters"]) for f in _functions(obj))


def answer_calls(
    tools: Sequence[Tool], answer: Sequence[dict[str, Any]], language: str = "python", query: str = ""
) -> list[ToolCall]:
    """The calls that a published answer describes: the first accepted value of every argument.

    Args:
      query: the words of the user; an optional argument is left out unless an accepted value stands in them.
      tools: as published, see `published_tools`.
      language: of the values; in "java" and "javascript" they are written as source text.

    Raises:
      Refused: `bad_answer`, an answer without functions or values.
    """
    schemas = {tool.name: tool.parameters for tool in tools}
    calls = []
    for item in answer:
        for name, accepted in item.items():
            if not isinstance(accepted, dict):
                raise Refused("bad_answer", f"{name}: no arguments but {type(accepted).__name__}")
            calls.append(ToolCall(name, _arguments(accepted, schemas.get(name, {}), language, query)))
    return calls


def _functions(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return obj["function"] if isinstance(obj["function"], list) else [obj["function"]]


def _answer_calls(
    obj: dict[str, Any], category: str, answer: list[dict[str, Any]], record: Record
) -> list[ToolCall]:
    language = category if category in _WRITERS else "python"
    tools = published_tools(obj)
    calls = answer_calls(tools, answer, language, record.query)
    kind = "simple" if language in _WRITERS else category.removeprefix("live_")
    verdict = score(tools, calls, answer, category=kind, language=language)
    if not verdict.valid:
        raise Refused("bad_answer", f"{verdict.error_type}: {verdict.detail}")
    return calls


def _arguments(
    accepted: dict[str, list[Any]], schema: dict[str, Any], language: str, query: str
) -> dict[str, Any]:
    """`""` among the accepted values means that an optional argument may be left out."""
    out: dict[str, Any] = {}
    required = schema.get("required") or ()
    for name, values in accepted.items():
        if "" in values and name not in required:
            values = [value for value in values if _stands_in(value, query)]
            if not values:
                continue
        if not values:
            raise Refused("bad_answer", f"no accepted value for {name}")
        value = _first(values)
        if language in _WRITERS:
            parameter = schema.get("properties", {}).get(name, {})
            inner = parameter.get("items", {}).get("type")
            value = _WRITERS[language](value, str(parameter.get("type")), inner)
        out[name] = value
    return out


def _stands_in(value: Any, query: str) -> bool:
    """Whether the words name a value. Short words stand in many questions that do not mean them, but for a unit
    behind its number; so does a digit.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    text = str(value)
    if len(text) > (3 if isinstance(value, str) else 1):
        before = r"(?<![\w.])"
    elif isinstance(value, str) and text:
        before = r"(?<=\d)\s?"
    else:
        return False
    return re.search(rf"{before}{re.escape(text)}(?!\w|\.\d)", query, re.IGNORECASE) is not None


def _first(values: list[Any]) -> Any:
    return _plain(next((v for v in values if v != ""), ""))


def _plain(value: Any) -> Any:
    """Dicts inside answers hold lists of accepted values; a dict of anything else is already plain."""
    if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()):
        return {k: _first(v) for k, v in value.items() if v and "" not in v}
    if isinstance(value, list):
        return [_plain(v) if isinstance(v, dict) else v for v in value]
    return value


def _source_tool(function: dict[str, Any], language: str) -> Tool:
    """The tool with every parameter a string of source text, its type told in the description."""
    normalise_tool(function)  # says what is wrong with one that is no tool
    properties = {}
    for name, schema in function["parameters"]["properties"].items():
        note = f"{_WORDS[language]} source text of type {_type_word(schema)}."
        properties[name] = {
            "type": "string",
            "description": f"{schema.get('description', '')} {note}".strip(),
        }
    required = function["parameters"].get("required")
    return normalise_tool(
        {**function, "parameters": {"type": "object", "properties": properties, "required": required}}
    )


def _type_word(schema: dict[str, Any]) -> str:
    kind = schema.get("type") or "any"
    inner = schema.get("items", {}).get("type")
    return f"{kind} of {inner}" if inner else str(kind)


SOURCE = Source(
    name="bfcl",
    summary="Berkeley Function-Calling Leaderboard files with possible_answer/ beside them",
    license="Apache-2.0",
    url="https://github.com/ShishirPatil/gorilla",
    convert=convert,
    rows=rows,
)
