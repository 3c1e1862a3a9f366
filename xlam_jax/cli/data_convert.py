"""`xlam data convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import (
    AddressOption,
    EngineOption,
    JsonOption,
    WorkersOption,
    need_output,
    print_table,
    say,
    working,
    write_json,
)
from xlam_jax.errors import InputError


def register_convert(app: typer.Typer) -> None:
    app.command(
        "convert",
        epilog="Example: xlam data convert openai configs/demo/chats.jsonl runs/tour/chats.jsonl",
    )(convert)


def convert(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="Name of the format; --list shows them.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="IN", help="File or folder: JSONL, JSON, Parquet, Arrow, each also .gz."),
    ] = None,
    target: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Records to write: .jsonl or .jsonl.gz.")
    ] = None,
    source_file: Annotated[
        Path | None,
        typer.Option(
            "--source", metavar="FILE.py", help="A source of yours, in place of SOURCE: a file with a SOURCE."
        ),
    ] = None,
    list_sources: Annotated[bool, typer.Option("--list", help="List the sources and stop.")] = False,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="The ledger; else beside OUT.")
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
    address: AddressOption = "",
    json_file: JsonOption = None,
) -> None:
    """Turn a public data set's rows into Records; every refused row is in the ledger with its reason."""
    from xlam_jax.records.engines import make_engine
    from xlam_jax.records.sources import SOURCES, get_source, installed_sources
    from xlam_jax.records.sources.convert import convert as run

    if list_sources:
        listed = [get_source(name) for name in (*SOURCES, *installed_sources())]
        rows = [{"name": s.name, "summary": s.summary, "licence": s.license, "url": s.url} for s in listed]
        write_json(json_file, rows)
        for row in rows:
            # A line for itself: a table would break the address, which is there to be copied.
            say(
                f"{row['name']}: {row['summary']} ({row['licence'] or 'licence of your data'})\n    {row['url']}"
            )
        return
    if source_file is not None:
        if target is not None:
            raise InputError(
                f"SOURCE {source!r} and --source {source_file} are two sources",
                hint=f"xlam data convert --source {source_file} IN OUT",
            )
        # Without SOURCE the first word typed is IN.
        given, source = source, str(source_file)
        path, target = (Path(given) if given else None), path
    if source is None or path is None or target is None:
        raise InputError(
            "xlam data convert needs SOURCE, IN and OUT",
            hint="xlam data convert xlam-60k rows.jsonl records.jsonl; xlam data convert --list",
        )
    if not target.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError("OUT is written as JSONL", where=str(target), hint="OUT.jsonl or OUT.jsonl.gz")
    need_output(target, path)
    with working(f"converting {path}") as status:
        result = run(
            source,
            path,
            target,
            ledger,
            make_engine(engine, workers, address),
            lambda n: status(f"{n:,} records from {path}"),
        )
    write_json(json_file, result)
    _print(result)
    ledger = ledger or target.with_name(target.name + ".ledger.jsonl")
    say(f"{target} (ledger: {ledger})")
    if not result["rows"]:
        raise InputError("no rows in the input", where=str(path))


def _print(result: dict[str, Any]) -> None:
    percent = round(100 * result["valid"] / result["calls"], 1) if result["calls"] else None
    shown = ("source", "rows", "out", "refused", "reasons", "calls", "valid")
    print_table("converted", [{**{key: result[key] for key in shown}, "valid %": percent}])
    if result["faults"]:
        print_table("faults", [result["faults"]])
