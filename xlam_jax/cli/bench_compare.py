"""`xlam bench compare|decode`: beside torch and transformers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.bench_speed import (
    Dtype,
    Layers,
    Model,
    Out,
    ProfileOption,
    Rows,
    SeqLen,
    Steps,
    Warmup,
    cut,
    named,
    numbers,
    show_profile,
)
from xlam_jax.cli.common import JsonOption, need_dir, out, print_table, say, working, write_json


class BaselineChoice(StrEnum):
    eager = "eager"
    compile = "compile"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam bench compare --model tiny-llama --seq-len 32 --steps 2 --warmup 1")(
        compare
    )
    app.command(epilog="Example: xlam bench decode runs/demo/model --batch 1,8 --new-tokens 16")(decode)


def compare(
    model: Model = "smollm2-135m",
    layers: Layers = None,
    rows: Rows = 1,
    seq_len: SeqLen = 512,
    steps: Steps = 10,
    warmup: Warmup = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 2,
    dtype: Dtype = "float32",
    remat: Annotated[str, typer.Option(help="Of ours: none, full, dots, names:a,b.")] = "dots",
    baseline: Annotated[
        BaselineChoice,
        typer.Option(
            help="Of torch: eager, or compile with fused AdamW and logits of trained positions only."
        ),
    ] = BaselineChoice.eager,
    documents: Annotated[int, typer.Option(min=1, help="Packed into a row; torch gets a block mask.")] = 1,
    trained: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of each document that has a loss, its end.")
    ] = 1.0,
    profile: ProfileOption = False,
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Time the same optimizer step with transformers and torch's AdamW, in turns, and print the ratio.

    Also: xlam bench compare --baseline compile --documents 8 --trained 0.2
    """
    from xlam_jax.bench import protocol
    from xlam_jax.bench.compare import bench_compare

    cfg = cut(model, layers)
    with working("compiling and timing"):
        result = bench_compare(
            cfg,
            rows=rows,
            seq_len=seq_len,
            steps=steps,
            warmup=warmup,
            threads=threads,
            dtype=dtype,
            remat=remat,
            baseline=baseline.value,
            documents=documents,
            trained=trained,
            profiled=profile,
        )
    result = {"model": model, **result}
    write_json(json_file, result)
    name = named(model, layers) + ("" if baseline == BaselineChoice.eager else f"-{baseline.value}")
    name += f"-{documents}documents" if documents > 1 else ""
    protocol.keep(folder, "compare", name, result)
    print_table(
        f"one step, {result['layers']} layers, {rows} x {seq_len}, {dtype}; {documents} documents a row, "
        f"{result['trained_positions']} positions with a loss",
        [
            {"": side, **{k: v for k, v in result[side].items() if k != "first_loss"}}
            for side in ("xlam", "torch")
        ],
    )
    said = ", ".join(f"{key} {value}" for key, value in result["baseline"].items())
    out.print(f"baseline: {said}", highlight=False)
    out.print(
        f"ratio {result['ratio']:.2f}: tokens/s of xlam over transformers {result['versions']['transformers']} "
        f"with torch {result['versions']['torch']}; first losses differ by {result['loss_difference']:.1e}",
        highlight=False,
    )
    show_profile(result)


def decode(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A Hugging Face model folder.")],
    batch: Annotated[str, typer.Option(help="Sequences that decode together.")] = "1,8,32",
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of each prompt.")] = 256,
    new_tokens: Annotated[int, typer.Option(min=1, help="Decode steps that are timed.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 2,
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Greedy decoding beside transformers' generate, in turns: tokens/s of both and the ratio."""
    from xlam_jax.bench import protocol
    from xlam_jax.bench.decode import bench_decode

    need_dir(model, "model folder")
    with working("loading") as status:
        result = bench_decode(
            model,
            batches=numbers(batch, "--batch"),
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            repeats=repeats,
            threads=threads,
            progress=status,
        )
    write_json(json_file, result)
    protocol.keep(folder, "decode", model.name, result)
    for part in ("decode", "prefill"):
        print_table(
            f"{part}, tokens/s",
            [
                {
                    "batch": row["batch"],
                    "xlam": _rounded(row[f"xlam_{part}"], 1),
                    "transformers": _rounded(row[f"transformers_{part}"], 1),
                    "ratio": _rounded(row[f"{part}_ratio"], 2),
                    "same tokens %": round(100 * row["same_tokens"], 1),
                }
                for row in result["rows"]
            ],
        )
    if any(row["decode_ratio"] is None for row in result["rows"]):
        say("-: not to be told from noise; run it alone, with more --repeats or --new-tokens")


def _rounded(value: float | None, digits: int) -> float | str:
    return "-" if value is None else round(value, digits)
