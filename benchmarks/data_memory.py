"""Peak memory of the data stages as rows grow: each stage and size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, print_table, working, write_json
from xlam_jax.cli.main import run
from xlam_jax.errors import WorkError, unknown
from xlam_jax.format.record import Record, Step, ToolCall, write_json_lines, write_records
from xlam_jax.format.spellings import to_60k
from xlam_jax.format.tools import normalise_tool

_REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = ("convert", "verify", "verify with near duplicates", "augment", "build")
_PLACES = ("Oslo", "Lima", "Kyoto", "Nairobi", "Quito", "Tallinn", "Hobart", "Dakar", "Suva", "Turku")
_TOPICS = ("weather", "traffic", "museums", "ferries", "concerts", "parking", "hotels", "trams", "news")
_TOOL = normalise_tool(
    {
        "name": "look_up",
        "description": "Looks something up about a place.",
        "parameters": {"topic": {"type": "str"}, "place": {"type": "str"}, "number": {"type": "int"}},
    }
)


def synthetic(rows: int) -> Any:
    """That many small records, all different."""
    for i in range(rows):
        place, topic = _PLACES[i % 10], _TOPICS[i // 10 % 9]
        call = ToolCall("look_up", {"topic": topic, "place": place, "number": i})
        query = f"What about {topic} in {place}, order {i}, batch {i * 7919 % 104729}, slot {i * i % 99991}?"
        yield Record(f"s{i}", query, (_TOOL,), (Step(tool_calls=(call,)),), source="synthetic")


def bench_memory(
    sizes: Sequence[int],
    tokenizer: Path,
    stages: Sequence[str] = STAGES,
    progress: Callable[[str], None] = lambda what: None,
) -> list[dict[str, Any]]:
    """Runs each stage on synthetic rows of each size.

    Returns:
      Of each stage: `stage`, and of each size `peak MiB N` and `seconds N`.

    Raises:
      WorkError: a stage failed; the detail is the end of what it wrote.
    """
    results: dict[str, dict[str, Any]] = {stage: {"stage": stage} for stage in stages}
    for size in sizes:
        with TemporaryDirectory(prefix="xlam-memory-") as folder:
            root = Path(folder)
            progress(f"{size:,} rows")
            write_records(root / "records.jsonl", synthetic(size))
            write_json_lines(root / "raw.jsonl", map(to_60k, synthetic(size)))
            for stage in stages:
                progress(f"{stage}, {size:,} rows")
                begun = time.perf_counter()
                command = [sys.executable, "-m", "benchmarks.data_memory_stage"]
                command += [stage, str(root), str(tokenizer.absolute())]
                done = subprocess.run(command, capture_output=True, text=True, cwd=_REPOSITORY)
                if done.returncode:
                    raise WorkError(f"{stage} failed on {size} rows: {done.stderr[-400:]}")
                results[stage][f"peak MiB {size}"] = round(json.loads(done.stdout.splitlines()[-1]))
                results[stage][f"seconds {size}"] = round(time.perf_counter() - begun, 1)
    return list(results.values())


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(epilog="Example: python benchmarks/data_memory.py --tokenizer runs/demo/base --rows 200")
def main(
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer.")],
    rows: Annotated[list[int] | None, typer.Option(help="Size of a synthetic file; may be repeated.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; may be repeated.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure each data stage's peak memory on 10,000 and on 1,000,000 rows, or on files of other sizes."""
    if wrong := set(stage or ()) - set(STAGES):
        raise unknown("stage", min(wrong), STAGES, where="--stage")
    with working("writing rows") as status:
        results = bench_memory(rows or [10_000, 1_000_000], tokenizer, stage or STAGES, status)
    write_json(json_file, results)
    print_table("peak memory", results)


if __name__ == "__main__":
    run(app)
