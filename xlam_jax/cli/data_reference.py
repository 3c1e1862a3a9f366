"""`xlam data reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, print_table, working, write_json


def register_reference(app: typer.Typer) -> None:
    app.command(
        "reference", epilog="Example: xlam data reference runs/demo/pairs --model runs/demo/base batch.rows=2"
    )(reference)


def reference(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG|SHARDS", help="YAML file of a DPO run, or a folder of preference shards."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value ...]", help="As of xlam train; for example mesh.fsdp=8"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="The starting model; with SHARDS it must be given.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Store the reference's log-probabilities beside preference pairs; interrupted, the command goes on."""
    from xlam_jax.config import load_config, make_config
    from xlam_jax.errors import InputError
    from xlam_jax.training.config import TrainConfig
    from xlam_jax.training.preference.precompute import precompute

    changes = list(overrides or ())
    if source.is_dir():
        if model is None:
            raise InputError("no model given", where="--model", hint="the model that the run will start from")
        values = {"model": str(model), "data": {"train": str(source)}, "out": "", "steps": 1}
        values |= {"objective": {"kind": "dpo"}}
        config = make_config(TrainConfig, values, changes)
    else:
        changes += [f"model={model}"] if model else []
        config = load_config(TrainConfig, source, changes)
    with working("reference") as status:
        results = precompute(config, lambda done, all, what: status(f"{done:,} of {all:,} rows, {what}"))
    write_json(json_file, results)
    keys = ("folder", "rows", "computed", "seconds", "tokens_per_second")
    print_table("reference", [{key: result[key] for key in keys} for result in results])
