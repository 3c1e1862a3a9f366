"""`xlam eval bfcl`: the Berkeley Function-Calling Leaderboard, from its own files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, print_table, say, write_json
from xlam_jax.cli.eval_model import (
    AdapterOption,
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
    speed_of,
    speed_words,
)
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation import CaseResult
    from xlam_jax.evaluation.bfcl import Category, Data
    from xlam_jax.evaluation.bfcl.rows import Rows
    from xlam_jax.evaluation.endpoint import Completions, Endpoint
    from xlam_jax.evaluation.journal import Ask
    from xlam_jax.format import Codec

FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR", help="Folder of BFCL's files; without it those of the installed bfcl-eval."
    ),
]
VersionOption = Annotated[
    str | None, typer.Option("--version", help="v2, v3 or v4; else the newest that is there.")
]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--category", help="all, live, non_live, multi_turn, simple, java, ...; again or with commas."
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="DIR|URL|scripted:NAME",
        help="Folder; http://host:8000/v1#NAME; or gold, empty, random, mutated.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Rows a category, drawn by --seed.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Keeps every answer, and BFCL's own result and score files."),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Run bfcl-eval's classes (multi-turn) without walls where there are none."),
]


def register(app: typer.Typer) -> None:
    """Adds the command to `xlam eval`."""
    app.command(epilog="Example: xlam eval bfcl data/bfcl_v2 --category simple --model runs/demo/model")(bfcl)


def bfcl(
    folder: FolderArgument = None,
    model: ModelOption = ...,  # type: ignore[assignment]
    version: VersionOption = None,
    category: CategoryOption = None,
    constrained: ConstrainedOption = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    out_dir: OutOption = None,
    resume: ResumeOption = False,
    concurrency: ConcurrencyOption = 8,
    completions: CompletionsOption = None,
    trust: TrustOption = False,
    max_new_tokens: TokensOption = 256,
    max_len: LenOption = 2048,
    batch_size: BatchOption = 32,
    adapter: AdapterOption = None,
    json_file: JsonOption = None,
) -> None:
    """The Berkeley Function-Calling Leaderboard, offline: by its own rules and by strict ones."""
    from xlam_jax.evaluation.bfcl import chosen, find_data
    from xlam_jax.format import get_codec

    if resume and out_dir is None:
        raise InputError("--resume needs the folder to go on in", hint="--resume --out DIR")
    data = find_data(folder, version)
    categories = chosen(category or ["single_turn"], data.version)
    if not category:
        categories = [c for c in categories if data.has(c)]
    run = _Run(data, categories, limit, seed, trust, out_dir, resume)
    kind, name = kind_of(model, constrained, adapter, completions)
    if kind == "script":
        with run.rows(get_codec()) as rows:
            asked = rows.scripted(name)
            write_json(json_file, run.report(asked, rows, {"model": model}, out_dir, 256))
        return
    if kind == "endpoint":
        write_json(
            json_file,
            run.endpoint(*endpoint_of(model, completions, concurrency, max_new_tokens, out_dir), concurrency),
        )
        return
    from xlam_jax.inference import folder_codec

    with run.rows(folder_codec(model)) as rows:  # bad files show before the weights are read
        engine = engine_of(Path(model), max_len, batch_size, adapter)
        results = {}
        for name in engine.adapters or [""]:
            if name:
                engine.use(name)
            how = {"constrained": constrained, "max_new_tokens": max_new_tokens}
            results[name] = run.with_engine(engine, rows, Path(model), name, how)
    write_json(json_file, {"adapters": results} if engine.adapters else results[""])


@dataclass
class _Run:
    """One choice of rows, put to one model after another."""

    data: Data
    categories: list[Category]
    limit: int | None
    seed: int
    trust: bool
    out_dir: Path | None
    resume: bool

    def rows(self, codec: Codec) -> Rows:
        from xlam_jax.evaluation.bfcl.rows import Rows

        return Rows(self.data, self.categories, codec, limit=self.limit, seed=self.seed, trust=self.trust)

    def endpoint(
        self, model: Endpoint | Completions, about: dict[str, Any], concurrency: int
    ) -> dict[str, Any]:
        with self.rows(model.codec) as rows:
            return self.report(rows.asking(model), rows, about, self.out_dir, 8 * concurrency)

    def with_engine(
        self, engine: Any, rows: Rows, model: Path, adapter: str, how: dict[str, Any]
    ) -> dict[str, Any]:
        unsaid: list[str] = []
        about = {**about_model(f"BFCL {self.data.version}", model), **how, "max_len": engine.max_len}
        if adapter:
            about["adapter"] = adapter
        folder = self.out_dir / adapter if self.out_dir and adapter else self.out_dir
        result = self.report(rows.engine(engine, unsaid, **how), rows, about, folder, 4 * engine.batch_size)
        for line in unsaid:
            err.print(f"the grammar does not hold {line}", markup=False, highlight=False)
        speed = speed_of(engine)
        say(f"{result['seconds'] / result['summary']['n']:.2f} seconds per row; {speed_words(speed)}")
        return {**result, "speed": speed}

    def report(
        self, asked: Ask, rows: Rows, model: dict[str, Any], folder: Path | None, chunk: int
    ) -> dict[str, Any]:
        from xlam_jax.evaluation.bfcl.report import summarise_bfcl
        from xlam_jax.evaluation.journal import Journal, answer_cases

        hashes = self.data.hashes(self.categories)
        about = {
            **model,
            "dataset": f"BFCL {self.data.version}",
            "version": self.data.version,
            "categories": [c.name for c in self.categories],
            "limit": self.limit,
            "seed": self.seed,
            "codec": rows.codec.settings,
            "files": hashes,
            **rows.about,
        }
        with Journal(folder, about, resume=self.resume) as journal:
            kept, began = len(journal.rows), time.perf_counter()
            with answers_bar(len(rows.cases)) as progress:
                results = answer_cases(asked, rows.cases, rows.judge, journal, chunk=chunk, progress=progress)
            seconds = time.perf_counter() - began
            summary = summarise_bfcl(results, self.data.version, rows.best())
            if folder is not None:
                keep_summary(folder, results, summary, rows.codec)
        source = self.data.source(hashes)
        if kept:
            say(f"{min(kept, len(results))} of {len(results)} answers were there already")
        print_summary(f"{source}, {model['model']}", summary, self._rows_words())
        return {
            **model,
            "data": source,
            "summary": summary,
            "seconds": seconds,
            "results": card_results(summary, model),
            "out": str(folder or ""),
        }

    def _rows_words(self) -> str:
        return (
            "all rows"
            if self.limit is None
            else f"a sample of up to {self.limit} rows a category, seed {self.seed}"
        )


def keep_summary(folder: Path, rows: Sequence[CaseResult], summary: dict[str, Any], codec: Codec) -> None:
    """Writes summary.json and, in version 4, BFCL's own result and score files."""
    from xlam_jax.evaluation.bfcl.official import write_official
    from xlam_jax.files import write_json as write_whole

    write_whole(folder / "summary.json", summary)
    if summary["version"] == "v4" and (left := write_official(rows, folder, codec)):
        say(f"{left} rows that were not run are not in result/: bfcl evaluate needs --partial-eval")


