"""`xlam eval`: how often a model's calls are right."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli import (
    eval_agents,
    eval_bfcl,
    eval_compare,
    eval_hammer,
    eval_published,
    eval_rescore,
    eval_when2call,
)
from xlam_jax.cli.common import JsonOption, err, need_dir, need_file, out, print_table, write_json
from xlam_jax.cli.eval_model import (
    AdapterOption,
    BatchOption,
    ConstrainedOption,
    LenOption,
    TokensOption,
    about_model,
    engine_of,
    speed_of,
    speed_words,
)

if TYPE_CHECKING:
    from xlam_jax.evaluation import Case
    from xlam_jax.inference import Engine

app = typer.Typer(
    help="Score a model on function-calling examples.",
    epilog="Example: xlam eval records runs/demo/data/heldout.jsonl --model runs/demo/model --limit 4",
    no_args_is_help=True,
)
eval_bfcl.register(app)
eval_agents.register(app)
eval_hammer.register(app)
eval_when2call.register(app)
eval_rescore.register(app)
eval_compare.register(app)
eval_published.register(app)

ModelOption = Annotated[Path, typer.Option("--model", metavar="DIR", help="Folder of a model.")]
BothOption = Annotated[
    bool, typer.Option("--both", help="Free, then constrained; the model is read and compiled once.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for generations.jsonl and summary.json.")
]


@app.command(
    epilog="Example: xlam eval records runs/demo/data/heldout.jsonl --model runs/demo/model --limit 4"
)
def records(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Records, JSON lines; their calls are the answers.")
    ],
    model: ModelOption,
    constrained: ConstrainedOption = False,
    both: BothOption = False,
    limit: LimitOption = None,
    all_steps: Annotated[
        bool,
        typer.Option(
            "--all-steps", help="Every assistant turn after the recorded history, not just the first."
        ),
    ] = False,
    out_dir: OutOption = None,
    max_new_tokens: TokensOption = 256,
    max_len: LenOption = 1024,
    batch_size: BatchOption = 32,
    adapter: AdapterOption = None,
    json_file: JsonOption = None,
) -> None:
    """AST accuracy by BFCL's rules on Records, by style, with Wilson intervals."""
    need_dir(model, "model folder")
    need_file(file, "records file")
    from xlam_jax.evaluation import record_cases
    from xlam_jax.format import read_records

    rows = list(islice(read_records(file), limit))
    engine = engine_of(model, max_len, batch_size, adapter)
    cases = [case for record in rows for case in record_cases(record, engine.codec, all_steps=all_steps)]
    about = about_model(file.name, model)
    if not both:
        _run(engine, cases, about, constrained, max_new_tokens, out_dir, json_file)
        return
    results = {
        name: _every_adapter(
            engine, cases, about, name == "constrained", max_new_tokens, out_dir and out_dir / name
        )
        for name in ("free", "constrained")
    }
    write_json(json_file, results)


def _run(
    engine: Engine,
    cases: list[Case],
    about: dict[str, Any],
    constrained: bool,
    max_new_tokens: int,
    out_dir: Path | None,
    json_file: Path | None,
) -> None:
    write_json(json_file, _every_adapter(engine, cases, about, constrained, max_new_tokens, out_dir))


def _every_adapter(
    engine: Engine,
    cases: list[Case],
    about: dict[str, Any],
    constrained: bool,
    max_new_tokens: int,
    out_dir: Path | None,
) -> dict[str, Any]:  # fmt: skip
    if not engine.adapters:
        return _score(engine, cases, about, constrained, max_new_tokens, out_dir)
    results = {}
    for name in engine.adapters:
        engine.use(name)
        folder = out_dir and out_dir / name
        results[name] = _score(engine, cases, {**about, "adapter": name}, constrained, max_new_tokens, folder)
    return {"adapters": results}


def _score(
    engine: Engine,
    cases: list[Case],
    about: dict[str, Any],
    constrained: bool,
    max_new_tokens: int,
    out_dir: Path | None,
) -> dict[str, Any]:  # fmt: skip
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from xlam_jax.evaluation import evaluate_cases
    from xlam_jax.evaluation.report import error_table, table, write_report

    bar = Progress(
        TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    )
    with bar:
        task = bar.add_task("answers", total=len(cases))
        report = evaluate_cases(
            engine,
            cases,
            engine.codec,
            constrained=constrained,
            max_new_tokens=max_new_tokens,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if out_dir is not None:
        write_report(report, out_dir)
    adapter = f" + {about['adapter']}" if "adapter" in about else ""
    title = f"{about['dataset']}, {about['model']}{adapter}, {'constrained' if constrained else 'free'}"
    print_table(title, table(report))
    if failures := error_table(report):
        print_table("failures", failures)
    speed = speed_of(engine)
    s = report.summary
    for line in s.get("unsaid", ()):
        err.print(f"the grammar does not hold {line}", markup=False, highlight=False)
    out.print(f"{s['seconds_per_call']:.2f} seconds per call; {speed_words(speed)}", highlight=False)
    return {**about, "summary": s, "speed": speed, "constrained": constrained, "out": str(out_dir or "")}
