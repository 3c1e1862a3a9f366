"""Peak memory of the data stages as rows grow: each stage and size in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xlam_jax.errors import WorkError
from xlam_jax.format.record import Record, Step, ToolCall, write_json_lines, write_records
from xlam_jax.format.spellings import to_60k
from xlam_jax.format.tools import normalise_tool

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
                command = [sys.executable, "-m", __name__, stage, str(root), str(tokenizer)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise WorkError(f"{stage} failed on {size} rows: {done.stderr[-400:]}")
                results[stage][f"peak MiB {size}"] = round(json.loads(done.stdout.splitlines()[-1]))
                results[stage][f"seconds {size}"] = round(time.perf_counter() - begun, 1)
    return list(results.values())


def run_stage(stage: str, root: Path, tokenizer: str) -> None:
    """One stage on the files in `root`."""
    source = root / "records.jsonl"
    if stage == "convert":
        from xlam_jax.records.sources.convert import convert

        convert("xlam-60k", root / "raw.jsonl", root / "out.jsonl")
    elif stage.startswith("verify"):
        from xlam_jax.records.quality.verify import VerifyConfig, verify

        # These rows are alike on purpose of nothing but size: near duplicates are found and kept.
        near = "flag" if "near" in stage else "off"
        config = VerifyConfig.model_validate({"rules": {"actions": {"near_duplicate": near}}})
        verify(source, root / "out.jsonl", config)
    elif stage == "augment":
        from xlam_jax.records.augment.config import AugmentConfig
        from xlam_jax.records.augment.run import augment_file

        augment_file(source, root / "out.jsonl", AugmentConfig())
    else:
        from xlam_jax.shards.build import BuildConfig, build

        build(BuildConfig(inputs=[str(source)], tokenizer=tokenizer, out=str(root / "shards"), seq_len=2048))


def peak_mib() -> float:
    """This process's peak memory. Linux's `ru_maxrss` would also tell of the parent before the exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


if __name__ == "__main__":
    run_stage(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    print(peak_mib())
