"""The run folder: what a run was asked, what it ran on, what it measured.

`config.yaml` (resolved), `versions.json`, `run.json` (total steps), `metrics.jsonl`, `loss.png`,
`checkpoints/`; also config.json and the tokenizer of the model, so that the folder explains its own
parameters.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from xlam_jax.errors import InputError
from xlam_jax.training.config import TrainConfig

METRICS = "metrics.jsonl"
_PACKAGES = ("xlam-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers")


def versions() -> dict[str, str]:
    """Versions of Python, the packages a result depends on, and the devices."""
    import jax

    found = {"python": platform.python_version(), "platform": sys.platform}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {**found, "devices": f"{jax.device_count()} x {device.device_kind}"}


def prepare(run: Path, config: TrainConfig) -> None:
    """Makes the folder and writes config.yaml and versions.json; the first host does."""
    import jax

    if jax.process_index():
        return
    run.mkdir(parents=True, exist_ok=True)
    write(run / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    write(run / "versions.json", json.dumps(versions(), indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """Writes a small file that is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


class MetricsLog:
    """Appends to metrics.jsonl, and to TensorBoard when asked.

    Args:
      start_step: lines of later steps, left by a run that was cut off, are dropped, so every step stands
        once.

    Raises:
      InputError: "tensorboard" without tensorboardX installed.
    """

    def __init__(self, run: Path, start_step: int, track: Sequence[str]):
        self._path = run / METRICS
        import jax

        if jax.process_index():  # one host writes for all
            self._file = self._board = None
            return
        if "tensorboard" in track:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as e:
                raise InputError(
                    "tensorboardX is not installed", where="track", hint="pip install tensorboardX"
                ) from e
            self._board = SummaryWriter(str(run / "tensorboard"))
        else:
            self._board = None
        kept = [row for row in read_metrics(run) if row["step"] <= start_step]
        write(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a", encoding="utf-8")

    def add(self, row: dict[str, Any]) -> None:
        """One line; `step` says after how many steps."""
        if self._file is None:
            return
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board:
            for key, value in row.items():
                if key != "step" and isinstance(value, int | float):
                    self._board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut off is left out."""
    path = Path(run) / METRICS
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def plot_loss(run: Path, label: str) -> None:
    """Draws loss.png from metrics.jsonl; `label` says what the loss is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read_metrics(run)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for key, style in (("loss", "-"), ("eval_loss", "o-")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=key, linewidth=1)
    axes.set(xlabel="step", ylabel=label, title=run.name)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    partial = run / "loss.partial.png"
    figure.savefig(partial, dpi=120)
    plt.close(figure)
    os.replace(partial, run / "loss.png")
