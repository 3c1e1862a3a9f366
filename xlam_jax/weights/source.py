"""What a model folder is, and its parameters on the devices.

Weights at rest are Hugging Face folders. A training run is a model too: its newest checkpoint, an Orbax item that maps
dotted paths ("layers.attn.q") to stacked arrays, beside config.json and the tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml
from jax.sharding import Mesh, SingleDeviceSharding

from xlam_jax.errors import InputError
from xlam_jax.files import read_object, read_text
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import merge
from xlam_jax.models.params import Params
from xlam_jax.models.spec import leaves, path_name, shardings, spec
from xlam_jax.parallel.rules import ShardingRules
from xlam_jax.weights.adapters import adapter_run, read_adapted
from xlam_jax.weights.hf_in import load_hf, read_config
from xlam_jax.weights.hf_out import (
    check_params,
    named_arrays,
    read_xlam_json,
)
from xlam_jax.weights.intact import damage
from xlam_jax.weights.orbax_arrays import read_item
from xlam_jax.weights.orbax_tensors import PARAMS
from xlam_jax.weights.safetensors_io import INDEX, SINGLE
from xlam_jax.weights.tensors import kept_dtype
from xlam_jax.weights.tokenizer_files import has_tokenizer

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder turned out to be.

    Attributes:
      kind: "hf", "run" (a training run; its newest checkpoint), or "native" (an Orbax item `params` beside
        config.json, which earlier versions wrote).
      folder: holds config.json and the tokenizer.
      params: folder of the Orbax item; None for "hf".
      codec: names that `format.get_codec` takes, where the folder knows them.
    """

    kind: str
    folder: Path
    params: Path | None
    codec: dict[str, Any] | None

    @property
    def tokenizer(self) -> Path | None:
        """The folder to copy tokenizer files from, None when it has none."""
        return self.folder if has_tokenizer(self.folder) else None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Its own folder and, of a run, the folder of its base model where it still lies."""
        base = run_config(self.folder).get("model") if self.kind == "run" else None
        return (self.folder, *((Path(base),) if base and Path(base).is_dir() else ()))


def inspect(folder: str | Path) -> ModelFolder:
    """Tells which kind of model folder this is.

    A run is named by its folder, or by one checkpoint of it (`RUN/checkpoints/STEP`).

    Raises:
      InputError: no such folder, or no model in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("model folder not found", where=str(folder), hint="check the path")
    codec = read_xlam_json(folder).get("codec")
    if (folder / CHECKPOINTS).is_dir():
        steps = [
            p for p in (folder / CHECKPOINTS).iterdir() if p.name.isdigit()
        ]  # unfinished ones have a suffix
        if not steps:
            raise InputError("the run holds no checkpoint", where=str(folder), hint="train it first")
        step = max(steps, key=lambda p: int(p.name))
        return ModelFolder("run", folder, step / PARAMS, codec or _codec_of_step(step))
    if (folder / PARAMS).is_dir() and folder.parent.name == CHECKPOINTS:
        run = folder.parent.parent
        return ModelFolder("run", run, folder / PARAMS, _codec_of_step(folder))
    if (folder / PARAMS).is_dir():
        return ModelFolder("native", folder, folder / PARAMS, codec)
    if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        return ModelFolder("hf", folder, None, codec)
    read_config(folder)  # says so when even config.json is missing
    return ModelFolder("hf", folder, None, codec)  # the reader explains what is missing


def run_config(run: Path) -> dict[str, Any]:
    """The config.yaml of a training run, {} where there is none.

    Raises:
      InputError: it is no YAML mapping.
    """
    path = run / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise InputError(f"not YAML: {str(e).splitlines()[0]}", where=str(path)) from e
    if not isinstance(config, dict):
        raise InputError("no mapping of keys", where=str(path))
    return config


def _codec_of_step(step: Path) -> dict[str, Any] | None:
    path = step / "meta" / "metadata"  # where Orbax puts a JSON item
    if not path.is_file():
        return None
    return read_object(path).get("codec")


def load_model(
    folder: str | Path,
    *,
    dtype: Any = None,
    mesh: Mesh | None = None,
    rules: ShardingRules | None = None,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> tuple[ModelConfig, Params]:
    """Config and placed, stacked parameters of a Hugging Face folder or a training run.

    Of a run that trained adapters: its base model with the adapters merged.

    Args:
      folder: as `inspect` takes it.
      dtype: None keeps the stored one; of a run that trained adapters, that of its base as it was loaded.
      mesh: placement as in `load_hf`.
      rules: as in `load_hf`; not for a run that trained adapters.
      progress: as in `load_hf`; called for Hugging Face folders only.

    Raises:
      InputError: as in `inspect` and `load_hf`, or a damaged checkpoint.
    """
    source = inspect(folder)
    if source.params is None:
        return load_hf(folder, dtype=dtype, mesh=mesh, rules=rules, progress=progress)
    check_intact(source)
    cfg = read_config(source.folder)
    if run := adapter_run(source.params):
        merged = merge(read_adapted(run, cfg, load_model, mesh))
        return cfg, jax.tree.map(lambda x: x.astype(dtype or run.dtype), merged)
    return cfg, load_params_item(source.params, cfg, dtype=dtype, mesh=mesh, rules=rules)


def check_intact(source: ModelFolder) -> None:
    """Raises InputError when the parameters of a run's checkpoint are not what training wrote; reads them once."""
    if (
        source.kind == "run"
        and source.params
        and (damaged := damage(source.params.parent, under=f"{PARAMS}/"))
    ):
        raise InputError(
            f"the checkpoint is damaged: {damaged}",
            where=str(source.params.parent),
            hint="take another one: RUN/checkpoints/STEP",
        )


def load_params_item(
    path: str | Path,
    cfg: ModelConfig,
    mesh: Mesh | None = None,
    *,
    dtype: Any = None,
    rules: ShardingRules | None = None,
) -> Params:
    """Reads the Orbax item at `path` (`RUN/checkpoints/STEP/params`, say) straight to its devices.

    The host holds two or three times the largest stacked array beside those on the devices: the copies of
    tensorstore and Orbax.

    Args:
      dtype: of the parameters; None keeps the stored one.
      mesh, rules: placement; without a mesh everything goes to the first device.

    Raises:
      InputError: not an Orbax item, damaged, or not the parameters of `cfg`.
    """
    path = Path(path).absolute()
    leaf_shardings, specs = _shardings(cfg, mesh, rules), leaves(cfg)
    wanted = None if dtype is None else np.dtype(dtype)
    arrays = read_item(
        path,
        lambda stored: check_params(stored, cfg, where=str(path)),
        leaf_shardings.__getitem__,
        dtype_of=lambda name, stored: kept_dtype(specs[name], stored, wanted),
    )
    return jax.tree_util.tree_map_with_path(lambda p, _: arrays[path_name(p)], spec(cfg))


def _shardings(cfg: ModelConfig, mesh: Mesh | None, rules: ShardingRules | None) -> dict[str, Any]:
    if mesh is None:
        return dict.fromkeys(leaves(cfg), SingleDeviceSharding(jax.local_devices()[0]))
    return named_arrays(shardings(cfg, mesh, rules))
