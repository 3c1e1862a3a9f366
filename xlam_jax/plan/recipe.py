"""What a recipe trains on: rows, samples and steps, from the shards, or before they exist from the data config."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import yaml

from xlam_jax.config import make_config
from xlam_jax.parallel.mesh import AXES, MeshConfig
from xlam_jax.plan.work import Sizes, sizes_of, ways
from xlam_jax.shards.build import BuildConfig
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.samples import describe, rows_for, samples_per_row


@dataclasses.dataclass(frozen=True)
class Recipe:
    """As far as config and data tell.

    Attributes:
      seq_len: positions of a row; None when neither shards nor a data config beside the recipe say so.
      rows: packed rows of the data; None before it is built.
      per_row: mean samples of a row; None before the data is built.
    """

    config: TrainConfig
    seq_len: int | None
    rows: int | None = None
    per_row: float | None = None


@dataclasses.dataclass(frozen=True)
class Amount:
    """A step and a run.

    Attributes:
      samples: mean of a step; None where nothing says how many a row holds.
      steps: None where only the built data could tell.
      lines: for a person.
    """

    rows: int
    samples: float | None
    steps: int | None
    lines: tuple[str, ...]


def read_recipe(config: TrainConfig, beside: Path | None = None) -> Recipe:
    """Looks for the shards of `config`.

    Args:
      beside: folder of the recipe. Before the data is built, its config there, the one whose `out` is the run's
        `data.train`, says how long rows will be.
    """
    path = Path(config.data.train) / "manifest.json"
    if path.is_file():
        manifest = json.loads(path.read_text(encoding="utf-8"))
        rows = sum(shard["rows"] for shard in manifest["shards"])
        return Recipe(config, manifest["seq_len"], rows, samples_per_row(manifest) if rows else None)
    for path in sorted(beside.glob("*.yaml")) if beside else ():
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.get("out") == config.data.train and "tokenizer" in values:
            return Recipe(config, make_config(BuildConfig, values, where=str(path)).seq_len)
    return Recipe(config, None)


def amount(recipe: Recipe, seq_len: int, mesh: MeshConfig, devices: int | None, sample_tokens: int) -> Amount:
    """What a step and the run come to on a mesh.

    Args:
      devices: how many there are; None for as many as the mesh names.
      sample_tokens: of a sample, where the data is not built.

    Raises:
      InputError: the mesh does not fit the devices.
    """
    config, batch = recipe.config, recipe.config.batch
    per_row = recipe.per_row
    rows, lines = batch.rows, []
    if batch.samples:
        per_row = per_row or max(
            1.0, seq_len / (sample_tokens * (2 if config.objective.kind != "sft" else 1))
        )
        split = ways(_sizes(mesh, devices))
        rows = rows_for(batch, per_row, split)
        lines.append(describe(batch, rows, per_row, split))
        if recipe.per_row is None:
            lines.append(f"the data is not built: {sample_tokens} tokens a sample taken (--sample-tokens)")
    steps = None
    if isinstance(config.steps, int):
        steps, why = config.steps, "steps"
    elif config.max_epochs is None:
        why = "max_minutes"
    else:
        why = f"max_epochs {config.max_epochs:g}"
        steps = max(1, math.ceil(config.max_epochs * recipe.rows / rows)) if recipe.rows else None
    said = f"{steps:,} steps" if steps else "steps: known when the data is built"
    lines.append(f"{said} ({why}); warm-up {_warmup(config, steps)}")
    return Amount(rows, rows * per_row if per_row else None, steps, tuple(lines))


def _sizes(mesh: MeshConfig, devices: int | None) -> Sizes:
    fixed = math.prod(size for axis in AXES if (size := getattr(mesh, axis)) > 0)
    return sizes_of(mesh, devices or fixed)


def _warmup(config: TrainConfig, steps: int | None) -> str:
    optim = config.optim
    if optim.warmup_steps is None:
        return f"{optim.warmup:.0%} of them"
    share = f", {optim.warmup_steps / steps:.0%} of them" if steps else ""
    return f"{optim.warmup_steps} steps{share}"


def values(found: Amount, recipe: Recipe) -> dict[str, Any]:
    """For JSON."""
    asked = recipe.config.batch.samples
    return {"asked_samples": asked, "built": recipe.rows is not None, **dataclasses.asdict(found)}
