"""Under which key a call keeps its arguments, in everybody's spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlam_jax.errors import InputError

# In the order in which they count; their case does not.
ARGUMENT_KEYS = ("arguments", "parameters", "args", "kwargs", "params", "input", "inputs", "argument")
# Keys beside a call's arguments that may hold an object.
BESIDE = (
    *("name", "id", "call_id", "tool_call_id", "type", "index", "function", "namespace", "description"),
    *(
        "result",
        "results",
        "output",
        "outputs",
        "response",
        "responses",
        "observation",
        "content",
        "return",
        "returns",
    ),
    *(
        "error",
        "status",
        "thought",
        "reasoning",
        "metadata",
        "extra",
        "extra_content",
        "provider_specific_fields",
    ),
    "cache_control",
)


def arguments_of(*places: Mapping[str, Any]) -> Any:
    """The arguments of a call as they are written, from the first of its objects that has them; None without any.

    Raises:
      InputError: no known key, but an unknown one that holds an object.
    """
    for place in places:
        lower = {key.lower(): value for key, value in place.items()}
        for key in ARGUMENT_KEYS:
            if lower.get(key) is not None:
                return lower[key]
    for place in places:
        for key, value in place.items():
            if key.lower() in BESIDE or key.lower() in ARGUMENT_KEYS:
                continue
            if (isinstance(value, dict) and value) or (
                isinstance(value, str) and value.lstrip().startswith("{")
            ):
                raise InputError(
                    f"no arguments, but the unknown key {key!r} holds an object", hint="arguments"
                )
    return None
