"""`xlam eval`: how often a model's calls are right."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, need_dir, need_file, out, print_table, write_json
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation import Case
    from xlam_jax.inference import Engine

app = typer.Typer(
    help="Score a model on function-calling examples.",
    epilog="Example: xlam eval records runs/demo/data/heldout.jsonl --model runs/demo/model --limit 4",
    no_args_is_help=True,
)

ModelOption = Annotated[Path, typer.Option("--model", metavar="DIR", help="Folder of a model.")]
ConstrainedOption = Annotated[
    bool,
    typer.Option(
        "--constrained", help="Answers must follow the grammar of their tools (an empty list may be one)."
    ),
]
BothOption = Annotated[
    bool, typer.Option("--both", help="Free, then constrained; the model is read and compiled once.")
]
AdapterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter", metavar="NAME=DIR", help="Score this PEFT adapter on the model; again for several."
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for generations.jsonl and summary.json.")
]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer in tokens.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Sequences that decode together.")]
LenOption = Annotated[int, typer.Option("--max-len", min=2, help="Prompt and answer together, in tokens.")]


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

    found = list(islice(read_records(file), limit))
    engine = _engine(model, max_len, batch_size, adapter)
    cases = [case for record in found for case in record_cases(record, engine.codec, all_steps=all_steps)]
    about = _about(file.name, model)
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


@app.command(epilog="Example: xlam eval bfcl data/bfcl_v2 --category simple --model runs/demo/model")
def bfcl(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with BFCL_v2_<category>.json and possible_answer/.")
    ],
    model: ModelOption,
    category: Annotated[str, typer.Option(help="simple, multiple, parallel, live_simple, irrelevance, ...")],
    constrained: ConstrainedOption = False,
    limit: LimitOption = None,
    out_dir: OutOption = None,
    max_new_tokens: TokensOption = 256,
    max_len: LenOption = 2048,
    batch_size: BatchOption = 32,
    adapter: AdapterOption = None,
    json_file: JsonOption = None,
) -> None:
    """One category of the Berkeley Function-Calling Leaderboard, from its own files."""
    need_dir(model, "model folder")
    need_dir(folder, "BFCL folder")
    from xlam_jax.evaluation.bfcl import bfcl_cases
    from xlam_jax.inference import folder_codec

    bfcl_cases(folder, category, folder_codec(model), limit)  # bad files show before the weights are read
    engine = _engine(model, max_len, batch_size, adapter)
    cases = bfcl_cases(folder, category, engine.codec, limit)
    _run(engine, cases, _about(f"BFCL {category}", model), constrained, max_new_tokens, out_dir, json_file)


def _engine(model: Path, max_len: int, batch_size: int, adapters: list[str] | None) -> Engine:
    from xlam_jax.inference import Engine

    named = dict(_named_folder(text) for text in adapters or ())
    return Engine.from_folder(model, max_len=max_len, batch_size=batch_size, adapters=named)


def _about(dataset: str, model: Path) -> dict[str, Any]:
    """What a result is of; a model card takes it for the weights that it names."""
    from xlam_jax.weights import inspect, read_xlam_json

    weights = read_xlam_json(inspect(model).folder).get("weights_xxh3_128")
    return {"dataset": dataset, "model": str(model), "weights_xxh3_128": weights}


def _named_folder(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise InputError(f"{text!r} is not NAME=DIR", where="--adapter", hint="--adapter mine=runs/adapter")
    return name, need_dir(Path(folder), "PEFT folder")


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
    speed = _speed(engine)
    s = report.summary
    for line in s.get("unsaid", ()):
        err.print(f"the grammar does not hold {line}", markup=False, highlight=False)
    out.print(f"{s['seconds_per_call']:.2f} seconds per call; {_words(speed)}", highlight=False)
    return {**about, "summary": s, "speed": speed, "constrained": constrained, "out": str(out_dir or "")}


def _speed(engine: Engine) -> dict[str, Any]:
    """Tokens per second of prefill and decode, compilation included, and microseconds per mask."""
    stats, grammars = engine.stats, engine.grammars
    return {
        "prefill_tokens_per_second": stats.prefill_tokens / max(stats.prefill_seconds, 1e-9),
        "decode_tokens_per_second": stats.decode_tokens / max(stats.decode_seconds, 1e-9),
        "mask_microseconds": 1e6 * grammars.mask_seconds / grammars.masks if grammars.masks else None,
    }


def _words(speed: dict[str, Any]) -> str:
    words = (
        f"prefill {speed['prefill_tokens_per_second']:.0f} tokens/s, "
        f"decode {speed['decode_tokens_per_second']:.0f} tokens/s"
    )
    mask = speed["mask_microseconds"]
    return words if mask is None else f"{words}, {mask:.0f} microseconds per mask"
