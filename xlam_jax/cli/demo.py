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
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text

from xlam_jax.cli.common import JsonOption, need_dir, need_file, out, print_table, say, write_json
from xlam_jax.errors import InputError, WorkError, is_no_room

QUESTION = "What is the greatest common divisor of 5124 and 1908?"
_EXPORT_SECONDS = 60.0  # export, one call and start-up of what follows the training, measured generously
# Into how many parts XLA cuts a product decides in which order its sums are added, and after some steps of training
# that is another model. It follows the number of threads, which would follow the machine.
_THREADS = "4"
_CONFIGS = ("apigen.yaml", "data.yaml", "sft.yaml", "tools.json")
# What a demo writes: an earlier one is replaced, and what else lies in its folder stays.
_FOLDERS = ("base", "compiled", "data", "eval", "model", "run", "shards", "stages")
_FILES = ("report.json", "shards.ledger.jsonl")
_FEW = 32  # held-out rows, of which fewer may all fail by chance
# A stage ends when the demo is gone, whatever ended it, where the system can say so (1 is PR_SET_PDEATHSIG).
_STAGE = """
import ctypes, runpy, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
sys.argv[0] = "xlam"
runpy.run_module("xlam_jax.cli.main", run_name="__main__", alter_sys=True)
"""
_GRACE = 60.0  # seconds that a stage may take to end when it is asked to


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
        out.rule(Text(title, style="bold"), align="left")
        out.print(f"$ xlam {shlex.join(args)}", style="dim", highlight=False, soft_wrap=True)
        begun = time.monotonic()
        # In a group of its own, so that Ctrl-C comes here first, and a stage is asked to end and waited for.
        process = subprocess.Popen(
            [sys.executable, "-c", _STAGE, *args, "--json", str(result)], process_group=0
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
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
    for name in _CONFIGS:
        need_file(need_dir(configs, "demo configs") / name, "demo config")
    if steps is not None and minutes is not None:
        raise InputError("two ends of the training", where="--steps and --minutes", hint="one of them")
    base_model = importlib.import_module("xlam_jax.weights.base_model")
    gguf = str(base_model.find_smollm2())
    with _place(folder), _stoppable():
        report = _run(_Stages(folder), gguf, base_model.HUB_NAME, configs, minutes, steps, eval_rows, seed)
    write_json(json_file, report)
    _print_report(report, folder)
    _demand_better(report, folder, shortened=bool(minutes or steps), rows=eval_rows)


def _run(
    stages: _Stages,
    gguf: str,
    hub_name: str,
    configs: Path,
    minutes: float | None,
    steps: int | None,
    eval_rows: int,
    seed: int,
) -> dict[str, Any]:
    """All stages, one after the other; the report, which is also kept as report.json.

    Raises:
      WorkError: a stage failed, or `minutes` leave no time to train.
    """
    folder = stages.folder
    # The same shapes are compiled before and after the training; the cache makes the second time free.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((folder / "compiled").resolve()))
    os.environ["PJRT_NPROC"] = _THREADS
    heldout = str(folder / "data" / "heldout.jsonl")

    def evaluate(when: str, model: Path) -> list[dict[str, Any]]:
        args = ["eval", "records", heldout, "--model", str(model), "--both", "--limit", str(eval_rows)]
        args += ["--max-new-tokens", "160"]  # a lost model would go on
        by_way = stages.run(f"evaluate {when}", *args, "--out", str(folder / "eval" / when))
        return [{"model": f"{when}, {way}", **result["summary"]} for way, result in by_way.items()]

    stages.run("import the base model", "convert", "from-hf", gguf, str(folder / "base"))
    synthesis = stages.run(
        "synthesise and verify",
        *("apigen", "run", str(configs / "apigen.yaml"), _override("out", folder / "data"), f"seed={seed}"),
    )
    shards = stages.run(
        "tokenise, mask and pack",
        *(
            "data",
            "build",
            str(configs / "data.yaml"),
            f"inputs={json.dumps([str(folder / 'data' / 'train.jsonl')])}",
        ),
        *(_override("tokenizer", folder / "base"), _override("out", folder / "shards")),
    )
    began = stages.elapsed
    base, tuned = folder / "base", folder / "model"
    table = evaluate("before", base)
    # A tuned model stops by itself, so its evaluation is shorter than the base model's.
    after_seconds = 0.8 * (stages.elapsed - began)
    train = [
        "train",
        str(configs / "sft.yaml"),
        _override("model", base),
        _override("data.train", folder / "shards"),
    ]
    train += [_override("out", folder / "run"), f"seed={seed}", *([f"steps={steps}"] if steps else [])]
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
    release = ("convert", "to-hf", str(folder / "run"), str(tuned), "--base-model", hub_name)
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
    return report


@contextmanager
def _place(folder: Path) -> Iterator[None]:
    """A folder without the parts of an earlier demo, held for this process.

    Raises:
      InputError: it is no folder, cannot be written, or holds something that no demo wrote.
      WorkError: another demo works there.
    """
    from xlam_jax.lease import Lease

    mark = folder / "stages" / "00.json"
    with ExitStack() as held:
        try:
            here = {path.name for path in folder.iterdir()} if folder.exists() else set()
            if here - {"lease.json"} and not mark.is_file() and not mark.with_name("01.json").is_file():
                raise InputError(
                    "the folder holds something that is no demo run",
                    where=str(folder),
                    hint="name another --out",
                )
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(Lease(folder / "lease.json", "demo folder", say))
            for name in _FOLDERS:
                if (folder / name).exists():
                    shutil.rmtree(folder / name)
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
            write_json(mark, {"command": "xlam demo"})
        except OSError as e:
            if is_no_room(e):
                raise
            hint = "name another --out, a folder that is empty or not there"
            raise InputError(
                f"cannot work there: {e.strerror}", where=str(e.filename or folder), hint=hint
            ) from e
        yield


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the stage that runs, and then the demo; what is there is told."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; the same command begins again")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _demand_better(report: dict[str, Any], folder: Path, *, shortened: bool, rows: int) -> None:
    """Raises WorkError where the training taught nothing."""
    before, after, steps = report["table"][0]["ast"], report["table"][2]["ast"], report["training"]["step"]
    if after > before:
        return
    hint = "leave out --minutes and --steps" if shortened else ""
    if rows < _FEW:
        hint += (", and " if hint else "") + f"more --eval-rows: {rows} show little"
    raise WorkError(
        f"{steps} step{'s' * (steps != 1)} of training taught nothing: {100 * before:.1f} % before, "
        f"{100 * after:.1f} % after",
        where=str(folder / "report.json"),
        hint=hint,
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
                    style: f"{_percent(score['ast'])} ({score['n']})"
                    for style in styles
                    for score in [row["by_category"][style]]
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


def _override(key: str, path: Path) -> str:
    """`key=path` as a config reads it, in quotes where the path would be read as something else."""
    text = str(path)
    plain = "/" in text and yaml.safe_load(text) == text
    return f"{key}={text if plain else json.dumps(text)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
