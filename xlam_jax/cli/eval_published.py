"""`xlam eval published`: what others published, and runs of one's own among it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, need_dir, print_table, say, write_json
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation.published import Published

EXAMPLE = "Example: xlam eval published bfcl-v2"


def register(app: typer.Typer) -> None:
    """Adds the command to `xlam eval`."""
    app.command(epilog=EXAMPLE)(published)


def published(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="bfcl-v2, agents, ...; without it all are listed.")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN ...]", help="Folders that `xlam eval bfcl --out` wrote."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Our rows by the strict rules.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Every published row, not only the nearest.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """The papers' tables, dated and with their source; a run on BFCL stands among them by the columns it has."""
    from xlam_jax.evaluation import published as tables

    if table is None:
        known = tables.published().values()
        print_table(
            "published tables",
            [{"table": t.name, "what": t.title, "date": t.date, "rows": len(t.rows)} for t in known],
        )
        write_json(json_file, [asdict(t) for t in known])
        return
    chosen = tables.find_published(table)
    result: dict[str, Any] = asdict(chosen)
    unit = f", {chosen.unit}" if chosen.unit else ""
    if runs:
        result |= _ours(chosen, runs, "strict" if strict else "bfcl", everything)
    else:
        print_table(f"{chosen.title}{unit}, {chosen.date}", tables.lines(chosen))
    say(f"published {chosen.date}: {chosen.source}")
    for note in chosen.notes:
        say(note)
    write_json(json_file, result)


def _ours(found: Published, runs: list[Path], rule: str, everything: bool) -> dict[str, Any]:
    from xlam_jax.evaluation import published as tables
    from xlam_jax.files import read_object

    kind, _, version = found.name.partition("-")
    if kind != "bfcl" or version != "v2":
        raise InputError(
            f"runs of ours are not measured as {found.name} was",
            where="RUN",
            hint="bfcl-v2 takes runs; xlam eval compare A B sets two of yours against each other",
        )
    own = []
    for folder in runs:
        need_dir(folder, "results folder")
        summary = read_object(folder / "summary.json", "what xlam eval bfcl --out wrote")
        own.append(tables.of_run(folder, summary, version, rule))
    lines, columns = tables.among(found, version, own)
    shown = lines if everything else tables.nearest(lines)
    print_table(
        f"{found.title}, %, by {len(columns)} of its ten columns"
        if len(columns) < 10
        else f"{found.title}, %",
        [
            {"rank": x["rank"], "model": x["model"], "overall": x["overall"], "alike": round(x["alike"], 2)}
            for x in shown
        ],
    )
    say(
        f"alike: the mean of {', '.join(columns)}, of every model; ours are measured here, the others published"
    )
    for run in own:
        print_table(
            f"{run.name}, by the {run.rule} rules",
            [
                {
                    "column": name,
                    "%": round(s["value"], 1),
                    "95 % interval": f"{s['low']:.1f} - {s['high']:.1f}",
                }
                for name, s in run.columns.items()
            ],
        )
    return {"alike": lines, "columns_alike": columns, "runs": [asdict(run) for run in own]}
