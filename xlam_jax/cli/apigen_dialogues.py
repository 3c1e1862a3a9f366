"""`xlam apigen dialogues`: multi-turn rows in the shop's world."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, err, need_output, print_table, say, write_json
from xlam_jax.errors import InputError


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: xlam apigen dialogues runs/dialogues.jsonl --rows 100")(dialogues)


def dialogues(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="JSONL file to write (gzip by name).")],
    rows: Annotated[int, typer.Option(min=1, help="Dialogues wanted.")] = 100,
    seed: Annotated[int, typer.Option(help="Decides every draw.")] = 0,
    turns: Annotated[str, typer.Option(help="Fewest and most turns of the customer.")] = "2,6",
    agent: Annotated[
        str, typer.Option(help="An endpoint that plays the assistant, URL#MODEL; a script without.")
    ] = "",
    attempts: Annotated[float, typer.Option(min=1, help="Most blueprints drawn, per dialogue wanted.")] = 4.0,
    json_file: JsonOption = None,
) -> None:
    """Plan dialogues by walking a shop with a state, play them, keep those that end as planned.

    A blueprint's calls are executed, every call that writes is needed, and what an agent does has to lead to the same
    state and say the same figures.
    """
    from rich.progress import Progress

    from xlam_jax.apigen.dialogues.run import run_dialogues
    from xlam_jax.llm import LLM

    need_output(target)
    parts = turns.split(",")
    if (
        not all(p.strip().isdigit() for p in parts)
        or len(parts) > 2
        or not 1 <= int(parts[0]) <= int(parts[-1])
    ):
        raise InputError(f"not a number of turns: {turns!r}", where="--turns", hint="--turns 2,6")
    url, _, model = agent.partition("#")
    player = LLM(url, model or LLM(url, "").served(), cache=f"{target}.answers.jsonl") if agent else None
    target.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("dialogues", total=rows)
        report = run_dialogues(
            target, rows, seed, (int(parts[0]), int(parts[-1])), player, attempts,
            lambda done: bar.update(task, completed=done),
        )  # fmt: skip
    table = [{"what": k, "value": v} for k, v in asdict(report).items() if isinstance(v, int)]
    print_table(
        "Dialogues", [*table, *({"what": f"dropped: {k}", "value": v} for k, v in report.reasons.items())]
    )
    say(f"{target} (ledger: {target}.ledger.jsonl)")
    write_json(json_file, asdict(report))
