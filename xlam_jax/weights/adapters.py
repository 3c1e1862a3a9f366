"""Adapters in training runs: read alone, or on the base model that the run names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from xlam_jax.errors import InputError
from xlam_jax.files import read_object
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.fingerprint import weights_key
from xlam_jax.models.lora import LoraConfig, adapter_shapes, attach, quantize_base
from xlam_jax.models.params import Params
from xlam_jax.models.spec import path_name
from xlam_jax.weights.orbax_arrays import read_item


@dataclasses.dataclass(frozen=True)
class AdapterRun:
    """What a checkpoint says of its adapters.

    Attributes:
      params: folder of the Orbax item.
      model: folder of the base model at training time.
      base: `weights_key` of the base as it was loaded, in `dtype`.
    """

    params: Path
    lora: LoraConfig
    model: Path
    base: str
    dtype: str


def adapter_run(params: Path) -> AdapterRun | None:
    """Of a checkpoint's `params` folder; None when it holds whole parameters."""
    path = params.parent / "meta" / "metadata"  # where Orbax puts a JSON item
    meta = read_object(path) if path.is_file() else {}
    if not meta.get("lora"):
        return None
    about = meta["lora"]
    lora = LoraConfig.model_validate(about["config"])
    return AdapterRun(params, lora, Path(about["model"]), meta["base"], about["dtype"])


def read_adapters(run: AdapterRun, cfg: ModelConfig, mesh: Mesh | None = None) -> Params:
    """The tree of adapters of a checkpoint, on the mesh or the first device.

    Raises:
      InputError: damaged, or not the adapters that its own meta describes.
    """
    shapes = adapter_shapes(cfg, run.lora, mesh=mesh)
    one = SingleDeviceSharding(jax.local_devices()[0])
    flat, tree = jax.tree_util.tree_flatten_with_path(shapes)
    wanted = {path_name(path): s for path, s in flat}

    def check(stored: dict[str, Any]) -> None:
        odd = sorted(set(stored) ^ set(wanted)) or [
            n for n, s in wanted.items() if tuple(stored[n].shape) != s.shape
        ]
        if odd:
            raise InputError(f"the adapters do not fit config.json: {odd[0]!r}", where=str(run.params))

    arrays = read_item(
        run.params, check, lambda name: wanted[name].sharding or one, dtype_of=lambda *_: np.float32
    )
    return jax.tree.unflatten(tree, [arrays[name] for name in wanted])


def read_adapted(
    run: AdapterRun,
    cfg: ModelConfig,
    load: Callable[..., tuple[ModelConfig, Params]],
    mesh: Mesh | None = None,
) -> Params:
    """The base model of a run with its adapters on it, as it was trained: quantised where it was.

    Args:
      load: `source.load_model`, which reads the base.

    Raises:
      InputError: no base model where it lay, or another one.
    """
    model = run.model
    if not model.is_dir():
        raise InputError(
            "the base model of the adapters is gone",
            where=str(model),
            hint="put it back, or name it with --base",
        )
    base_cfg, params = load(model, dtype=run.dtype, mesh=mesh)
    if base_cfg.replace(eos_token_ids=cfg.eos_token_ids) != cfg or weights_key(params) != run.base:
        raise InputError(
            "this is not the model that the adapters were trained on: its weights are others",
            where=str(model),
            hint="name the right one with --base",
        )
    return attach(quantize_base(params, cfg, run.lora, mesh, take=True), read_adapters(run, cfg, mesh))
