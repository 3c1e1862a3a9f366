"""`xlam eval when2call`: to call, to ask or to decline, by log-probability."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlam_jax.cli.common import JsonOption, need_dir, need_file, print_table, say, write_json
from xlam_jax.cli.eval_model import (
    BatchOption,
    LenOption,
    ResumeOption,
    SeedOption,
    about_model,
    answers_bar,
    engine_of,
)
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation import Case
    from xlam_jax.evaluation.harness import Raw


def register(app: typer.Typer) -> None:
    """Adds the command to `xlam eval`."""
    app.command(epilog="Example: xlam eval when2call configs/demo/when2call.jsonl --model runs/demo/model")(
        when2call
    )


def when2call(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="when2call_test_mcq.jsonl, of github.com/NVIDIA/When2Call.")
    ],
    model: Annotated[Path, typer.Option("--model", metavar="DIR", help="Folder of a model, or a run.")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows, drawn by --seed.")] = None,
    seed: SeedOption = 0,
    out_dir: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keeps every likelihood and the numbers.")
    ] = None,
    resume: ResumeOption = False,
    max_len: LenOption = 4096,
    batch_size: BatchOption = 8,
    json_file: JsonOption = None,
) -> None:
    """The likeliest of four given answers: a call, a question back, a refusal, or an answer out of the air."""
    from xlam_jax.evaluation import when2call as task
    from xlam_jax.evaluation.harness import Raw, sample
    from xlam_jax.evaluation.journal import Journal, answer_cases
    from xlam_jax.files import sha256_of
    from xlam_jax.files import write_json as write_whole
    from xlam_jax.inference import folder_codec
    from xlam_jax.inference.likelihood import answer_likelihoods

    if resume and out_dir is None:
        raise InputError("--resume needs the folder to go on in", hint="--resume --out DIR")
    questions, refused = task.read_questions(need_file(file, "file of questions"))
    for reason, n in refused.items():
        say(f"{file}: {n} rows left out, {reason}")
    questions = sample(questions, limit, seed)
    codec = folder_codec(need_dir(model, "model folder"))
    cases, by_id = task.when2call_cases(questions, codec), {q.id: q for q in questions}
    about = {
        **about_model("when2call", model), "limit": limit, "seed": seed, "max_len": max_len,
        "codec": codec.settings, "file": sha256_of(file),
    }  # fmt: skip
    with Journal(out_dir, about, resume=resume) as journal:
        engine = engine_of(model, max_len, batch_size, None)

        def ask(part: Sequence[Case]) -> list[Raw]:
            asked = [task.choices(by_id[case.id], codec) for case in part]
            began = time.perf_counter()
            likelihoods = answer_likelihoods(engine, asked)
            each = (time.perf_counter() - began) / len(part)
            raws = []
            for (prompt, answers), values in zip(asked, likelihoods, strict=True):
                if values is None:
                    raws.append(Raw(prompt_tokens=len(engine.encode(prompt))))
                    continue
                kept = {
                    kind: [value.logprob, len(answer)]
                    for kind, value, answer in zip(task.KINDS, values, answers, strict=True)
                }
                tokens = sum(value.tokens for value in values)
                raws.append(Raw(json.dumps(kept), "stop", len(engine.encode(prompt)), tokens, each))
            return raws

        began = time.perf_counter()
        with answers_bar(len(cases)) as progress:
            rows = answer_cases(
                ask,
                cases,
                lambda case, raw: task.judge_choice(case, raw, by_id[case.id].tools),
                journal,
                chunk=32,
                progress=progress,
            )
        seconds = time.perf_counter() - began
        summary = task.summarise_when2call(rows)
        if out_dir is not None:
            write_whole(out_dir / "summary.json", summary)
    scores, confusion = task.tables(summary)
    print_table(f"{model}: {summary['n']} questions, 95 % intervals", scores)
    print_table("chosen by length, of the answer that is due", confusion)
    if summary["not_run"]:
        say(f"{summary['not_run']} questions are longer than {max_len} tokens and count as wrong")
    say(f"{seconds / len(rows):.2f} seconds a question")
    write_json(json_file, {**about, "summary": summary, "seconds": seconds, "out": str(out_dir or "")})
