"""Values written as Java and JavaScript source, such that BFCL's reading (`source_values`) gives them back.

Strings stand as they are, since that reading takes any text for a string or a variable's name.
"""

from __future__ import annotations

import json
from typing import Any


def java_source(value: Any, kind: str, inner: str | None = None) -> str:
    """`value` as Java source of the declared type `kind`, elements as `inner`.

    Example:
      >>> java_source(5, "long"), java_source(["a", "b"], "ArrayList", "String")
      ('5L', 'new ArrayList<String>(Arrays.asList("a", "b"))')
    """
    if isinstance(value, list):
        if kind == "ArrayList":
            quoted = inner in ("char", "String", None)
            items = [_quoted(v) if quoted else java_source(v, str(inner)) for v in value]
            name = {"integer": "Integer", "any": "Object", None: "Object"}.get(inner, str(inner).capitalize())
            # The reading knows an empty list only by its bare constructor.
            return f"new ArrayList<{name}>({'Arrays.asList(' + ', '.join(items) + ')' if items else ''})"
        items = [java_source(v, inner or "any") for v in value]
        return f"new {inner if inner and inner.isalnum() else 'Object'}[]{{{', '.join(items)}}}"
    if isinstance(value, dict):
        puts = "".join(
            f" put({json.dumps(k, ensure_ascii=False)}, {_java_literal(v)});" for k, v in value.items()
        )
        return f"new HashMap<String, Object>() {{{{{puts} }}}}" if puts else "new HashMap<String, Object>()"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value}{ {'long': 'L', 'float': 'f'}.get(kind, '') }"
    return str(value)


def javascript_source(value: Any, kind: str, inner: str | None = None) -> str:
    """`value` as JavaScript source of the declared type `kind`, elements as `inner`.

    Example:
      >>> javascript_source([1, 2], "array", "integer"), javascript_source({"a": True}, "dict")
      ('[1, 2]', '{a: true}')
    """
    if isinstance(value, list):
        return f"[{', '.join(_javascript_literal(v, inner) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_javascript_literal(v, None)}' for k, v in value.items())}}}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value}n" if kind == "Bigint" else str(value)
    return str(value)


def _java_literal(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else java_source(value, "any")


def _javascript_literal(value: Any, kind: str | None) -> str:
    return (
        _quoted(value)
        if isinstance(value, str) and kind != "any"
        else javascript_source(value, kind or "any")
    )


def _quoted(value: Any) -> str:
    return f'"{value}"'
