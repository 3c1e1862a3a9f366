"""The run folder: what a run was asked, what it ran on, what it measured.

`config.yaml` (resolved), `versions.json` (with the git commit of the code), `data.manifest.json` (of the
training data), `run.json` (total steps, first start, name for trackers), `metrics.jsonl`, `events.jsonl`
(starts, saves, skipped steps, stops), `loss.png`, `report.html`, `checkpoints/`, `best.json`; also config.json and
the tokenizer of the model, so that the folder explains its own parameters.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from xlam_jax.files import read_object, write_text
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.trackers import Tracker

METRICS, EVENTS, RUN = "metrics.jsonl", "events.jsonl", "run.json"
MANIFEST, CONFIG = "data.manifest.json", "config.yaml"
_PACKAGES = ("xlam-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers")


def versions() -> dict[str, str]:
    """Versions of Python, the packages a result depends on, and the devices."""
    import jax

    versions = {"python": platform.python_version(), "platform": sys.platform}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {**versions, "devices": f"{jax.device_count()} x {device.device_kind}"}


def git_state() -> dict[str, Any] | None:
    """Commit of the code that runs, and whether it was changed since; None when it is no git checkout."""
    folder = Path(__file__).parent

    def git(*args: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=30, check=True
        )
        return run.stdout.strip()

    try:
        if not git("ls-files", "--", __file__):  # installed inside somebody else's repository
            return None
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def prepare(run: Path, config: TrainConfig, manifest: dict[str, Any]) -> None:
    """Makes the folder and writes what is known before the first step; the first host does.

    Args:
      manifest: of the training data.
    """
    import jax

    if jax.process_index():
        return
    run.mkdir(parents=True, exist_ok=True)
    values = config.model_dump(mode="json")
    if config.batch.samples:
        del values["batch"]["rows"]  # it follows from the samples
    write_text(run / CONFIG, yaml.safe_dump(values, sort_keys=False))
    write_text(run / "versions.json", json.dumps({**versions(), "git": git_state()}, indent=2) + "\n")
    write_text(run / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def first_start(run: Path) -> float:
    """Unix time of the run's first start; now for a new run."""
    return _facts(run).get("started", time.time())


def tracked_as(run: Path, start_step: int) -> str:
    """Name of the run for trackers, kept over resumes; a run that starts from nothing is another run."""
    kept = _facts(run).get("tracked_as") if start_step else None
    return kept or secrets.token_hex(4)


def _facts(run: Path) -> dict[str, Any]:
    return read_own(run / RUN)


def read_own(path: Path) -> dict[str, Any]:
    """A small JSON file of the run folder, {} where there is none; InputError when it is damaged."""
    hint = "it is damaged: remove it, and the run goes on without what it said"
    return read_object(path, hint) if path.is_file() else {}


def note(run: Path, event: str, step: int | None, **facts: Any) -> None:
    """Appends a line to events.jsonl; the first host does."""
    import jax

    if jax.process_index():
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with (run / EVENTS).open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"time": now, "event": event, "step": step, **facts}, ensure_ascii=False) + "\n"
        )


class MetricsLog:
    """Appends to metrics.jsonl, and tells the tracker.

    Args:
      start_step: lines of later steps, left by a run that was cut off, are dropped, so every step stands
        once.
      tracker: makes what is told the numbers too; it is called, and closed, on the host that writes.
    """

    def __init__(self, run: Path, start_step: int, tracker: Callable[[], Tracker]):
        self._path = run / METRICS
        import jax

        if jax.process_index():  # one host writes for all
            self._file = self._tracker = None
            return
        self._tracker = tracker()
        kept = [row for row in read_metrics(run) if row["step"] <= start_step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a", encoding="utf-8")

    def add(self, row: dict[str, Any]) -> None:
        """One line; `step` says after how many steps."""
        if self._file is None:
            return
        row = _plain(row)
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        numbers = {k: v for k, v in row.items() if k != "step" and isinstance(v, int | float)}
        if self._tracker and numbers:
            self._tracker.log(row["step"], numbers)

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._tracker:
            self._tracker.close()


def _plain(value: Any) -> Any:
    """Values that JSON has: what is not finite becomes null, in lists and objects too."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if hasattr(value, "item"):  # a number of NumPy or JAX
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluated_at(run: Path, step: int) -> bool:
    """Whether metrics.jsonl has what was evaluated after `step` steps, beside the step's own line."""
    return any(
        row.get("step") == step and not row.keys() & {"loss", "grad_norms", "param_norms"}
        for row in read_metrics(run)
    )


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; what is cut off or damaged is left out."""
    return [row for row in read_lines(Path(run) / METRICS) if isinstance(row.get("step"), int)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one a line, of a file that may be missing, cut off at its end, or damaged in places."""
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def plot_loss(run: Path, label: str) -> None:
    """Draws loss.png from metrics.jsonl; `label` says what the loss is."""
    from matplotlib.figure import Figure

    rows = read_metrics(run)
    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    figure.subplots_adjust(0.09, 0.12, 0.98, 0.92)  # a layout engine would draw everything twice
    for key, style in (("loss", "-"), ("eval_loss", "o-")):
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=key, linewidth=1)
    axes.set(xlabel="step", ylabel=label, title=run.name)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    partial = run / "loss.partial.png"
    figure.savefig(partial, dpi=120)
    os.replace(partial, run / "loss.png")
