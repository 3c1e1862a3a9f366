"""`xlam bench ...`: what this machine does, as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli import bench_compare, bench_flags, bench_speed
from xlam_jax.cli.common import JsonOption, out, print_table, working, write_json

app = typer.Typer(
    help="Measure this machine.",
    epilog="Example: xlam bench train --model tiny-llama --seq-len 64 --steps 2",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    pass


@app.command(epilog="Example: xlam bench trajectories configs/demo/records.jsonl --tokenizer runs/demo/base")
def trajectories(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files of Records.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer.")],
    template: Annotated[str, typer.Option(help="Chat template.")] = "chatml",
    thought: Annotated[bool, typer.Option("--thought", help="Write thoughts before the calls.")] = False,
    seq_len: Annotated[int, typer.Option(min=2, help="Positions of a row.")] = 8192,
    json_file: JsonOption = None,
) -> None:
    """Count the tokens that training whole trajectories saves against one row per assistant turn."""
    from xlam_jax.bench.trajectories import bench_trajectories
    from xlam_jax.shards.build import CodecConfig

    codec = CodecConfig(template=template, thought=thought)
    with working("tokenising"):
        results = [bench_trajectories(path, tokenizer, codec, seq_len) for path in paths]
    write_json(json_file, results)
    print_table("the same targets, two ways", results)


@app.command(epilog="Example: xlam bench verifier configs/demo/records.jsonl --per-class 50")
def verifier(
    records: Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="Records with gold calls.")],
    per_class: Annotated[int, typer.Option(min=1, help="Corrupted records of each class.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the corruptions.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Inject every class of error into clean records: precision and recall of the verifier, and its speed."""
    from xlam_jax.bench.verifier import bench_verifier

    with working("reading") as status:
        result = bench_verifier(records, per_class, seed, status)
    write_json(json_file, result)
    excluded = [{"code": code, "records": n} for code, n in result["excluded"].items()]
    print_table(f"{result['clean']} clean of {result['records']} records; left out", excluded)
    hidden = ("missed", "code")
    print_table("classes", [{k: v for k, v in row.items() if k not in hidden} for row in result["classes"]])
    print_table("grounding by threshold", result["grounding"])
    print_table("records a second, one process", [result["speed"]])


@app.command(
    epilog="Example: xlam bench data configs/demo/records.jsonl --tokenizer runs/demo/base --no-usual"
)
def data(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files of Records.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer.")],
    template: Annotated[str, typer.Option(help="Chat template.")] = "chatml",
    workers: Annotated[int, typer.Option(min=1, help="Processes, for both ways.")] = 1,
    usual: Annotated[
        bool, typer.Option(help="Also time datasets.map with apply_chat_template on the same rows.")
    ] = True,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often both ways run, in turns; the least CPU seconds count.")
    ] = 1,
    json_file: JsonOption = None,
) -> None:
    """Time convert, verify, augment and build from file to file, and the usual way on the same rows."""
    from xlam_jax.bench.data import bench_data
    from xlam_jax.shards.build import CodecConfig

    with working("reading") as status:
        result = bench_data(
            paths,
            tokenizer,
            CodecConfig(template=template),
            workers,
            baseline=usual,
            rounds=rounds,
            progress=status,
        )
    write_json(json_file, result)
    print_table(f"{result['rows']:,} rows, {workers} process(es)", result["stages"])
    if usual:
        out.print(
            f"CPU seconds of datasets.map over ours: {result['ratio_verified']:.1f} times with its own "
            f"verification, {result['ratio_plain']:.1f} times without"
        )
    print_table("where ours go", result["profile"])
    floor = result["floor"]
    out.print(
        f"the tokenizer alone: {floor['tokenizer_whole']:.2f} CPU seconds on the whole texts, "
        f"{floor['tokenizer_distinct']:.2f} on their distinct pieces"
    )


@app.command("data-memory", epilog="Example: xlam bench data-memory --tokenizer runs/demo/base --rows 200")
def data_memory(
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer.")],
    rows: Annotated[list[int] | None, typer.Option(help="Size of a synthetic file; may be repeated.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; may be repeated.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure each data stage's peak memory on 10,000 and on 1,000,000 rows, or on files of other sizes."""
    from xlam_jax.bench.data_memory import STAGES, bench_memory
    from xlam_jax.errors import InputError

    if unknown := set(stage or ()) - set(STAGES):
        raise InputError(f"unknown stage {min(unknown)!r}", where="--stage", hint=", ".join(STAGES))
    with working("writing rows") as status:
        results = bench_memory(rows or [10_000, 1_000_000], tokenizer, stage or STAGES, status)
    write_json(json_file, results)
    print_table("peak memory", results)


@app.command(epilog="Example: xlam bench convert --model tiny-mixtral --shard-size 100KB")
def convert(
    model: Annotated[str, typer.Option(help="Name of a released shape.")] = "mixtral-8x7b",
    layers: Annotated[int | None, typer.Option(min=1, help="Cut the model to its lowest layers.")] = None,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Disk to measure; three times the weights must be free.")
    ] = Path("."),
    shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Of one file.")] = "2GB",
    json_file: JsonOption = None,
) -> None:
    """Convert a synthetic checkpoint both ways: MB/s against the disk, memory, kill -9 and resume."""
    from xlam_jax.bench.convert import bench_convert
    from xlam_jax.cli.convert import parse_size
    from xlam_jax.models.named import named_config

    cfg = named_config(model)
    cfg = cfg.replace(num_layers=min(layers or cfg.num_layers, cfg.num_layers))
    with working("starting") as status:
        result = bench_convert(cfg, folder, max_shard_bytes=parse_size(shard_size), progress=status)
    result = {"model": model, "layers": cfg.num_layers, **result}
    write_json(json_file, result)
    keys = ("seconds", "MB_per_second", "of_disk", "peak_bytes")
    rows = [
        {"command": name, **{k: result[name][k] for k in keys}}
        for name in ("from_hf", "to_hf", "to_hf_resumed")
    ]
    disk = result["disk"]["copy_MB_per_second"]
    print_table(f"{result['bytes'] / 1e9:.1f} GB; a plain copy with fsync: {disk:.0f} MB/s", rows)


bench_speed.register(app)
bench_compare.register(app)
bench_flags.register(app)
