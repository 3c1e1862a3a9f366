"""Compilation does not grow with depth: layers are scanned, so 4 and 32 of them are one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlam_jax.bench import protocol
from xlam_jax.models.config import ModelConfig
from xlam_jax.plan.compiled import compile_here
from xlam_jax.plan.work import Work

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