def print_summary(title: str, summary: dict[str, Any], rows: str) -> None:
    """Categories, columns and failures as tables, and what is left out in words."""
    from xlam_jax.evaluation.bfcl.report import category_table, column_table, error_table, left_out

    say(f"{title}; {rows}. Per cent, 95 % intervals in brackets.")
    print_table("categories", category_table(summary))
    if columns := column_table(summary):
        print_table("columns", columns)
    for line in left_out(summary):
        say(line)
    if failures := error_table(summary):
        print_table("failures by BFCL's rules", failures)


def card_results(summary: dict[str, Any], model: dict[str, Any]) -> list[dict[str, Any]]:
    """A result a category as a model card reads it: BFCL's rules, fractions of 1."""
    return [
        {
            "dataset": f"BFCL {summary['version']} {name}",
            "constrained": bool(model.get("constrained")),
            "weights_xxh3_128": model.get("weights_xxh3_128"),
            **({"adapter": model["adapter"]} if "adapter" in model else {}),
            "summary": {
                "n": scores["n"],
                "ast": scores["bfcl"]["value"],
                "ast_low": scores["bfcl"]["low"],
                "ast_high": scores["bfcl"]["high"],
                "parsable": scores["parsable"],
            },
        }
        for name, scores in summary["categories"].items()
    ]
