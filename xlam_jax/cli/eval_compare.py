"""`xlam eval compare`: two kept evaluations against each other, row by row."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, need_dir, print_table, say, write_json

if TYPE_CHECKING:
    from xlam_jax.evaluation.paired import Paired


def register(app: typer.Typer) -> None:
    """Adds the command to `xlam eval`."""
    app.command(epilog="Example: xlam eval compare runs/bfcl-gold runs/bfcl-mutated")(compare)


def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Folder that `xlam eval ... --out` wrote.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another, of the same rows.")],
    strict: Annotated[bool, typer.Option("--strict", help="By the strict rules, not BFCL's.")] = False,
    show: Annotated[int, typer.Option("--show", min=0, help="Rows that changed, of each kind.")] = 3,
    json_file: JsonOption = None,
) -> None:
    """Which rows got better and which worse, by style, with an exact McNemar test."""
    from xlam_jax.evaluation.journal import kept_rows
    from xlam_jax.evaluation.paired import compare_rows

    rows = [kept_rows(need_dir(folder, "results folder")) for folder in (first, second)]
    comparison = compare_rows(*rows, strict=strict)
    groups: dict[str, Paired] = {
        **(comparison["styles"] if len(comparison["styles"]) > 1 else {}),
        "all": comparison["all"],
    }
    print_table(
        f"{first} (first) and {second} (second)", [_line(name, pair) for name, pair in groups.items()]
    )
    print_table("outcomes", comparison["errors"])
    for kind, words in (("lost", "right before, wrong now"), ("won", "wrong before, right now")):
        for row in comparison[kind][:show]:
            one, other = row["first error"] or "right", row["second error"] or "right"
            say(f"{words}: {row['style']} {row['id']} step {row['step']}: {one} -> {other}")
            say(f"  {_short(row['first text'])}")
            say(f"  {_short(row['second text'])}")
    if comparison["only_in_one"]:
        say(f"{comparison['only_in_one']} rows that only one of the two has are left out")
    result: dict[str, Any] = {**comparison, "all": asdict(comparison["all"])}
    write_json(
        json_file, {**result, "styles": {name: asdict(pair) for name, pair in comparison["styles"].items()}}
    )


def _line(name: str, pair: Paired) -> dict[str, Any]:
    return {
        "style": name,
        "rows": pair.n,
        "first %": f"{100 * (pair.both + pair.only_first) / pair.n:.1f}",
        "second %": f"{100 * (pair.both + pair.only_second) / pair.n:.1f}",
        "lost": pair.only_first,
        "won": pair.only_second,
        "difference": f"{100 * pair.difference:+.1f} ({100 * pair.low:+.1f} to {100 * pair.high:+.1f})",
        "p": f"{pair.p:.3g}",
    }


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 150 else line[:147] + "..."
