"""`xlam apigen`: the API library and the synthesis of verified rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli import apigen_dialogues, apigen_library
from xlam_jax.cli.common import JsonOption, err, need_output, out, print_table, say, write_json
from xlam_jax.errors import InputError, WorkError, unknown

if TYPE_CHECKING:
    from xlam_jax.apigen.library import Split
    from xlam_jax.apigen.run import RunConfig

app = typer.Typer(
    help="Synthesise verified function-calling data from an executable API library.",
    epilog="Example: xlam apigen run configs/demo/apigen.yaml rows=200",
    no_args_is_help=True,
)
app.add_typer(apigen_library.app, name="library")
apigen_dialogues.register(app)


@app.command("run", epilog="Example: xlam apigen run configs/demo/apigen.yaml rows=200 out=runs/apigen")
def run_command(
    config: Annotated[Path, typer.Argument(help="YAML file with the keys of a synthesis run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the file's.")
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="Where rows of a library folder are drawn: local or ray.")
    ] = "local",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 for one a core.")] = 1,
    json_file: JsonOption = None,
) -> None:
    """Draw rows, check format, execution and meaning, and write train.jsonl, heldout.jsonl and the ledger.

    Of the functions shipped here (library: stdlib), or of a folder of `xlam apigen library build`: asked for by a
    language model where the configuration names one (ask:), else made of the descriptions.
    """
    from xlam_jax.apigen.run import RunConfig, run
    from xlam_jax.config import load_config

    settings = load_config(RunConfig, config, overrides or ())
    if Path(settings.out).exists() and not Path(settings.out).is_dir():
        raise InputError("out is a file", where=settings.out, hint="the name of a folder")
    if settings.library != "stdlib":
        asked = _ask(settings) if settings.ask else _offline(settings, engine, workers)
        write_json(json_file, asked)
        if asked["short"]:
            raise WorkError(
                f"{asked['short']}; what passed is kept", where=asked["out"],
                hint="the same command with a larger attempts= goes on; rejected.jsonl says why the others failed",
            )  # fmt: skip
        return
    with _bars() as show:
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
    say(
        f"wrote train.jsonl, dev.jsonl, heldout.jsonl, rejected.jsonl, ledger.jsonl, library.json to {report.out}"
    )
    write_json(json_file, report.to_json())


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar a split."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>8}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(split: str, done: int, wanted: int) -> None:
            if split not in tasks:
                tasks[split] = bar.add_task(split, total=wanted)
            bar.update(tasks[split], completed=done)

        yield show


def _offline(settings: RunConfig, engine: str, workers: int) -> dict[str, Any]:
    """Runs a synthesis over a library folder without a model and prints its tables."""
    from xlam_jax.apigen.api import read_library
    from xlam_jax.apigen.offline.draft import Draft
    from xlam_jax.apigen.offline.run import run_offline
    from xlam_jax.records.engines import make_engine

    idle = settings.model_fields_set & {"dev_rows", "rename", "observations"}
    idle |= {f"generate.{key}" for key in settings.generate.model_fields_set - {"mix"}}
    if idle:
        raise InputError(
            f"without effect on a library folder: {', '.join(sorted(idle))}",
            hint="remove them, or library: stdlib",
        )
    groups = sorted({api.group for api in read_library(settings.library)})
    for server in settings.calls.mcp:
        if server not in groups:
            raise unknown("group of the library", server, groups, where="calls.mcp")
    draft = Draft(
        settings.library,
        "train",
        settings.seed,
        settings.generate.mix,
        settings.call_limits(),
        settings.calls,
    )
    rows: dict[Split, int] = {"train": settings.rows, "heldout": settings.heldout_rows}
    with _bars() as show:
        report = run_offline(
            draft,
            rows,
            settings.heldout_mix,
            settings.attempts,
            make_engine(engine, workers),
            settings.out,
            show,
        )
    print_table("Yield by split", report.yields)
    print_table("Dropped rows", [{"stage/reason": r, "rows": n} for r, n in report.reasons.items()])
    print_table("Rows by style", report.styles)
    print_table(
        "Verified rows by category", [{"category": c, "rows": n} for c, n in report.categories.items()]
    )
    print_table("Calls of verified rows", [{"executor": k, "calls": n} for k, n in report.executors.items()])
    print_table("APIs left out", [{"reason": r, "APIs": n} for r, n in report.refused.items()])
    say(
        f"wrote train.jsonl, provenance.jsonl, rejected.jsonl, ledger.jsonl to {report.out}; {report.seconds:.0f} s"
    )
    return report.to_json()


def _ask(settings: RunConfig) -> dict[str, Any]:
    """Runs a synthesis by a language model and prints its tables."""
    from dataclasses import asdict

    from xlam_jax.apigen.ask_run import run_asked

    assert settings.ask is not None
    rows: dict[Split, int] = {"train": settings.rows, "heldout": settings.heldout_rows}
    with _bars() as show:
        report = run_asked(
            settings.ask, settings.calls, settings.library, rows, settings.seed, settings.attempts,
            settings.call_limits(), settings.out, show,
        )  # fmt: skip
    print_table("Yield by split", report.yields)
    print_table("Dropped pairs", [{"stage/reason": r, "pairs": n} for r, n in report.reasons.items()])
    print_table("Pairs and verified rows by style", report.styles)
    print_table(
        "Calls of verified rows", [{"executor": k, "calls": n} for k, n in sorted(report.executors.items())]
    )
    print_table("Requests of this run", report.costs)
    out.print(f"walls: {report.walls}; {report.seconds:.1f} s")
    say(f"wrote train.jsonl, rejected.jsonl and ledger.jsonl to {report.out}")
    return asdict(report)


@app.command("measure", epilog="Example: xlam apigen measure runs/synthesis/rows")
def measure_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run without a model.")],
    json_file: JsonOption = None,
) -> None:
    """Measure the rows of a run: styles, categories, near duplicates, how many values stand in other words."""
    from xlam_jax.apigen.offline.measure import measure

    with err.status("reading") as status:
        measured = measure(folder, lambda n: status.update(f"{n} rows"))
    rows = [{"what": k, "value": v} for k, v in measured.items() if not isinstance(v, dict)]
    for name in ("styles", "abstentions", "registers"):
        rows += [{"what": f"{name}: {k}", "value": v} for k, v in measured[name].items()]
    print_table("Training rows", rows)
    write_json(json_file, measured)


@app.command(
    "rejected", epilog="Example: xlam apigen rejected runs/drawn runs/unfiltered.jsonl --stage execution"
)
def rejected_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    to: Annotated[Path, typer.Argument(metavar="OUT", help="File of Records to write.")],
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Where they failed; execution and semantic when left out."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Write training rows that failed as Records: the unfiltered part of an ablation, or negatives."""
    from collections import Counter

    from xlam_jax.apigen.rejected import rejected_records
    from xlam_jax.files import whole_file
    from xlam_jax.format import write_records

    need_output(to, folder / "rejected.jsonl")
    left: Counter[str] = Counter()
    records = list(
        rejected_records(folder, stage or ("execution", "semantic"), lambda why: left.update([why]))
    )
    if not records:
        raise InputError(
            "no training row failed there", where=str(folder), hint="--stage says of which stages"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(to) as partial:
        write_records(partial, records)
    reasons = Counter(record.lineage[-1].removeprefix("rejected:") for record in records)
    print_table("Rejected rows", [{"stage/reason": r, "rows": n} for r, n in reasons.most_common()])
    if left:
        say(f"{sum(left.values())} more are no Records, such as: {next(iter(left))}")
    say(f"wrote {len(records)} rows to {to}")
    write_json(json_file, {"rows": len(records), "reasons": dict(reasons), "no_records": dict(left)})


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
