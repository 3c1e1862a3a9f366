"""OpenAPI 3 and Swagger 2 documents, JSON or YAML: one tool an operation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.openapi import is_openapi, operation_tool, operations
from xlam_jax.format.tools import openai_view
from xlam_jax.records.sources.base import Refused, Row, Source

SUFFIXES = (".json", ".yaml", ".yml")


def rows(path: Path) -> Iterator[Row]:
    """One row an operation, `(path, method)`, with its document as `extra`.

    A file that is no such document is one row, to be refused; so is one without operations.

    Raises:
      InputError: nothing to read.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
    if not files:
        raise InputError("no OpenAPI document here", where=str(path), hint=", ".join(SUFFIXES))
    for file in files:
        try:
            document = _read(file)
        except (ValueError, RecursionError) as e:
            yield Row(str(file), extra=str(e))
            continue
        listed = list(operations(document)) if is_openapi(document) else []
        if not listed:
            yield Row(str(file))
        for where, method in listed:
            yield Row(f"{file}: {method.upper()} {where}", parsed=(where, method), extra=document)


def _read(file: Path) -> Any:
    text = file.read_text("utf-8")
    if file.suffix == ".json":
        return json.loads(text)
    import yaml

    class Loader(yaml.SafeLoader):
        """Dates stay text: they are examples and defaults of parameters, and JSON has no dates."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from e


def convert(row: Row) -> dict[str, Any]:
    """One operation. Refused: `bad_document`, `no_operations`, `bad_tool`."""
    if row.parsed is None:
        raise Refused("bad_document", row.extra) if row.extra else Refused("no_operations")
    path, method = row.parsed
    try:
        made = operation_tool(row.extra, path, method)
    except InputError as e:
        raise Refused("bad_tool", f"{e.where}: {e.what}") from None
    about = row.extra.get("info") or {}
    title = str(about.get("title") or Path(row.where.partition(": ")[0]).stem)
    return {
        "id": f"{SOURCE.name}-{title}/{made.name}",
        **openai_view(made)["function"],
        "namespace": title,
        "method": method.upper(),
        "path": path,
        "source": SOURCE.name,
        "license": str((about.get("license") or {}).get("name") or ""),
    }


SOURCE = Source(
    name="openapi",
    summary="OpenAPI 3 and Swagger 2 documents (JSON, YAML): one tool an operation",
    license="",
    url="https://spec.openapis.org",
    convert=convert,
    rows=rows,
    kind="tools",
)
