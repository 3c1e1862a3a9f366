"""ToolAlpaca: APIs with instructions, and golden answers (evaluation) or simulated runs (training).

A file is a list of APIs, each with its OpenAPI document as text, the functions' places in it
(`Function_Projection`), and one row an instruction. Golden answers name the calls only and become one step;
a value from an earlier call (`${id from search}`) stays as it is written, a call marked `[Optional]` is left
out, and an answer that leaves a value open (`${start date}`) is refused. Training instances carry the calls
with what came back (`intermediate_steps`) and become a step each, the `output` the last one. All are offered
`getDetails`, with which ToolAlpaca's agents ask the user. A catalogue of public APIs (`public_apis.json`) has
links, no queries, and no rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.openapi import is_openapi, operation_tool
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.base import Refused, Row, Source, as_json, row_id
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.rows import data_files, read_rows

CATALOGUE = "public_apis.json"
ASK = Tool(
    "getDetails",
    "Asks the user for details that the request lacks.",
    {
        "type": "object",
        "properties": {"Question": {"type": "string", "description": "What to ask."}},
        "required": ["Question"],
    },
)
_REFERENCE = re.compile(r"(?<!\")\$\{[\w ]+ from \w+\}")
_OPEN_VALUE = re.compile(r"(?<!\")\$\{|\"\{[\w ]+\}\"")


def rows(path: Path) -> Iterator[Row]:
    """One row an instruction, its API as `extra`; an API without any is one row, to be refused."""
    for file in data_files(path):
        if file.name == CATALOGUE:
            continue
        for row in read_rows(file):
            try:
                api = row.obj
            except Refused:
                yield row
                continue
            shared = {key: api.get(key) for key in ("Name", "Documentation", "Function_Projection")}
            instructions = list(_instructions(api))
            if not instructions:
                yield Row(row.where, parsed={}, extra=shared)
            for number, item in enumerate(instructions):
                yield Row(f"{row.where}.Instructions[{number}]", parsed=item, extra=shared)


def _instructions(api: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(api.get("Instances"), list):
        yield from (item if isinstance(item, dict) else {"input": item} for item in api["Instances"])
        return
    texts, golden = (
        value if isinstance(value, list) else []
        for value in (api.get("Instructions"), api.get("Golden_Answers"))
    )
    for text, answer in itertools.zip_longest(texts, golden[: len(texts)]):
        yield {"input": text, "golden": answer}


def convert(row: Row) -> Record:
    """One instruction.

    Refused: `no_instructions`, `empty_query`, `no_answer`, `open_value`, `bad_json`, `bad_document`,
    `bad_tool`, `bad_call`.
    """
    item = row.obj
    if row.extra is None or not item:
        raise Refused("no_instructions")
    query = item.get("input")
    if not isinstance(query, str) or not query.strip():
        raise Refused("empty_query")
    if item.get("golden"):
        due = [c for c in item["golden"] if not c["Action"].startswith("[Optional]")]
        steps = (Step(tool_calls=tuple(_call(c["Action"], _filled(c["Action_Input"])) for c in due)),)
    elif item.get("intermediate_steps") and item.get("output"):
        steps = (*map(_step, item["intermediate_steps"]), Step(item["output"]))
    else:
        raise Refused("no_answer", str(item.get("error") or ""))
    return checked(
        Record(
            id=row_id(SOURCE.name, row),
            query=query.rpartition("\nHint: ")[0]
            or query,  # the hint told the simulator which functions to use
            tools=_tools(row.extra),
            steps=steps,
            source=SOURCE.name,
            license=SOURCE.license,
        )
    )


def _step(item: Any) -> Step:
    """`[[name, arguments, log], observation]`; the log is the thought, then name and arguments again."""
    (name, arguments, *log), observation = item
    thought = str(log[0]).partition("\nAction:")[0].strip() if log else ""
    return Step(thought, (_call(name, arguments),), observation)


def _filled(arguments: str) -> str:
    """References to earlier results as JSON text. Refused: `open_value`."""
    arguments = _REFERENCE.sub(lambda found: json.dumps(found[0]), arguments)
    if _OPEN_VALUE.search(arguments):
        raise Refused("open_value", str(arguments))
    return arguments


def _call(name: str, arguments: Any) -> ToolCall:
    arguments = as_json(arguments) if arguments else {}
    if not isinstance(arguments, dict):
        raise Refused("bad_call", f"arguments of {name} are no object")
    return ToolCall(name, arguments)


def _tools(api: dict[str, Any]) -> tuple[Tool, ...]:
    document = as_json(api["Documentation"])
    if not is_openapi(document) or not isinstance(api["Function_Projection"], dict):
        raise Refused("bad_document", str(api["Name"]))
    tools = [ASK]
    for name, (path, method) in api["Function_Projection"].items():
        # Some documents write the path without its slash where the projection has it, or the reverse.
        known = next((p for p in (path, f"/{path}", path.lstrip("/")) if p in document["paths"]), path)
        try:
            tools.append(dataclasses.replace(operation_tool(document, known, method.lower()), name=name))
        except InputError as e:
            raise Refused("bad_tool", f"{e.where}: {e.what}") from None
    return tuple(tools)


SOURCE = Source(
    name="tool-alpaca",
    summary="ToolAlpaca: instructions with golden answers or simulated runs, tools from OpenAPI text",
    license="Apache-2.0",
    url="https://github.com/tangqiaoyu/ToolAlpaca",
    convert=convert,
    rows=rows,
)
