"""`xlam apigen`: the API library and the synthesis of verified rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, err, out, print_table, say, write_json

app = typer.Typer(
    help="Synthesise verified function-calling data from an executable API library.",
    epilog="Example: xlam apigen run configs/demo/apigen.yaml rows=200",
    no_args_is_help=True,
)
library_app = typer.Typer(
    help="Look at the API library.", epilog="Example: xlam apigen library list", no_args_is_help=True
)
app.add_typer(library_app, name="library")


@app.command("run", epilog="Example: xlam apigen run configs/demo/apigen.yaml rows=200 out=runs/apigen")
def run_command(
    config: Annotated[Path, typer.Argument(help="YAML file with the keys of a synthesis run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the file's.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Draw rows, check format and execution, and write train.jsonl, dev.jsonl, heldout.jsonl and the ledger."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from xlam_jax.apigen.run import RunConfig, run
    from xlam_jax.config import load_config

    settings = load_config(RunConfig, config, overrides or ())
    columns = (
        TextColumn("{task.description:>8}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        tasks: dict[str, int] = {}

        def show(split: str, done: int, wanted: int) -> None:
            if split not in tasks:
                tasks[split] = bar.add_task(split, total=wanted)
            bar.update(tasks[split], completed=done)  # type: ignore[arg-type]

        report = run(settings, settings.out, show)
    print_table("Yield by split", report.yields)
    print_table(
        "Dropped rows", [{"stage/reason": reason, "rows": n} for reason, n in sorted(report.reasons.items())]
    )
    print_table("Verified rows by style", [{"split": split, **n} for split, n in report.styles.items() if n])
    out.print(
        f"{report.functions['train']} training functions, {report.functions['dev']} for development, "
        f"{report.functions['heldout']} held out; "
        f"{report.turns} training turns with {report.calls} calls, every one executed "
        f"(walls: {report.walls}); {report.seconds:.1f} s"
    )
    say(f"wrote train.jsonl, dev.jsonl, heldout.jsonl, ledger.jsonl, library.json to {report.out}")
    write_json(json_file, report.to_json())


@app.command("walls", epilog="Example: xlam apigen walls")
def walls_command(json_file: JsonOption = None) -> None:
    """Say which walls stand on this machine between called functions and you; exit 1 when none does."""
    import shutil

    from xlam_jax.apigen.walls import kinds

    binary, reason = kinds.bubblewrap()
    rows = [
        {"walls": "bubblewrap", "usable": "yes" if binary else "no", "what": binary or reason},
        *(
            {
                "walls": name,
                "usable": "yes" if (path := shutil.which(name)) else "no",
                "what": path or "not installed",
            }
            for name in ("docker", "podman")
        ),
    ]
    print_table("Walls", rows)
    write_json(json_file, {"walls": rows})
    if not any(row["usable"] == "yes" for row in rows):
        say("Functions of this package run without walls; others are refused unless you trust them by name.")
        raise typer.Exit(1)


@library_app.command("list", epilog="Example: xlam apigen library list --category dates")
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
    from xlam_jax.errors import unknown
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
