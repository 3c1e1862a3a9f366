"""`xlam eval toolquery` and `xlam eval webshop`: agents in twins of ToolQuery's worlds and of WebShop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, need_dir, print_table, say, write_json
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
from xlam_jax.errors import InputError, unknown

if TYPE_CHECKING:
    from xlam_jax.evaluation import CaseResult
    from xlam_jax.evaluation.agents.run import Agents, Benchmark
    from xlam_jax.evaluation.agents.world import Task
    from xlam_jax.evaluation.endpoint import Completions, Endpoint
    from xlam_jax.evaluation.journal import Ask
    from xlam_jax.format import Codec

TasksArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="Tasks of AgentBoard or AgentGym: counted, for they bring no worlds."),
]
ShopArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="WebShop's own files (items_shuffle_1000.json, ...); else our twin."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="DIR|URL|scripted:NAME",
        help="Folder; http://host:8000/v1#NAME; or gold, empty, lazy, random, mutated.",
    ),
]
WorldOption = Annotated[
    list[str] | None,
    typer.Option("--world", help="weather, movie, academia; again or with commas. Without it all."),
]
PROMPTS = ("unified", "react")
PromptOption = Annotated[
    str,
    typer.Option(
        "--prompt", help="unified: as the model was trained; react: Thought, Action and Action Input."
    ),
]
StepsOption = Annotated[int, typer.Option("--max-steps", min=1, help="Most answers of the model in a task.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Tasks a world, drawn by --seed.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Keeps every answer and the numbers.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `xlam eval`."""
    app.command(epilog="Example: xlam eval toolquery --world movie --model scripted:gold")(toolquery)
    app.command(epilog="Example: xlam eval webshop --model scripted:lazy --limit 20")(webshop)


def toolquery(
    folder: TasksArgument = None,
    model: ModelOption = ...,  # type: ignore[assignment]
    world: WorldOption = None,
    prompt: PromptOption = "unified",
    max_steps: StepsOption = 20,
    constrained: ConstrainedOption = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    out_dir: OutOption = None,
    resume: ResumeOption = False,
    concurrency: ConcurrencyOption = 8,
    completions: CompletionsOption = None,
    max_new_tokens: TokensOption = 256,
    max_len: LenOption = 4096,
    batch_size: BatchOption = 8,
    adapter: AdapterOption = None,
    json_file: JsonOption = None,
) -> None:
    """Agents that query weather, movies and academia: our twins of ToolQuery's worlds, by AgentBoard's measures."""
    if folder is not None:
        _say_what_is_there(need_dir(folder, "folder of tasks"))
    from xlam_jax.evaluation.agents.benchmarks import toolquery_twin
    from xlam_jax.evaluation.agents.toolquery import NAMES

    benchmark = toolquery_twin(_chosen("world", world, NAMES), prompt)
    run = AgentRun(benchmark, prompt, max_steps, limit, seed, out_dir, resume)
    run.put_to(
        model, constrained, concurrency, completions, max_new_tokens, max_len, batch_size, adapter, json_file
    )  # fmt: skip


def webshop(
    folder: ShopArgument = None,
    model: ModelOption = ...,  # type: ignore[assignment]
    prompt: PromptOption = "unified",
    max_steps: StepsOption = 50,
    constrained: ConstrainedOption = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    out_dir: OutOption = None,
    resume: ResumeOption = False,
    concurrency: ConcurrencyOption = 8,
    completions: CompletionsOption = None,
    max_new_tokens: TokensOption = 128,
    max_len: LenOption = 8192,
    batch_size: BatchOption = 4,
    adapter: AdapterOption = None,
    json_file: JsonOption = None,
) -> None:
    """Agents that buy in a shop: our twin of WebShop with 1,000 products of its own, by WebShop's reward."""
    from xlam_jax.evaluation.agents.benchmarks import webshop_files, webshop_twin

    benchmark = webshop_files(need_dir(folder, "folder of WebShop's files")) if folder else webshop_twin()
    run = AgentRun(benchmark, prompt, max_steps, limit, seed, out_dir, resume)
    run.put_to(
        model, constrained, concurrency, completions, max_new_tokens, max_len, batch_size, adapter, json_file
    )  # fmt: skip


