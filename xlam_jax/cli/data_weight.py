"""`xlam data weight`: kinds of questions that a model gets wrong are drawn more often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, need_dir, need_file, print_table, say, write_json


def register_weight(app: typer.Typer) -> None:
    app.command(
        epilog="Example: xlam data weight configs/demo/records.jsonl runs/weighted --from-eval runs/bfcl-mutated"
    )(weight)


def weight(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Training rows: Records.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: a file a kind, and inputs.json.")
    ],
    from_eval: Annotated[
        list[Path],
        typer.Option("--from-eval", metavar="DIR", help="What `xlam eval ... --out` kept; again for more."),
    ],
    most: Annotated[
        float, typer.Option("--most", min=1, help="A row is used at most so often, or one so-manieth.")
    ] = 2.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Splits rows by kind of question, with epochs that follow a model's error rates, for `xlam data build`."""
    from xlam_jax.evaluation.feedback import errors_by_kind, line, split, weights, write_inputs
    from xlam_jax.evaluation.journal import kept_rows
    from xlam_jax.files import check_free, whole_folder
    from xlam_jax.format import read_records

    need_file(source, "records file")
    errors, others = errors_by_kind(
        row for folder in from_eval for row in kept_rows(need_dir(folder, "results folder"))
    )
    check_free(out, overwrite=overwrite)
    with whole_folder(out) as partial:
        counts = split(read_records(source), partial)
        epochs = weights(errors, counts, most)
        inputs = write_inputs(partial, out, epochs)
    print_table("epochs by kind of question", [line(kind, errors, counts, epochs[kind]) for kind in counts])
    if others:
        say(
            f"left out, no kind of single questions: {', '.join(f'{name} ({n})' for name, n in others.most_common(8))}"
        )
    say(f'xlam data build CONFIG "inputs=$(cat {out}/inputs.json)"')
    write_json(json_file, {"epochs": epochs, "rows": counts, "inputs": inputs, "left_out": dict(others)})
