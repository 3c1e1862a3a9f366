"""`xlam data verify` and `xlam data judge-calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import (
    AddressOption,
    EngineOption,
    JsonOption,
    WorkersOption,
    err,
    need_output,
    out,
    print_table,
    say,
    working,
    write_json,
)


def register_verify(app: typer.Typer) -> None:
    app.command(
        "verify", epilog="Example: xlam data verify configs/demo/records.jsonl runs/demo/verified.jsonl"
    )(verify)
    app.command(
        "judge-calibrate",
        epilog="Example: xlam data judge-calibrate labelled.jsonl --judge-url http://localhost:8000/v1",
    )(judge_calibrate)


JudgeUrl = Annotated[
    str, typer.Option("--judge-url", help="OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
]
JudgeModel = Annotated[str, typer.Option("--judge-model", help="The judge's name at the endpoint.")]
JudgeCache = Annotated[
    str,
    typer.Option("--judge-cache", help="JSONL of answers; a rerun asks only what is missing."),
]


def verify(
    path: Annotated[Path, typer.Argument(metavar="IN", help="Records: JSONL, gzip when named .gz.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The rows that are kept.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value ...]", help="For example rules.actions.pii=repair"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML: actions, thresholds, judge.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Evaluation set that must not be trained on; may be repeated."),
    ] = None,
    judge_url: JudgeUrl = "",
    judge_model: JudgeModel = "",
    judge_cache: JudgeCache = "",
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
    ray_address: AddressOption = "",
    json_file: JsonOption = None,
) -> None:
    """Check, repair and filter Records by rules, contamination, duplicates and a judge, with a ledger."""
    import time

    from rich.progress import Progress, SpinnerColumn, TextColumn

    from xlam_jax.config import load_config, make_config
    from xlam_jax.records.engines import make_engine
    from xlam_jax.records.quality.verify import VerifyConfig
    from xlam_jax.records.quality.verify import verify as run

    typed = [*(overrides or ())]
    typed += [
        f"judge.{key}={value}"
        for key, value in (("base_url", judge_url), ("model", judge_model), ("cache", judge_cache))
        if value
    ]
    settings = load_config(VerifyConfig, config, typed) if config else make_config(VerifyConfig, {}, typed)
    if against:
        files = (*settings.against, *map(str, against))
        settings = settings.model_copy(update={"against": files})
    need_output(target, path)
    started = time.perf_counter()
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), console=err, transient=True
    ) as bar:
        task = bar.add_task("verifying")

        def show(rows: int, kept: int) -> None:
            bar.update(task, description=f"{rows:,} rows read, {kept:,} kept")

        result = run(path, target, settings, make_engine(engine, workers, ray_address), progress=show)
    seconds = time.perf_counter() - started
    result |= {"seconds": seconds, "rows_per_second": result["rows"] / seconds if seconds else 0.0}
    write_json(json_file, result)
    print_table("yield by stage", result["yields"])
    if result["flagged"]:
        print_table("flagged", [{"code": code, "rows": n} for code, n in result["flagged"].items()])
    say(
        f"{result['out']:,} of {result['rows']:,} rows kept, {result['rows_per_second']:,.0f} rows/s; "
        f"{target} (ledger: {target}.ledger.jsonl)"
    )


def judge_calibrate(
    path: Annotated[
        Path, typer.Argument(metavar="LABELLED", help='JSONL of {"record": Record, "good": true or false}.')
    ],
    judge_url: JudgeUrl,
    judge_model: JudgeModel = "judge",
    judge_cache: JudgeCache = "",
    scope: Annotated[str, typer.Option(help="trajectory, steps or both.")] = "both",
    min_score: Annotated[float, typer.Option(help="Least score that passes.")] = 3,
    json_file: JsonOption = None,
) -> None:
    """Ask the judge about rows whose quality is known: accuracy, Cohen's kappa, confusion by threshold."""
    from xlam_jax.config import make_config
    from xlam_jax.records.quality.judge import JudgeConfig, calibrate, judge, read_labelled

    values = {"base_url": judge_url, "model": judge_model, "cache": judge_cache, "scope": scope}
    settings = make_config(JudgeConfig, {**values, "min_score": min_score})
    rows = list(read_labelled(path))
    with working(f"asking {judge_url}"):
        judgements = judge([record for record, _ in rows], settings.client(), settings.scope)
    pairs = [(good, judgement) for (_, good), judgement in zip(rows, judgements, strict=True)]
    result = calibrate(pairs, settings.min_score)
    write_json(json_file, result)
    print_table("agreement by least score that passes", result["sweep"])
    out.print(
        f"{result['read']} of {result['rows']} rows judged; at {min_score:g}: accuracy "
        f"{result['accuracy']:.3f}, kappa {result['kappa']:.3f}; best kappa at {result['best_threshold']:g}"
    )
