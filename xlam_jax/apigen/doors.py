"""The ways into a library: Python modules, OpenAPI documents, tools of MCP servers, the functions shipped here.

Every door yields `Api` and `Refusal`; what cannot be described, called by name or answered is refused with its
reason, as the paper's cleaning does. A Python module is imported and described inside the walls, never here.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import yaml

from xlam_jax.apigen.api import DOORS, Api, Refusal
from xlam_jax.apigen.library import load_library
from xlam_jax.apigen.mcp_servers import McpServers, server_of
from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.apigen.verify import Rejection
from xlam_jax.errors import InputError, unknown
from xlam_jax.format import Tool
from xlam_jax.format.openapi import operation_tool, operations, place_of
from xlam_jax.format.tools import normalise_tool

# Describing a large package takes longer, and says more, than one call.
_DRAWS = 40  # examples of a function that this package ships
_DESCRIBE = Limits(seconds=120.0, cpu_seconds=120, memory_bytes=2 * 2**30, result_bytes=16 * 2**20)


def open_door(source: str, sandbox: Sandbox) -> Iterator[Api | Refusal]:
    """The APIs of `DOOR=PATH`, as typed on the command line: `python=shop.py`, `openapi=api.json`, `mcp=FILE`.

    Raises:
      InputError: another door, no such file, or one that is not of its kind.
    """
    door, equals, place = source.partition("=")
    if not equals or not place:
        raise InputError(
            f"not a source of APIs: {source!r}", hint="python=FILE.py, openapi=FILE, mcp=FILE or standard=all"
        )
    if door not in DOORS:
        raise unknown("door", door, DOORS, where=source)
    opened = {"python": python_module, "openapi": openapi_document, "mcp": mcp_servers, "standard": standard}
    return opened[door](place, sandbox)


def standard(place: str, sandbox: Sandbox) -> Iterator[Api | Refusal]:
    """The functions that this package ships: those of a category, or `all`.

    Raises:
      InputError: no such category.
    """
    shipped = load_library()
    categories = sorted({api.category for api in shipped})
    if place != "all" and place not in categories:
        raise unknown("category", place, ("all", *categories), where=f"standard={place}")
    for api in shipped:
        if place in ("all", api.category):
            r = Random(api.name)
            drawn = {json.dumps(example): example for example in (api.sample(r) for _ in range(_DRAWS))}
            templates = tuple((t.text, dict(t.fixed)) for t in api.templates)
            run = {"target": api.target, "path": "", "kept": True}
            yield Api(
                api.tool, "standard", f"standard/{api.category}", run, tuple(drawn.values()), (), api.category,
                "Apache-2.0", templates=templates,
            )  # fmt: skip


def python_module(place: str, sandbox: Sandbox) -> Iterator[Api | Refusal]:
    """Public functions of a file (`shop.py`) or an installed module (`babel.numbers`).

    The examples of their docstrings are run, and those that fail are left out.
    """
    module, folder = place, ""
    if place.endswith(".py") or "/" in place:
        path = Path(place).resolve()
        if not path.is_file():
            raise InputError("no such Python file", where=place)
        module, folder = path.stem, str(path.parent)
    paths = [folder] if folder else []
    with Sandbox(_DESCRIBE, paths=paths, kind=sandbox.kind, trust=sandbox.trust) as inside:
        outcome = inside.describe(module)
        if outcome.status != "ok":
            raise InputError(f"the module cannot be described: {outcome.error}", where=place)
        apis: list[Api] = []
        for tool in outcome.value["tools"]:
            target = f"{module}:{tool['function']}"
            made = _tool(
                {k: tool[k] for k in ("name", "description", "parameters")},
                f"{module}/{tool['name']}",
                "python",
            )
            if isinstance(made, Refusal):
                yield made
                continue
            run = {"target": target, "path": folder}
            apis.append(
                Api(made, "python", module, run, tuple(tool["examples"]), category=module.partition(".")[0])
            )
        for refused in outcome.value["refused"]:
            yield Refusal(f"{module}/{refused['name']}", "python", refused["reason"], refused["detail"])
    with Sandbox(sandbox.limits, paths=paths, kind=sandbox.kind, trust=sandbox.trust) as inside:
        outcomes = iter(inside.run([(a.run["target"], e) for a in apis for e in a.examples]))
        for api in apis:
            yield replace(api, examples=tuple(e for e in api.examples if next(outcomes).status == "ok"))


def openapi_document(place: str, sandbox: Sandbox) -> Iterator[Api | Refusal]:
    """One API an operation of an OpenAPI 3 or Swagger 2 document (JSON or YAML), or of all those in a folder.

    The operations of a folder's subfolder are one group; what is no document there is refused as `not_openapi`.
    """
    if not Path(place).is_dir():
        yield from _operations(_document(place), Path(place).stem, "")
        return
    documents = [
        p for p in sorted(Path(place).rglob("*")) if p.suffix in (".json", ".yaml", ".yml") and p.is_file()
    ]
    if not documents:
        raise InputError("no OpenAPI document in the folder", where=place, hint="*.json, *.yaml or *.yml")
    for path in documents:
        inside = path.relative_to(place).parts
        group = inside[0] if len(inside) > 1 else ""
        try:
            yield from _operations(_document(str(path)), path.stem, group)
        except InputError as e:
            yield Refusal("/".join(inside), "openapi", "not_openapi", e.what)


def _operations(document: dict[str, Any], name: str, group: str) -> Iterator[Api | Refusal]:
    info = document.get("info")
    info = info if isinstance(info, dict) else {}
    title = str(info.get("title") or name)
    license = info.get("license")
    license = str(license.get("name") or "") if isinstance(license, dict) else ""
    server = _server(document)
    for route, method in operations(document):
        asked = f"{method.upper()} {route}"
        try:
            tool = operation_tool(document, route, method)
        except InputError as e:
            yield Refusal(f"{group or title}/{asked}", "openapi", "bad_tool", e.what)
            continue
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as e:
            yield Refusal(
                f"{group or title}/{asked}", "openapi", "bad_tool", f"{type(e).__name__}: {e}"[:200]
            )
            continue
        made = _checked(tool, f"{group or title}/{tool.name}", "openapi")
        if isinstance(made, Refusal):
            yield made
            continue
        run = {
            "method": method,
            "server": server,
            "route": route,
            "places": place_of(document, route, method),
        }
        operation = document["paths"][route].get(method) or {}
        tags = operation.get("tags")
        category = str(tags[0]) if isinstance(tags, list) and tags else title
        yield Api(made, "openapi", group or title, run, (), _answers(operation), category, license)


def mcp_servers(place: str, sandbox: Sandbox) -> Iterator[Api | Refusal]:
    """Tools of MCP servers: what they answered to `tools/list`, or servers to start or reach and ask.

    A file holds lines of `{server, tools, category?, license?}`, one answer of `tools/list`, or a client's
    configuration, `{"mcpServers": {name: {command, args, env} | {url}}}`.
    """
    with McpServers() as live:
        for where, server in _rows(place):
            group = str(server.get("server") or server.get("name") or Path(place).name.partition(".")[0])
            reached = server_of(where, server)
            tools = (
                live.tools(reached)
                if reached
                else server.get("tools", (server.get("result") or {}).get("tools"))
            )
            if not isinstance(tools, list) or not tools:
                yield Refusal(f"{group}/", "mcp", "no_tools", where)
                continue
            run = {"server": reached} if reached else {}
            for item in tools:
                name = item.get("name", "") if isinstance(item, dict) else ""
                made = _tool(item, f"{group}/{name}", "mcp")
                if isinstance(made, Refusal):
                    yield made
                    continue
                category = str(server.get("category") or "")
                yield Api(made, "mcp", group, run, (), (), category, str(server.get("license") or ""))


def _tool(obj: Any, id: str, door: Any) -> Tool | Refusal:
    try:
        return _checked(normalise_tool(obj), id, door)
    except InputError as e:
        return Refusal(id, door, "bad_tool", e.what)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as e:
        return Refusal(id, door, "bad_tool", f"{type(e).__name__}: {e}"[:200])


def _checked(tool: Tool, id: str, door: Any) -> Tool | Refusal:
    fault = None
    if not tool.description.strip():
        fault = Rejection("no_description")
    elif not tool.parameters.get("properties"):
        fault = Rejection("no_parameters")
    else:
        try:  # dates of YAML, infinity, half a surrogate pair
            json.dumps(
                [tool.name, tool.description, tool.parameters], ensure_ascii=False, allow_nan=False
            ).encode()
        except (TypeError, ValueError, RecursionError) as e:
            fault = Rejection("not_json", str(e)[:200])
    return tool if fault is None else Refusal(id, door, fault.reason, fault.detail)


def _server(document: dict[str, Any]) -> str:
    servers = document.get("servers") or []
    if servers and isinstance(servers[0], dict):
        return str(servers[0].get("url") or "")
    if document.get("host"):  # Swagger 2
        scheme = (document.get("schemes") or ["https"])[0]
        return f"{scheme}://{document['host']}{document.get('basePath') or ''}"
    return ""


def _answers(operation: dict[str, Any]) -> tuple[Any, ...]:
    """Examples of a good answer, where the document gives them in place."""
    for code, response in sorted((operation.get("responses") or {}).items(), key=lambda item: str(item[0])):
        if not str(code).startswith("2") or not isinstance(response, dict):
            continue
        for media in (response.get("content") or {}).values():
            if not isinstance(media, dict):
                continue
            examples = [media["example"]] if "example" in media else []
            examples += [
                e["value"]
                for e in (media.get("examples") or {}).values()
                if isinstance(e, dict) and "value" in e
            ]
            if examples:
                return tuple(examples)
    return ()


def _document(place: str) -> dict[str, Any]:
    text = _text(place)
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as e:
        raise InputError(f"neither JSON nor YAML: {str(e).splitlines()[0]}", where=place) from e
    if not isinstance(document, dict):
        raise InputError("not an OpenAPI document", where=place)
    return document


def _rows(place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    text = _text(place)
    try:
        whole: Sequence[Any] = [json.loads(text)]
        whole = whole[0] if isinstance(whole[0], list) else whole
        numbered = [(place, row) for row in whole]
    except ValueError:
        numbered = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    numbered.append((f"{place}:{number}", json.loads(line)))
                except ValueError as e:
                    raise InputError(f"not JSON: {e}", where=f"{place}:{number}") from e
    for where, row in numbered:
        if not isinstance(row, dict):
            raise InputError("a server is a JSON object with tools", where=where)
        if not isinstance(configured := row.get("mcpServers"), dict):
            yield where, row
            continue
        for name, server in configured.items():
            if not isinstance(server, dict):
                raise InputError("a server is a JSON object with command or url", where=f"{where}: {name}")
            yield f"{where}: {name}", {"server": name, **server}


def _text(place: str) -> str:
    path = Path(place)
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, UnicodeDecodeError, EOFError) as e:
        raise InputError(f"cannot be read: {e}", where=place) from e