def _say_what_is_there(folder: Path) -> None:
    """Counts tasks that others made, and says why none of them is played."""
    from xlam_jax.evaluation.agents.toolquery.foreign import count_tasks

    counts = count_tasks(folder)
    print_table(f"tasks in {folder}", counts)
    raise InputError(
        f"{sum(row['tasks'] for row in counts)} tasks with their answers, but without the worlds that they ask",
        where=str(folder),
        hint="leave DIR out: our twins bring their worlds",
    )


def _chosen(what: str, wanted: list[str] | None, known: tuple[str, ...]) -> list[str]:
    names = [name.strip() for text in wanted or known for name in text.split(",")]
    for name in names:
        if name not in known:
            raise unknown(what, name, known, where=f"--{what}")
    return list(dict.fromkeys(names))


@dataclass
class AgentRun:
    """One choice of tasks, put to one model after another."""

    benchmark: Benchmark
    prompt: str
    max_steps: int
    limit: int | None
    seed: int
    out_dir: Path | None
    resume: bool

    def put_to(
        self,
        model: str,
        constrained: bool,
        concurrency: int,
        completions: Path | None,
        max_new_tokens: int,
        max_len: int,
        batch_size: int,
        adapter: list[str] | None,
        json_file: Path | None,
    ) -> None:
        """Scores a model of any kind and prints and writes the result."""
        from xlam_jax.evaluation.agents.scripted import SCRIPTS
        from xlam_jax.format import get_codec

        if self.prompt not in PROMPTS:
            raise unknown("prompt", self.prompt, PROMPTS, where="--prompt")
        if self.resume and self.out_dir is None:
            raise InputError("--resume needs the folder to go on in", hint="--resume --out DIR")
        kind, name = kind_of(model, constrained, adapter, completions)
        if kind == "script":
            if name not in SCRIPTS:
                raise unknown("scripted model", name, SCRIPTS, where="--model")
            agents = self.agents(get_codec())
            asked = agents.scripted(name, self.seed)
            write_json(json_file, self.report(asked, agents, {"model": model}, self.out_dir, 64))
        elif kind == "endpoint":
            self.check_prompt(completions)
            asked = endpoint_of(model, completions, concurrency, max_new_tokens, self.out_dir)
            write_json(json_file, self.endpoint(*asked, concurrency))
        else:
            how = {"constrained": constrained, "max_new_tokens": max_new_tokens}
            write_json(json_file, self.folder(Path(model), max_len, batch_size, adapter, how))

    def agents(self, codec: Codec) -> Agents:
        from xlam_jax.evaluation.agents.run import Agents
        from xlam_jax.format import get_codec
        from xlam_jax.format.record import Style

        if self.prompt == "react":
            settings = codec.styled(Style(call_format="react")).settings
            codec = get_codec(**{**settings, "thought": True})
        return Agents(self.benchmark, self.tasks(), codec, self.max_steps)

    def tasks(self) -> list[Task]:
        from xlam_jax.evaluation.harness import sample

        tasks = self.benchmark.tasks
        worlds = dict.fromkeys(task.world for task in tasks)
        return [
            t for name in worlds for t in sample([t for t in tasks if t.world == name], self.limit, self.seed)
        ]

    def check_prompt(self, completions: Path | None) -> None:
        if self.prompt != "unified" and completions is None:
            what = "an endpoint is asked with tools, not by a prompt of ours"
            hint = "leave --prompt out, or name the model's folder by --completions"
            raise InputError(what, where=f"--prompt {self.prompt}", hint=hint)

    def endpoint(
        self, model: Endpoint | Completions, about: dict[str, Any], concurrency: int
    ) -> dict[str, Any]:
        agents = self.agents(model.codec)
        return self.report(agents.asking(model), agents, about, self.out_dir, 2 * concurrency)

    def folder(
        self, model: Path, max_len: int, batch_size: int, adapter: list[str] | None, how: dict[str, Any]
    ) -> dict[str, Any]:
        from xlam_jax.inference import folder_codec

        agents = self.agents(folder_codec(model))
        engine = engine_of(model, max_len, batch_size, adapter)
        results = {}
        for name in engine.adapters or [""]:
            if name:
                engine.use(name)
            unsaid: list[str] = []
            about = {**about_model(self.benchmark.title, model), **how, "max_len": engine.max_len}
            about |= {"adapter": name} if name else {}
            folder = self.out_dir / name if self.out_dir and name else self.out_dir
            asked = agents.engine(engine, unsaid, **how)
            result = self.report(asked, agents, about, folder, 2 * engine.batch_size)
            for line in unsaid:
                err.print(f"the grammar does not hold {line}", highlight=False)
            speed = speed_of(engine)
            say(f"{result['seconds'] / result['summary']['n']:.2f} seconds per task; {speed_words(speed)}")
            results[name] = {**result, "speed": speed}
        return {"adapters": results} if engine.adapters else results[""]

    def report(
        self, asked: Ask, agents: Agents, model: dict[str, Any], folder: Path | None, chunk: int
    ) -> dict[str, Any]:
        from xlam_jax.evaluation.agents.report import summarise_agents
        from xlam_jax.evaluation.journal import Journal, answer_cases
        from xlam_jax.files import write_json as write_whole

        about = {
            **model,
            "dataset": self.benchmark.title,
            "tasks": self.benchmark.fingerprint,
            "worlds": list(dict.fromkeys(task.world for task in self.benchmark.tasks)),
            "prompt": self.prompt,
            "max_steps": self.max_steps,
            "limit": self.limit,
            "seed": self.seed,
            "codec": agents.codec.settings,
        }
        with Journal(folder, about, resume=self.resume) as journal:
            kept, began = len(journal.rows), time.perf_counter()
            with answers_bar(len(agents.cases)) as progress:
                rows = answer_cases(
                    asked, agents.cases, agents.judge, journal, chunk=chunk, progress=progress
                )
            seconds = time.perf_counter() - began
            summary = summarise_agents(rows, agents.level)
            if folder is not None:
                write_whole(folder / "summary.json", summary)
        if kept:
            say(f"{min(kept, len(rows))} of {len(rows)} tasks were played already")
        print_summary(self.benchmark, model["model"], rows, summary)
        return {
            **about,
            "summary": summary,
            "seconds": seconds,
            "out": str(folder or ""),
        }


