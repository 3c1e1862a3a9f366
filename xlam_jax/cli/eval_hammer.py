"""`xlam eval hammer`: API-Bank, Seal-Tools and ToolAlpaca as Hammer counts them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, need_file, print_table, say, write_json
from xlam_jax.cli.eval_bfcl import ModelOption
from xlam_jax.cli.eval_model import (
    BatchOption,
    CompletionsOption,
    ConcurrencyOption,
    ConstrainedOption,
    LenOption,
    ResumeOption,
    SeedOption,
    TokensOption,
    about_model,
    answers_bar,
    endpoint_of,
    engine_of,
    kind_of,
)
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation import Case
    from xlam_jax.evaluation.journal import Ask
    from xlam_jax.format import Codec


def register(app: typer.Typer) -> None:
    """Adds the command to `xlam eval`."""
    app.command(epilog="Example: xlam eval hammer configs/demo/records.jsonl --model scripted:gold")(hammer)


def hammer(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Hammer's data/test/original/*.json, or Records.")
    ],
    model: ModelOption = ...,  # type: ignore[assignment]
    constrained: ConstrainedOption = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows a file, drawn by --seed.")] = None,
    seed: SeedOption = 0,
    out_dir: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keeps every answer and the numbers.")
    ] = None,
    resume: ResumeOption = False,
    concurrency: ConcurrencyOption = 8,
    completions: CompletionsOption = None,
    max_new_tokens: TokensOption = 256,
    max_len: LenOption = 2048,
    batch_size: BatchOption = 32,
    json_file: JsonOption = None,
) -> None:
    """Precision, recall and F1 of function names and of arguments, and answers that cannot be read."""
    from xlam_jax.evaluation.hammer import hammer_cases, judge_hammer, read_questions, summarise_hammer, table
    from xlam_jax.evaluation.harness import sample
    from xlam_jax.evaluation.journal import Journal, answer_cases
    from xlam_jax.files import sha256_of
    from xlam_jax.files import write_json as write_whole

    if resume and out_dir is None:
        raise InputError("--resume needs the folder to go on in", hint="--resume --out DIR")
    names = [file.name.split(".")[0] for file in files]
    if len(set(names)) < len(names):
        raise InputError(
            f"two files of one name: {', '.join(names)}", where="FILE", hint="names tell the sets apart"
        )
    questions = {}
    for name, file in zip(names, files, strict=True):
        records, refused = read_questions(need_file(file, "file of questions"))
        questions[name] = sample(records, limit, seed)
        for reason, n in refused.items():
            say(f"{file}: {n} rows left out, {reason}")
    codec, make, about = _model(
        model, constrained, concurrency, completions, max_new_tokens, max_len, batch_size, out_dir, seed
    )
    cases = [case for name, drawn in questions.items() for case in hammer_cases(drawn, name, codec)]
    about |= {
        "dataset": "hammer", "limit": limit, "seed": seed, "codec": codec.settings,
        "files": {name: sha256_of(file) for name, file in zip(names, files, strict=True)},
    }  # fmt: skip
    with Journal(out_dir, about, resume=resume) as journal:
        asked, began = make(cases), time.perf_counter()
        with answers_bar(len(cases)) as progress:
            rows = answer_cases(
                asked, cases, lambda c, r: judge_hammer(c, r, codec), journal, progress=progress
            )
        seconds = time.perf_counter() - began
        summary = summarise_hammer(rows)
        if out_dir is not None:
            write_whole(out_dir / "summary.json", summary)
    print_table(f"{model}; F1 with 95 % intervals", table(summary))
    mean = summary["mean"]
    say(
        f"mean of the sets: F1 of names {100 * mean['name']:.1f} %, of arguments {100 * mean['argument']:.1f} %"
    )
    write_json(json_file, {**about, "summary": summary, "seconds": seconds, "out": str(out_dir or "")})


def _model(
    model: str, constrained: bool, concurrency: int, completions: Path | None, max_new_tokens: int, max_len: int,
    batch_size: int, out_dir: Path | None, seed: int,
) -> tuple[Codec, Callable[[list[Case]], Ask], dict[str, Any]]:  # fmt: skip
    """Its codec, what makes it answer, and what a journal keeps of it; weights are read when it is asked."""
    from xlam_jax.evaluation.hammer import gold_calls
    from xlam_jax.evaluation.scripted import scripted_answers
    from xlam_jax.format import get_codec

    about = {"model": model, "max_new_tokens": max_new_tokens}
    kind, name = kind_of(model, constrained, completions=completions)
    if kind == "script":
        codec = get_codec()

        def scripted(cases: list[Case]) -> Ask:
            said = dict(
                zip(
                    (c.key for c in cases),
                    scripted_answers(name, cases, codec, gold_calls, seed),
                    strict=True,
                )
            )
            return lambda part: [said[case.key] for case in part]

        return codec, scripted, about
    if kind == "endpoint":
        asked, about = endpoint_of(model, completions, concurrency, max_new_tokens, out_dir)
        return asked.codec, lambda cases: asked, about
    from xlam_jax.evaluation.turns import own_engine
    from xlam_jax.inference import folder_codec

    codec = folder_codec(model)

    def own(cases: list[Case]) -> Ask:
        engine, unsaid = engine_of(Path(model), max_len, batch_size, None), []
        say_all = own_engine(engine, codec, unsaid, constrained=constrained, max_new_tokens=max_new_tokens)

        def asked(part: Any) -> Any:
            raws = say_all(part)
            while unsaid:
                err.print(f"the grammar does not hold {unsaid.pop(0)}", markup=False, highlight=False)
            return raws

        return asked

    return (
        codec,
        own,
        {**about, **about_model("hammer", Path(model)), "constrained": constrained, "max_len": max_len},
    )
