"""`xlam ablate`: recipes against each other, under the same budget and over several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, err, out, print_table, say, write_json


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam ablate configs/ablate/filter.yaml --dry-run")(ablate)


def ablate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of an ablation.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value ...]", help="For example seeds=[0] variables.steps=20"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the stages, and which are there.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Builds, trains and scores every arm with every seed; a table with intervals and paired differences.

    What is there is not made again, so a changed stage costs what stands on it, and what was killed goes on with the
    same command.
    """
    from xlam_jax.config import load_config
    from xlam_jax.evaluation.ablation.config import AblationConfig, check_names
    from xlam_jax.evaluation.ablation.plan import plan
    from xlam_jax.evaluation.ablation.report import style_table, summarise, table, write
    from xlam_jax.evaluation.ablation.run import describe, run

    settings = load_config(AblationConfig, config, overrides or ())
    check_names(settings)
    if dry_run:
        lines = describe(
            [(arm, seed, plan(settings, arm, seed)) for seed in settings.seeds for arm in settings.arms]
        )
        write_json(json_file, lines)
        print_table("stages", lines)
        return
    results = run(settings, lambda text: err.print(text, highlight=False, soft_wrap=True))
    summary = summarise(settings, results)
    page = write(summary, Path(settings.out))
    write_json(json_file, summary)
    print_table(f"{len(settings.seeds)} seeds an arm, {summary['arms'][0]['rows']} answers", table(summary))
    if len(styles := style_table(summary)) > 1:
        print_table("by style of question, %", styles)
    for warning in summary["warnings"]:
        out.print(f"warning: {warning}", highlight=False)
    say(f"report: {page}")
