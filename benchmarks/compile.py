"""Compilation does not grow with depth: layers are scanned, so 4 and 32 of them are one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from xlam_jax.bench import protocol
from xlam_jax.cli.bench_speed import Model, Out, Rows, SeqLen, numbers
from xlam_jax.cli.common import JsonOption, out, print_table, working, write_json
from xlam_jax.cli.main import run
from xlam_jax.models.config import ModelConfig
from xlam_jax.plan.compiled import compile_here
from xlam_jax.plan.work import Work, find_model

_ROUNDS = 3


def bench_compile(
    cfg: ModelConfig, layers: Sequence[int], *, rows: int = 1, seq_len: int = 256, remat: str = "none"
) -> dict[str, Any]:
    """Compiles the real train step at several depths; nothing is run and no weight is made.

    Returns:
      `rows`: layers, seconds (the fastest of three compilations), bytes of HLO, MiB of temporaries;
      `spread_seconds` and `spread_hlo`: largest over smallest, minus 1.
    """

    def compiled(count: int) -> dict[str, float]:
        return compile_here(Work(cfg.replace(num_layers=count), seq_len, rows, remat=remat), {})

    compiled(layers[0])  # the first of a process also starts the compiler
    # Depths take turns, so that another load on the machine meets all of them.
    rounds = [[compiled(count) for count in layers] for _ in range(_ROUNDS)]
    found = []
    for count, tries in zip(layers, zip(*rounds, strict=True), strict=True):
        one = min(tries, key=lambda t: t["seconds"])
        found.append(
            {
                "layers": count,
                "compile_seconds": one["seconds"],
                "hlo_bytes": one["hlo_bytes"],
                "temporaries_mib": one["temporaries"] / 2**20,
            }
        )

    def spread(key: str) -> float:
        values = [row[key] for row in found]
        return max(values) / min(values) - 1

    return {
        "seq_len": seq_len,
        "remat": remat,
        "rows": found,
        "spread_seconds": spread("compile_seconds"),
        "spread_hlo": spread("hlo_bytes"),
        **protocol.environment(),
    }


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(epilog="Example: python benchmarks/compile.py --model tiny-llama --layers 2,4 --seq-len 32")
def main(
    model: Model = "smollm2-135m",
    layers: Annotated[str, typer.Option(help="Depths: 4,8,16,32.")] = "4,8,16,32",
    rows: Rows = 1,
    seq_len: SeqLen = 256,
    remat: Annotated[str, typer.Option(help="none, full, dots, names:a,b.")] = "none",
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Compile the training step at several depths: the time and the program stay the same."""
    depths = numbers(layers, "--layers")
    with working("compiling"):
        result = bench_compile(find_model(model), depths, rows=rows, seq_len=seq_len, remat=remat)
    result = {"model": model, **result}
    write_json(json_file, result)
    protocol.keep(folder, "compile", model, result)
    print_table("train step by depth", result["rows"])
    out.print(
        f"largest over smallest: time {1 + result['spread_seconds']:.2f}, program {1 + result['spread_hlo']:.2f}"
    )


if __name__ == "__main__":
    run(app)
