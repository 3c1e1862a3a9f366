"""How a prompt shows tools: the views of one tool, and the text of a list of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.format.tools import openai_view, xlam_view
from xlam_jax.format.values import Tool


def lifted_view(tool: Tool) -> dict[str, Any]:
    """The reduced schema of xLAM-1's client: `properties` lifted, what is required is not said."""
    properties = tool.parameters.get("properties", {})
    return {"name": tool.name, "description": tool.description, "parameters": dict(properties)}


def required_view(tool: Tool) -> dict[str, Any]:
    """The reduced schema of BFCL's xLAM handler: a required parameter carries `"required": true`.

    A required object that lists its own required keys keeps that list, since one key cannot say both.
    """
    required = tool.parameters.get("required", ())
    view = lifted_view(tool)
    view["parameters"] = {
        name: {**schema, "required": True} if name in required and "required" not in schema else schema
        for name, schema in view["parameters"].items()
    }
    return view


TOOL_VIEWS: dict[str, Callable[[Tool], dict[str, Any]]] = {
    "optional": xlam_view,
    "lifted": lifted_view,
    "required": required_view,
    "openai": openai_view,
}


@dataclass(frozen=True)
class ToolList:
    """The text of a prompt's tools.

    Attributes:
      view: key of `TOOL_VIEWS`.
      begin, between, end: texts around and between the tools; the defaults make one JSON list.
      indent: blanks per level for JSON over several lines, 0 for one line.
      ascii: whether other characters are written as `\\uXXXX`, as Python's `json.dumps` does by default.
    """

    view: str = "optional"
    begin: str = "["
    between: str = ", "
    end: str = "]"
    indent: int = 0
    ascii: bool = False

    def text(self, tools: Sequence[Tool]) -> str:
        """All tools; the empty text where there are none."""
        if not tools:
            return ""
        view = TOOL_VIEWS[self.view]
        encode = _encoder(self.ascii, self.indent).encode
        shown = (encode(view(t)) for t in tools)
        return self.begin + self.between.join(shown) + self.end


@functools.cache
def _encoder(ascii: bool, indent: int) -> json.JSONEncoder:
    """`json.dumps` makes one for every call, which costs as much as a small tool."""
    return json.JSONEncoder(ensure_ascii=ascii, indent=indent or None)
