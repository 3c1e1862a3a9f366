"""An MCP server as somebody writes one with the official package: stdio, or HTTP at the port in its first argument."""

import os
import sys
import time
from typing import Annotated

from mcp.server import MCPServer
from pydantic import Field

First = Annotated[int, Field(description="First number")]
Second = Annotated[int, Field(description="Second number")]

app = MCPServer("desk")


@app.tool()
def sum_up(a: First, b: Second) -> int:
    """Calculate the sum of two whole numbers."""
    return a + b


@app.tool()
def find_note(title: str) -> dict:
    """Find the note with the given title."""
    if title == "nothing":
        raise ValueError("no such note")
    return {"title": title, "owner": os.environ.get("DESK_OWNER", "nobody")}


@app.tool()
def wait(seconds: float) -> str:
    """Wait for some seconds."""
    time.sleep(seconds)
    return "done"


@app.tool()
def letters(count: int) -> str:
    """Write so many letters."""
    return "x" * count


@app.tool()
def leave(status: int) -> str:
    """End the server."""
    os._exit(status)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        app.run("streamable-http", port=int(sys.argv[1]))
    else:
        print("a line that servers write to stderr", file=sys.stderr)
        app.run()
