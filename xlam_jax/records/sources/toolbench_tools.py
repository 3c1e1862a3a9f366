"""ToolBench's RapidAPI tools: documents of `toolenv/tools/`, and the `api_list` of instruction rows.

A function is called as ToolBench calls it, `<api>_for_<tool>`, both in lower case with underscores. Files of
example responses (`toolenv/response_examples/`) describe no parameters and hold no rows of this source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.format.tools import openai_view
from xlam_jax.records.sources.base import Refused, Row, Source, tool
from xlam_jax.records.sources.rows import data_files, read_rows

_TYPES = {
    "STRING": "string",
    "NUMBER": "number",
    "BOOLEAN": "boolean",
    "ARRAY": "array",
    "OBJECT": "object",
}  # anything else RapidAPI has (ENUM, DATE, GEOPOINT, ...) is written as text


def rows(path: Path) -> Iterator[Row]:
    """One row an API; answer files have none. A document that cannot be read is one row, to be refused."""
    for file in data_files(path):
        if "response_examples" in file.relative_to(path).parts:
            continue
        for row in read_rows(file):
            try:
                value = row.obj
            except Refused:
                yield row
                continue
            shared = {"tool_name": value.get("tool_name"), "category_name": file.parent.name}
            listed = value.get("api_list")
            for number, api in enumerate(listed if isinstance(listed, list) else ()):
                api = {**shared, **api} if isinstance(api, dict) else api
                yield Row(f"{row.where}.api_list[{number}]", parsed=api)


def convert(row: Row) -> dict[str, Any]:
    """One API.

    Refused: `no_parameters` for an entry that only names an API, `bad_tool`.
    """
    api = row.obj
    if "required_parameters" not in api and "optional_parameters" not in api:
        raise Refused("no_parameters")
    required = api.get("required_parameters") or []
    properties = {}
    for parameter in [*required, *(api.get("optional_parameters") or [])]:
        kind = _TYPES.get(str(parameter.get("type")).upper(), "string")
        properties[parameter["name"]] = {"type": kind, "description": parameter.get("description") or ""}
        # Texts stand for values of every type here, and "" for no default.
        if parameter.get("default") not in (None, "") and kind == "string":
            properties[parameter["name"]]["default"] = str(parameter["default"])
    api_name, tool_name = str(api.get("api_name") or api.get("name") or ""), str(api["tool_name"])
    made = tool(
        {
            "name": f"{_standard(api_name)}_for_{_standard(tool_name)}",
            "description": str(api.get("api_description") or api.get("description") or "").strip(),
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": [parameter["name"] for parameter in required],
            },
        }
    )
    return {
        "id": f"{SOURCE.name}-{tool_name}/{made.name}",
        **openai_view(made)["function"],
        "namespace": tool_name,
        "category": api.get("category_name") or "",
        "method": api.get("method") or "",
        "source": SOURCE.name,
        "license": SOURCE.license,
    }


def _standard(name: str) -> str:
    return re.sub(r"_+", "_", re.sub(r"[^0-9a-zA-Z_]", "_", name)).strip("_").lower()


SOURCE = Source(
    name="toolbench-tools",
    summary="RapidAPI tools of ToolBench: toolenv/tools/ and the api_list of instructions",
    license="Apache-2.0",
    url="https://github.com/OpenBMB/ToolBench",
    convert=convert,
    rows=rows,
    kind="tools",
)
