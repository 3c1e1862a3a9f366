"""`xlam demo`: the whole loop on a laptop, as the same commands a person would type.

Each stage is one `xlam` command in its own process, so that what is shown is what works, and memory is
given back between stages. The work is fixed, steps and rows, and so is the number of threads it is split over: a
slow machine takes longer and ends at the same table.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from xlam_jax.cli.common import JsonOption, need_dir, out, print_table, write_json
from xlam_jax.errors import InputError, WorkError

QUESTION = "What is the greatest common divisor of 5124 and 1908?"
_EXPORT_SECONDS = 60.0  # export, one call and start-up of what follows the training, measured generously
# Into how many parts XLA cuts a product decides in which order its sums are added, and after some steps of training
# that is another model. It follows the number of threads, which would follow the machine.
_THREADS = "4"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam demo --out runs/demo")(demo)


@dataclass
class _Stages:
    """Runs commands one after the other; keeps seconds and peak memory of each."""

    folder: Path
    started: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self, title: str, *args: str) -> dict[str, Any]:
        """Runs `xlam ARGS --json FILE` and returns what it wrote; a failure ends the demo."""
        result = self.folder / "stages" / f"{len(self.rows) + 1:02d}.json"
        result.parent.mkdir(parents=True, exist_ok=True)
        out.rule(Text(title, style="bold"), align="left")
        out.print(f"$ xlam {shlex.join(args)}", style="dim", highlight=False, soft_wrap=True)
        begun = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "xlam_jax.cli.main", *args, "--json", str(result)])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        row = {
            "stage": title,
            "seconds": round(time.monotonic() - begun, 1),
            "peak GiB": round(peak / 2**30, 2),
        }
        self.rows.append(row)
        if process.returncode:
            raise WorkError(
                f"stage {title!r} failed with exit status {process.returncode}",
                where=f"xlam {shlex.join(args)}",
                hint="its own message stands above",
            )
        return json.loads(result.read_text(encoding="utf-8"))

    @property
    def last(self) -> Path:
        """What the last stage wrote as its result."""
        return self.folder / "stages" / f"{len(self.rows):02d}.json"

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started


def demo(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of the run; an earlier demo in it is replaced.")
    ] = Path("runs/demo"),
    configs: Annotated[
        Path, typer.Option(help="Folder with apigen.yaml, data.yaml, sft.yaml, tools.json.")
    ] = Path("configs/demo"),
    minutes: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Stop training early enough to end within so many minutes. It learns less, and the table "
            "depends on the machine.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps, in place of the config's; fewer learn less.")
    ] = None,
    eval_rows: Annotated[int, typer.Option(min=1, help="Held-out rows to evaluate, before and after.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the synthesis and the order of training.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Proves the whole loop: data, fine-tuning, export, evaluation before and after, one executed call."""
    need_dir(configs, "demo configs")
    if folder.exists() and any(folder.iterdir()) and not (folder / "stages").is_dir():
        raise InputError(
            "the folder holds something that is no demo run", where=str(folder), hint="name another --out"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The same shapes are compiled before and after the training; the cache makes the second time free.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((folder / "compiled").resolve()))
    os.environ["PJRT_NPROC"] = _THREADS
    base_model = importlib.import_module("xlam_jax.weights.base_model")
    gguf = str(base_model.find_smollm2())

    stages = _Stages(folder)
    heldout = str(folder / "data" / "heldout.jsonl")

    def evaluate(when: str, model: Path) -> list[dict[str, Any]]:
        args = ["eval", "records", heldout, "--model", str(model), "--both", "--limit", str(eval_rows)]
        args += ["--max-new-tokens", "160"]  # a lost model would go on
        found = stages.run(f"evaluate {when}", *args, "--out", str(folder / "eval" / when))
        return [{"model": f"{when}, {way}", **result["summary"]} for way, result in found.items()]

    stages.run("import the base model", "convert", "from-hf", gguf, str(folder / "base"))
    synthesis = stages.run(
        "synthesise and verify",
        *("apigen", "run", str(configs / "apigen.yaml"), f"out={folder / 'data'}", f"seed={seed}"),
    )
    shards = stages.run(
        "tokenise, mask and pack",
        *(
            "data",
            "build",
            str(configs / "data.yaml"),
            f"inputs={json.dumps([str(folder / 'data' / 'train.jsonl')])}",
        ),
        *(f"tokenizer={folder / 'base'}", f"out={folder / 'shards'}"),
    )
    began = stages.elapsed
    base, tuned = folder / "base", folder / "model"
    table = evaluate("before", base)
    # A tuned model stops by itself, so its evaluation is shorter than the base model's.
    after_seconds = 0.8 * (stages.elapsed - began)
    train = ["train", str(configs / "sft.yaml"), f"model={base}", f"data.train={folder / 'shards'}"]
    train += [f"out={folder / 'run'}", f"seed={seed}", *([f"steps={steps}"] if steps else [])]
    if minutes is not None:
        left = minutes * 60 - stages.elapsed - after_seconds - _EXPORT_SECONDS
        if left < 60:
            spent = (stages.elapsed + after_seconds + _EXPORT_SECONDS) / 60
            raise WorkError(
                f"no time to train: everything else takes {spent:.1f} of {minutes:g} minutes here",
                where="--minutes",
                hint=f"--minutes {spent + 5:.0f}, or leave it out: the whole demo takes what it takes",
            )
        train += ["steps=auto", f"max_minutes={left / 60:.2f}"]
    training = stages.run("fine-tune", *train)
    release = ("convert", "to-hf", str(folder / "run"), str(tuned), "--base-model", base_model.HUB_NAME)
    stages.run("export to Hugging Face", *release)
    table += evaluate("after", tuned)
    stages.run("results on the model card", "convert", "card", str(tuned), "--eval", str(stages.last))
    try:
        call = stages.run(
            "one call, parsed and executed",
            *("call", QUESTION, "--tools", str(configs / "tools.json"), "--model", str(tuned)),
            *("--constrained", "--max-calls", "1", "--execute"),
        )
    except WorkError as e:  # one question that a weak model gets wrong; the table below counts many
        call = {"failed": e.what}
    report = {
        "table": table,
        "training": training,
        "data": {"synthesis": synthesis, "shards": shards},
        "call": call,
        "seed": seed,
        "stages": stages.rows,
        "seconds": round(stages.elapsed, 1),
        "peak_gib": max(row["peak GiB"] for row in stages.rows),
    }
    write_json(folder / "report.json", report)
    write_json(json_file, report)
    _print_report(report, folder)
    if table[2]["ast"] <= table[0]["ast"]:
        raise WorkError(
            f"{training['step']} steps of training taught nothing: {100 * table[0]['ast']:.1f} % before, "
            f"{100 * table[2]['ast']:.1f} % after",
            where=str(folder / "report.json"),
            hint="leave out --minutes and --steps",
        )


def _print_report(report: dict[str, Any], folder: Path) -> None:
    out.rule(Text("what came out", style="bold"), align="left")
    print_table("stages", report["stages"])
    print_table(
        "held-out functions, never seen in training",
        [
            {
                "model": row["model"],
                "rows": row["n"],
                "parsable %": _percent(row["parsable"]),
                "AST %": _percent(row["ast"]),
                "95 % interval": f"{_percent(row['ast_low'])} - {_percent(row['ast_high'])}",
                "s/call": f"{row['seconds_per_call']:.2f}",
            }
            for row in report["table"]
        ],
    )
    styles = sorted({style for row in report["table"] for style in row["by_category"]})
    print_table(
        "AST % by kind of question (rows)",
        [
            {
                "model": row["model"],
                **{
                    style: f"{_percent(found['ast'])} ({found['n']})"
                    for style in styles
                    for found in [row["by_category"][style]]
                },
            }
            for row in report["table"]
        ],
    )
    training, minutes = report["training"], report["seconds"] / 60
    out.print(
        f"{training['step']} steps at {training['tokens_per_second']:.0f} tokens/s; {minutes:.1f} minutes, peak "
        f"memory {report['peak_gib']} GiB; report: {folder / 'report.json'}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
