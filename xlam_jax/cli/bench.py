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