def rescore_agents(folder: Path, about: dict[str, Any], data: Path | None, json_file: Path | None) -> None:
    """Judges the kept answers of a run again, by playing them."""
    from xlam_jax.evaluation.agents.benchmarks import benchmark_of
    from xlam_jax.evaluation.agents.report import summarise_agents
    from xlam_jax.evaluation.agents.run import Agents
    from xlam_jax.evaluation.journal import GENERATIONS, RUN, read_rows
    from xlam_jax.files import write_json as write_whole
    from xlam_jax.format import get_codec

    benchmark = benchmark_of(about, str(folder / RUN), data)
    agents = Agents(benchmark, benchmark.tasks, get_codec(**about["codec"]), about["max_steps"])
    kept = read_rows(folder / GENERATIONS)
    if not kept:
        raise InputError("no answers are kept there", where=str(folder / GENERATIONS))
    cases = {case.key: case for case in agents.cases}
    if strange := [row.id for row in kept if row.key not in cases]:
        what = f"an answer to {strange[0]!r}, which is no task"
        raise InputError(what, where=str(folder / GENERATIONS), hint="another folder")
    rows = [agents.judge(cases[row.key], row.raw) for row in kept]
    summary = summarise_agents(rows, agents.level)
    write_whole(folder / "summary.json", summary)
    print_summary(benchmark, about["model"], rows, summary)
    write_json(json_file, {**about, "summary": summary})


def print_summary(benchmark: Benchmark, model: str, rows: list[CaseResult], summary: dict[str, Any]) -> None:
    """Worlds, easy and hard tasks, and failures as tables."""
    from xlam_jax.evaluation.agents.report import error_table, level_table, world_table

    say(f"{benchmark.title}, {model}; {len(rows)} tasks {benchmark.note}.")
    print_table("per cent, 95 % intervals in brackets", world_table(summary))
    print_table("by difficulty", level_table(summary))
    if failures := error_table(summary):
        print_table("failures", failures)
