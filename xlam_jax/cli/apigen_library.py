"""`xlam apigen library`: what functions there are, and libraries of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, print_table, say, write_json
from xlam_jax.errors import InputError, unknown

app = typer.Typer(
    help="Look at the API library.", epilog="Example: xlam apigen library list", no_args_is_help=True
)


@app.command("list", epilog="Example: xlam apigen library list --category dates")
def list_command(
    category: Annotated[str | None, typer.Option("--category", help="Only this domain.")] = None,
    heldout: Annotated[
        bool, typer.Option("--heldout", help="Only functions kept for the reported evaluation.")
    ] = False,
    kind: Annotated[str, typer.Option("--library", help="Which library.")] = "stdlib",
    json_file: JsonOption = None,
) -> None:
    """List the functions: name, parameters, domain, and the split it serves."""
    from xlam_jax.apigen.library import load_library
    from xlam_jax.format import python_type

    library = load_library(kind)
    known = sorted({api.category for api in library})
    if category is not None and category not in known:
        raise unknown("category", category, known, where="--category")
    rows = [
        {
            "name": api.name,
            "parameters": ", ".join(
                f"{name}: {python_type(schema)}"
                + (f" = {schema['default']!r}" if "default" in schema else "")
                for name, schema in api.tool.parameters["properties"].items()
            ),
            "category": api.category,
            "split": api.split,
            "description": api.tool.description,
        }
        for api in library
        if (category is None or api.category == category) and (api.heldout or not heldout)
    ]
    print_table(f"{len(rows)} functions", rows)
    write_json(json_file, rows)


@app.command(
    "build",
    epilog="Example: xlam apigen library build python=shop.py openapi=orders.json mcp=tools.json --out runs/library",
)
def build_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DOOR=PLACE...",
            help="python=FILE.py or an installed module, openapi=FILE or folder, mcp=FILE (tools/list), standard=all.",
        ),
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    heldout: Annotated[
        float,
        typer.Option(
            "--heldout", min=0, max=1, help="Share of functions kept from training, by their names."
        ),
    ] = 0.0,
    per_group: Annotated[
        int,
        typer.Option("--per-group", min=0, help="Most functions of one service or server; 0 for all."),
    ] = 0,
    sandbox: Annotated[
        str,
        typer.Option("--sandbox", help="Walls of Python modules: auto, bubblewrap, docker, podman, none."),
    ] = "auto",
    trust: Annotated[
        bool, typer.Option("--trust", help="Import Python modules although no walls stand.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Collect functions of Python modules, OpenAPI documents and MCP servers into a library folder."""
    from dataclasses import replace
    from typing import cast

    from xlam_jax.apigen.api import Api, split_of, write_library
    from xlam_jax.apigen.doors import open_door
    from xlam_jax.apigen.sandbox import Sandbox
    from xlam_jax.apigen.walls.kinds import KINDS, Kind
    from xlam_jax.files import check_free

    if sandbox not in ("auto", *KINDS):
        raise unknown("kind of walls", sandbox, ("auto", *KINDS), where="--sandbox")
    check_free(to, overwrite=overwrite)
    with Sandbox(kind=cast("Kind", sandbox), trust=trust) as box:
        functions = [one for source in sources for one in open_door(source, box)]
    functions = [
        replace(one, split=split_of(one.tool.name, heldout)) if isinstance(one, Api) else one
        for one in functions
    ]
    summary = write_library(to, functions, sources, per_group)
    _summary(summary)
    say(f"wrote apis.jsonl, refused.jsonl, library.json to {to}")
    write_json(json_file, summary)


@app.command("stats", epilog="Example: xlam apigen library stats runs/library")
def stats_command(
    library: Annotated[Path, typer.Argument(help="A library folder.")], json_file: JsonOption = None
) -> None:
    """Count what a library folder holds: doors, groups, splits, categories, what was refused."""
    from xlam_jax.apigen.api import read_library, read_summary

    summary, held = read_summary(library), len(read_library(library))
    if held != summary["apis"]:
        raise InputError(
            f"apis.jsonl holds {held} functions and library.json counts {summary['apis']}", where=str(library),
            hint="xlam apigen library build --overwrite makes both anew",
        )  # fmt: skip
    _summary(summary)
    write_json(json_file, summary)


@app.command("show", epilog="Example: xlam apigen library show runs/library --limit 5")
def show_command(
    library: Annotated[Path, typer.Argument(help="A library folder.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most functions to show.")] = 20,
    name: Annotated[str, typer.Option("--name", help="Only functions whose id holds this text.")] = "",
    json_file: JsonOption = None,
) -> None:
    """Show functions of a library folder: parameters, examples, and how they are run."""
    from xlam_jax.apigen.api import read_library
    from xlam_jax.format import python_type

    apis = [api for api in read_library(library) if name in api.id][:limit]
    rows = [
        {
            "function": api.id,
            "parameters": ", ".join(
                f"{n}: {python_type(s)}" for n, s in api.tool.parameters["properties"].items()
            ),
            "example": str(api.examples[0]) if api.examples else "",
            "door": api.door,
            "split": api.split,
        }
        for api in apis
    ]
    print_table(f"{len(rows)} functions", rows)
    write_json(json_file, [api.to_json() for api in apis])


def _summary(summary: dict[str, Any]) -> None:
    rows = [
        {"what": "functions", "count": summary["apis"]},
        {"what": "of them with examples", "count": summary["with_examples"]},
    ]
    rows += [{"what": f"door {k}", "count": n} for k, n in summary["doors"].items()]
    rows += [{"what": f"split {k}", "count": n} for k, n in summary["splits"].items()]
    rows += [{"what": f"refused: {k}", "count": n} for k, n in summary["refused"].items()]
    print_table(f"{summary['groups']} groups, {len(summary['categories'])} categories", rows)
