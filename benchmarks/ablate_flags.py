"""What each flag of a profile is worth here: the training step with all of them, without each one, with none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.bench_speed import Dtype, Layers, Model, Rows, SeqLen, Steps
from xlam_jax.cli.common import JsonOption, print_table, working, write_json
from xlam_jax.cli.main import run
from xlam_jax.errors import WorkError
from xlam_jax.parallel.xla_flags import profile, profile_flags, refusal


def ablate_flags(
    name: str,
    train: Sequence[str],
    *,
    timeout: float = 600.0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Runs `xlam bench train` in a process for each set of flags.

    Args:
      name: of the profile; flags that this jaxlib does not know are left out.
      train: arguments of `xlam bench train`.

    Returns:
      rows {flags, seconds of a step, tokens/s, worth %}: how much slower the step is without the flag; an `error`
      where a process failed.

    Raises:
      InputError: no such profile.
      WorkError: the step does not even run without flags.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dropped flags are told by the listing
        profile_flags(name)
    known = {f: v for f, v in profile(name).flags.items() if refusal(f) is None}
    env = profile(name).env
    sets = [("none", {}, {}), ("all", known, env)]
    sets += [(f"all but {flag}", {f: v for f, v in known.items() if f != flag}, env) for flag in known]
    sets += [(f"all but {key}", known, {k: v for k, v in env.items() if k != key}) for key in env]
    rows: list[dict[str, Any]] = []
    whole = None
    for label, flags, extra in sets:
        progress(label)
        text = " ".join(f"--{f}={v}" for f, v in flags.items())
        found = _run(text, extra, train, timeout)
        if isinstance(found, str):
            if label == "none":
                raise WorkError("the step does not run without flags", where=found)
            rows.append({"flags": label, "step s": None, "tokens/s": None, "worth %": None, "error": found})
            continue
        seconds = found["step_seconds"]
        whole = seconds if label == "all" else whole
        worth = None if whole is None or label == "all" else 100 * (seconds / whole - 1)
        rows.append(
            {
                "flags": label,
                "step s": seconds,
                "tokens/s": found["tokens_per_second"],
                "worth %": worth,
                "error": "",
            }
        )
    if whole is not None and rows[0]["step s"]:
        rows[0]["worth %"] = 100 * (rows[0]["step s"] / whole - 1)
    return rows


def _run(flags: str, extra: dict[str, str], train: Sequence[str], timeout: float) -> dict[str, Any] | str:
    """The result of one process, or its last words."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "train.json"
        command = [sys.executable, "-m", "xlam_jax.cli.main", "bench", "train", *train, "--json", str(result)]
        try:
            env = {**os.environ, **extra, "XLA_FLAGS": flags}
            ran = subprocess.run(command, env=env, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return f"longer than {timeout:.0f} s"
        if ran.returncode or not result.is_file():
            return " | ".join(ran.stderr.decode(errors="replace").strip().splitlines()[-2:])[-300:]
        return json.loads(result.read_text())


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python benchmarks/ablate_flags.py reproducible --model tiny-llama --seq-len 64 --steps 2"
)
def main(
    profile_name: Annotated[
        str, typer.Argument(metavar="PROFILE", help="Of XLA flags; xlam bench flags lists them.")
    ],
    model: Model = "smollm2-135m",
    layers: Layers = None,
    rows: Rows = 1,
    seq_len: SeqLen = 1024,
    steps: Steps = 30,
    mesh: Annotated[str, typer.Option(help="For example fsdp=8.")] = "",
    compute_dtype: Dtype = "float32",
    json_file: JsonOption = None,
) -> None:
    """Time the training step with all flags of a profile, without each one, and with none."""
    train = ["--model", model, "--seq-len", str(seq_len), "--rows", str(rows), "--steps", str(steps)]
    train += ["--compute-dtype", compute_dtype, *(["--mesh", mesh] if mesh else [])]
    train += ["--layers", str(layers)] if layers else []
    with working("timing") as status:
        table = ablate_flags(profile_name, train, progress=status)
    write_json(json_file, table)
    print_table(f"profile {profile_name}: what a step costs without", table)


if __name__ == "__main__":
    run(app)
