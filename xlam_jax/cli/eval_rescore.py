"""`xlam eval rescore` and `xlam eval scores`: kept answers under today's rules, and scores that others counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, need_dir, print_table, say, write_json
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation import Case, Row

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Folder of BFCL's files; without it those of the installed bfcl-eval."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `xlam eval`."""
    app.command(epilog="Example: xlam eval rescore runs/bfcl --data data/bfcl_v2")(rescore)
    app.command(epilog="Example: xlam eval scores runs/bfcl/score")(scores)


def rescore(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="What `xlam eval bfcl --out` kept, or BFCL's own result folder."),
    ],
    data: DataOption = None,
    json_file: JsonOption = None,
) -> None:
    """Judges kept answers again, without a model: ours, or those that `bfcl generate` wrote."""
    from xlam_jax.cli.eval_bfcl import keep_summary, print_summary
    from xlam_jax.evaluation.bfcl.cases import reachable
    from xlam_jax.evaluation.bfcl.report import summarise_bfcl
    from xlam_jax.evaluation.journal import RUN
    from xlam_jax.files import read_object

    need_dir(folder, "results folder")
    ours = (folder / RUN).is_file()
    if ours:
        about = read_object(folder / RUN)
        cases, rows, source = _ours(folder, about, data)
    else:
        about = {"version": "v4", "model": folder.name}
        cases, rows, source = _theirs(folder, data)
    summary = summarise_bfcl(rows, about["version"], reachable(cases))
    if ours:
        keep_summary(folder, rows, summary)
    print_summary(f"{source}, {about['model']}", summary, f"{len(rows)} kept answers")
    write_json(json_file, {"model": about["model"], "data": source, "summary": summary})


def scores(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with BFCL's score files of one model.")
    ],
    json_file: JsonOption = None,
) -> None:
    """Columns and overall score of BFCL's score files, with intervals; a partial where files are missing."""
    from xlam_jax.evaluation.bfcl import report
    from xlam_jax.evaluation.bfcl.official import read_scores

    need_dir(folder, "score folder")
    version, counts = read_scores(folder)
    summary = report.summarise_counts(version, counts)
    print_table("categories", report.category_table(summary))
    print_table("columns", report.column_table(summary, ("bfcl",)))
    for line in report.left_out(summary):
        say(line)
    write_json(json_file, summary)


def _ours(folder: Path, about: dict[str, Any], place: Path | None) -> tuple[list[Case], list[Row], str]:
    from xlam_jax.evaluation.bfcl import category, category_cases, find_data
    from xlam_jax.evaluation.harness import judge
    from xlam_jax.evaluation.journal import GENERATIONS, read_rows
    from xlam_jax.format import get_codec

    data = find_data(place, about["version"])
    categories = [category(name) for name in about["categories"]]
    hashes = data.hashes(categories)
    if changed := [name for name, digest in about["files"].items() if hashes.get(name) != digest]:
        raise InputError(
            f"the answers are to another {changed[0]}",
            where=str(data.folder),
            hint="--data DIR with the files asked from",
        )
    codec = get_codec(**about["codec"])
    by_key = {case.key: case for c in categories for case in category_cases(data, c, codec)}
    kept = read_rows(folder / GENERATIONS)
    if not kept:
        raise InputError("no answers are kept there", where=str(folder / GENERATIONS))
    if strange := [row.id for row in kept if row.key not in by_key]:
        raise InputError(
            f"an answer to {strange[0]!r}, which is no row of the data", where=str(folder / GENERATIONS)
        )
    cases = [by_key[row.key] for row in kept]
    rows = [judge(case, row.raw, codec) for case, row in zip(cases, kept, strict=True)]
    return cases, rows, data.source(hashes)


def _theirs(folder: Path, place: Path | None) -> tuple[list[Case], list[Row], str]:
    from xlam_jax.evaluation.bfcl import category_cases, find_data
    from xlam_jax.evaluation.bfcl.official import decoded, read_results
    from xlam_jax.evaluation.harness import judge
    from xlam_jax.format import get_codec

    data = find_data(place, "v4")
    cases, rows, used = [], [], []
    for found, lines in read_results(folder):
        by_id = {case.id: case for case in category_cases(data, found, get_codec())}
        if strange := [name for name in lines if name not in by_id]:
            raise InputError(
                f"an answer to {strange[0]!r}, which is no row of {found.v4_name}", where=str(folder)
            )
        read = {name: decoded(line, found.language) for name, line in lines.items()}
        if None in read.values():
            say(f"{found.name} is left out: its answers are source text, which only BFCL's own parser reads")
            continue
        used.append(found)
        for name, case in by_id.items():
            if answer := read.get(name):
                cases.append(case)
                rows.append(judge(case, *answer))
    if not rows:
        raise InputError("no single-turn answers are there", where=str(folder))
    return cases, rows, data.source(data.hashes(used))
