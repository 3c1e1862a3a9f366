"""The reference of a whole training config: its data folders, its starting model, its mesh and dtypes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

from xlam_jax.errors import InputError
from xlam_jax.models.fingerprint import weights_key
from xlam_jax.models.lora import quantize_base
from xlam_jax.parallel.mesh import make_mesh
from xlam_jax.training.checks import check_batch, check_data
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.preference.reference import PreferenceSource, compute
from xlam_jax.training.samples import with_rows
from xlam_jax.weights import load_model
from xlam_jax.weights.hf_in import read_config


def precompute(
    config: TrainConfig, progress: Callable[[int, int, str], None] | None = None
) -> list[dict[str, Any]]:
    """Stores the reference log-probabilities of `data.train` and `data.eval`; see `preference.reference`.

    Args:
      progress: called with (rows done, rows, folder).

    Returns:
      for each folder its facts, `folder`, `rows`, `computed` (rows of this call), `seconds`,
      `tokens_per_second`.

    Raises:
      InputError: data or model that do not fit, or a config of another objective.
    """
    if config.objective.kind != "dpo":
        raise InputError(
            "the config trains without preference pairs", where="objective.kind", hint="objective.kind=dpo"
        )
    cfg = read_config(config.model)
    folders = [config.data.train, *([config.data.eval] if config.data.eval else [])]
    sources = [PreferenceSource(folder, verify=config.data.verify) for folder in folders]
    for source in sources:
        check_data(source, cfg, config.model)
    mesh = make_mesh(config.mesh)
    config = with_rows(config, sources[0].manifest, mesh)
    rows = check_batch(config, mesh)
    precision = config.precision
    results = []
    with jax.set_mesh(mesh):
        cfg, params = load_model(config.model, dtype=precision.param_dtype, mesh=mesh)
        if config.lora:  # the reference is the base that the adapters will stand on, in its bits
            params = quantize_base(params, cfg, config.lora, mesh)
        facts = {"weights": weights_key(params), **precision.model_dump(mode="json")}
        for folder, source in zip(folders, sources, strict=True):
            model = source.pair_model(
                cfg, compute_dtype=precision.compute_dtype, attention=config.attention, moe=config.moe
            )
            began, total = time.monotonic(), len(source)
            tell = (
                (lambda done, total=total, folder=folder: progress(done, total, folder)) if progress else None
            )
            counts = compute(source, params, model, facts, mesh=mesh, rows=rows, progress=tell)
            seconds = time.monotonic() - began
            tokens = source.manifest["tokens"] * counts["computed"] / max(1, total)
            counts |= {"folder": folder, "seconds": round(seconds, 2)}
            results.append({**counts, "tokens_per_second": round(tokens / max(seconds, 1e-9), 1)})
    return results
