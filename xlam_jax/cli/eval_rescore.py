"""`xlam eval rescore` and `xlam eval scores`: kept answers under today's rules, and scores that others counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, need_dir, print_table, say, write_json
from xlam_jax.cli.eval_agents import rescore_agents
from xlam_jax.cli.eval_bfcl import TrustOption, keep_summary, print_summary
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation import CaseResult

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder of BFCL's files, else those of the installed bfcl-eval; or of WebShop's.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `xlam eval`."""
    app.command(epilog="Example: xlam eval rescore runs/bfcl --data data/bfcl_v2")(rescore)
    app.command(epilog="Example: xlam eval scores runs/bfcl-gold/score")(scores)


def rescore(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="What `xlam eval ... --out` kept, or BFCL's own result folder."),
    ],
    data: DataOption = None,
    trust: TrustOption = False,
    json_file: JsonOption = None,
) -> None:
    """Judges kept answers again, without a model: ours, or those that `bfcl generate` wrote."""
    from xlam_jax.evaluation.bfcl.report import summarise_bfcl
    from xlam_jax.evaluation.journal import RUN
    from xlam_jax.files import read_object
    from xlam_jax.format import get_codec

    need_dir(folder, "results folder")
    about: dict[str, Any]
    ours = (folder / RUN).is_file()
    if ours:
        about = read_object(folder / RUN, "what xlam eval --out wrote")
        if "worlds" in about:
            return rescore_agents(folder, about, data, json_file)
        rows, best, source = _ours(folder, about, data, trust)
    else:
        about = {"version": "v4", "model": folder.name}
        rows, best, source = _theirs(folder, data, trust)
    summary = summarise_bfcl(rows, about["version"], best)
    if ours:
        keep_summary(folder, rows, summary, get_codec(**about["codec"]))
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


Judged = tuple[list["CaseResult"], set[tuple[str, str, int]], str]


def _ours(folder: Path, about: dict[str, Any], place: Path | None, trust: bool) -> Judged:
    from xlam_jax.evaluation.bfcl import category, find_data
    from xlam_jax.evaluation.bfcl.rows import Rows
    from xlam_jax.evaluation.journal import GENERATIONS, read_rows
    from xlam_jax.format import get_codec

    data = find_data(place, about["version"])
    categories = [category(name) for name in about["categories"]]
    hashes = data.hashes(categories)
    if changed := [name for name, digest in about["files"].items() if hashes.get(name) != digest]:
        hint = "--data DIR with the files that were asked from"
        raise InputError(f"the answers are to another {changed[0]}", where=str(data.folder), hint=hint)
    kept = read_rows(folder / GENERATIONS)
    if not kept:
        raise InputError("no answers are kept there", where=str(folder / GENERATIONS))
    with Rows(data, categories, get_codec(**about["codec"]), trust=trust) as rows:
        by_key = {case.key: case for case in rows.cases}
        if strange := [row.id for row in kept if row.key not in by_key]:
            what = f"an answer to {strange[0]!r}, which is no row of the data"
            raise InputError(what, where=str(folder / GENERATIONS))
        return [rows.judge(by_key[row.key], row.raw) for row in kept], rows.best(), data.source(hashes)


def _theirs(folder: Path, place: Path | None, trust: bool) -> Judged:
    from xlam_jax.evaluation.bfcl import find_data
    from xlam_jax.evaluation.bfcl.official import decoded, read_results
    from xlam_jax.evaluation.bfcl.rows import Rows
    from xlam_jax.format import get_codec

    data = find_data(place, "v4")
    judged, best, used = [], set(), []
    for category, lines in read_results(folder):
        read = {name: decoded(line, category) for name, line in lines.items()}
        if None in read.values():
            say(
                f"{category.name} is left out: its answers are source text, which only BFCL's own parser reads"
            )
            continue
        with Rows(data, [category], get_codec(), trust=trust) as rows:
            if strange := lines.keys() - {case.id for case in rows.cases}:
                what = f"an answer to {min(strange)!r}, which is no row of {category.v4_name}"
                raise InputError(what, where=str(folder))
            used.append(category)
            judged += [rows.judge(case, *answer) for case in rows.cases if (answer := read.get(case.id))]
            best |= rows.best()
    if not judged:
        raise InputError("no answers that could be judged", where=str(folder))
    return judged, best, data.source(data.hashes(used))
