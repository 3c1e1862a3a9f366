"""Everything worth measuring on one accelerator in about six minutes, part by part.

Each part is a process of its own with a time limit: a crash, a hang or memory that runs out costs that part
alone, and what was measured before is already on disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_BF16 = ("--dtype", "bfloat16")
_STEP = ("--seq-len", "4096", "--compute-dtype", "bfloat16", "--attention", "auto", "--profile")
_NARROW = ("--param-dtype", "bfloat16", "--moment-dtype", "bfloat16")
_MIXTRAL = ("--model", "mixtral-8x7b")

# (name, seconds it may take, arguments of `xlam bench`); the most wanted first. Rows and remat fit
# into 80 GB.
PARTS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("attention", 60, ("attention", *_MIXTRAL, "--seq-len", "4096", "--rows", "4", *_BF16)),
    ("moe-balanced", 90, ("moe", *_MIXTRAL, "--tokens", "8192", *_BF16)),
    ("train-1.3b", 110, ("train", "--model", "deepseek-coder-1.3b", "--rows", "6", "--remat", "dots", *_STEP)),
    ("train-7b-lora", 110, ("train", "--model", "deepseek-coder-7b-v1.5", "--rows", "2", "--remat", "dots", *_STEP,
                           "--param-dtype", "bfloat16", "--lora-rank", "16")),
    ("train-mixtral-slice", 110, ("train", *_MIXTRAL, "--layers", "2", "--rows", "6", *_STEP, *_NARROW)),
    ("compare-torch", 110, ("compare", "--model", "deepseek-coder-1.3b", "--layers", "12", "--rows", "2",
                           "--seq-len", "2048", *_BF16)),
    ("moe-skewed", 60, ("moe", *_MIXTRAL, "--tokens", "8192", "--skew", "1.0", *_BF16)),
)  # fmt: skip
# Beside the steps of C.5's protocol where a step takes a second: enough for a median on an idle device.
_QUICK = ("--steps", "12", "--warmup", "4")
_TINY = ("--model", "tiny-mixtral", "--seq-len", "64", "--steps", "2", "--warmup", "1")


def bench_accelerator(
    folder: Path,
    *,
    seconds: float = 360.0,
    only: Sequence[str] = (),
    rehearse: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Runs the parts in order until the time is up; each writes its JSON into `folder`.

    Args:
      seconds: for all of them together; a part that would begin after it is skipped.
      rehearse: tiny shapes, to try the list itself on any machine.

    Returns:
      {part, status: "done", "failed" or "skipped", seconds, detail} for each part; also kept as parts.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun, rows = time.monotonic(), []
    for name, limit, arguments in PARTS:
        if only and name not in only:
            continue
        left = seconds - (time.monotonic() - begun)
        if left < 15:
            rows.append({"part": name, "status": "skipped", "seconds": 0.0, "detail": "no time left"})
            continue
        progress(name)
        rows.append(_part(name, _typed(arguments, rehearse), folder, min(limit, left)))
        (folder / "parts.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _typed(arguments: tuple[str, ...], rehearse: bool) -> list[str]:
    kind = arguments[0]
    if not rehearse:
        return [*arguments, *_QUICK]
    shape = {
        "moe": ("--tokens", "64"),
        "train": ("--layers", "1", "--rows", "1"),
        "compare": ("--layers", "1"),
    }
    tiny = [part for part in _TINY if kind != "moe" or part not in ("--seq-len", "64")]
    model = ("--model", "tiny-llama") if kind in ("compare", "train") else ()
    return [*arguments, *tiny, *model, *shape.get(kind, ())]


def _part(name: str, arguments: list[str], folder: Path, limit: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "xlam_jax.cli.main", "bench", *arguments]
    command += ["--json", str(folder / f"{name}.json")]
    # Torch shares the device with the one part that compares with it. Large products are cuBLAS's anyway, and trying
    # Triton's for each of them can take the compiler longer than the whole measurement.
    settings = {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45" if arguments[0] == "compare" else "0.92",
        # Without command buffers the profiler knows which operation a kernel belongs to.
        "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_command_buffer=",
    }
    begun = time.monotonic()
    status, detail = "done", ""
    try:
        ran = subprocess.run(
            command, env=settings | dict(os.environ), capture_output=True, timeout=limit, check=False
        )
        (folder / f"{name}.txt").write_bytes(ran.stdout + ran.stderr)
        if ran.returncode:
            lines = ran.stderr.decode(errors="replace").strip().splitlines()
            status, detail = "failed", " | ".join(lines[-3:])[-400:]
    except subprocess.TimeoutExpired as e:
        (folder / f"{name}.txt").write_bytes((e.stdout or b"") + (e.stderr or b""))
        status, detail = "failed", f"longer than {limit:.0f} s"
    return {"part": name, "status": status, "seconds": round(time.monotonic() - begun, 1), "detail": detail}
