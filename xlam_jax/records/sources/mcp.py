"""Tools of MCP servers: lines of `{server, category, overview, license, tools}`, as `tools/list` answered.

Each tool is a row; its server is the namespace, for names are unique only there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.format.tools import openai_view
from xlam_jax.records.sources.base import Refused, Row, Source, tool
from xlam_jax.records.sources.rows import read_rows


def rows(path: Path) -> Iterator[Row]:
    """One row a tool, the server's other fields as `extra`; one without tools is a row to be refused."""
    for row in read_rows(path):
        try:
            server = row.obj
        except Refused:
            yield row
            continue
        tools = server.get("tools")
        if not isinstance(tools, list) or not tools:
            yield Row(row.where, parsed=server)
            continue
        about = {k: v for k, v in server.items() if k != "tools"}
        for number, item in enumerate(tools):
            yield Row(f"{row.where}.tools[{number}]", parsed=item, extra=about)


def convert(row: Row) -> dict[str, Any]:
    """One tool, normalised. Refused: `no_tools`, `bad_tool`."""
    obj = row.obj
    if row.extra is None:
        raise Refused("no_tools")
    made = tool(obj)
    server = str(row.extra.get("server") or "")
    return {
        "id": f"{SOURCE.name}-{server}/{made.name}",
        **openai_view(made)["function"],
        "namespace": server,
        "category": row.extra.get("category") or "",
        "source": SOURCE.name,
        "license": row.extra.get("license") or "",
        **({"lineage": list(made.notes)} if made.notes else {}),
    }


SOURCE = Source(
    name="mcp",
    summary="tools of MCP servers, one server a line (its own licence goes with each tool)",
    license="",
    url="https://github.com/TheAgentArk/Toucan",
    convert=convert,
    rows=rows,
    kind="tools",
)
