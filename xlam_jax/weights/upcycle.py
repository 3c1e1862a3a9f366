"""A dense model as a mixture of experts: every expert starts as a copy of the MLP (arXiv:2212.05055).

The weights of the chosen experts sum to one, so before training the mixture computes what the dense model
computed, whatever the router says.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig, MoeConfig
from xlam_jax.models.spec import HfEntry, hf_entries, leaves
from xlam_jax.weights.safetensors_io import TensorInfo
from xlam_jax.weights.stream import OpenModel, open_model
from xlam_jax.weights.tensors import Tensors

_FAMILIES = {"llama": "mixtral", "mistral": "mixtral", "qwen3": "qwen3_moe"}


@dataclasses.dataclass(frozen=True)
class Upcycling:
    """How a mixture is made of a dense model.

    Attributes:
      experts, top_k: experts of a layer, and how many each token goes to.
      noise: standard deviation of what is added to each expert's matrices, as a share of their own; 0 keeps
        the logits, more lets experts part sooner.
      aux_loss_coef: weight of the load-balance loss in training.
      seed: of routers and noise.
    """

    experts: int = 4
    top_k: int = 2
    noise: float = 0.0
    aux_loss_coef: float = 0.02
    seed: int = 0


def upcycled_config(cfg: ModelConfig, how: Upcycling) -> ModelConfig:
    """The config of the mixture: Llama and Mistral become Mixtral, Qwen3 becomes Qwen3-MoE.

    Raises:
      InputError: a family that has no mixture of its kind, or impossible numbers.
    """
    if cfg.family not in _FAMILIES:
        raise InputError(
            f"a {cfg.family} model cannot be upcycled", hint=f"supported: {', '.join(_FAMILIES)}"
        )
    if not 0 <= how.noise < 1:
        raise InputError(f"noise must lie in [0, 1), found {how.noise}", where="--noise")
    moe = MoeConfig(how.experts, how.top_k, cfg.intermediate_size, aux_loss_coef=how.aux_loss_coef)
    return cfg.replace(family=_FAMILIES[cfg.family], moe=moe)


class UpcycledTensors:
    """The tensors of the mixture, made of those of the dense model when they are asked for."""

    def __init__(self, dense: Tensors, dense_cfg: ModelConfig, how: Upcycling):
        self._dense, self._how = dense, how
        cfg = upcycled_config(dense_cfg, how)
        self._std = cfg.initializer_range
        self._names = {path: spec.hf for path, spec in leaves(dense_cfg).items()}
        self._entries = hf_entries(cfg)
        self.infos = {
            n: TensorInfo(n, e.shape, dense.infos[self._source(n, e)].dtype) for n, e in self._entries.items()
        }

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out."""
        entry, info = self._entries[name], self.infos[name]
        if entry.path == "layers.mlp.router":
            tensor = (self._std * self._normal(name, info.shape)).astype(info.dtype)
        elif entry.spec.per_expert and self._how.noise:
            whole = np.asarray(self._dense.get(self._source(name, entry)), np.float32)
            tensor = whole + self._how.noise * whole.std() * self._normal(name, info.shape)
            tensor = tensor.astype(info.dtype)
        else:
            return self._dense.get(self._source(name, entry), index)
        return tensor if index is None else tensor[index]

    def path_of(self, name: str) -> str:
        """The file that the tensor is made from."""
        return self._dense.path_of(self._source(name, self._entries[name]))

    def _normal(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng((self._how.seed, zlib.crc32(name.encode())))
        return rng.standard_normal(shape, np.float32)

    def _source(self, name: str, entry: HfEntry) -> str:
        """The dense tensor that an entry is made from; for the router, one of the same layer."""
        path = "layers.mlp.gate" if entry.path == "layers.mlp.router" else entry.path
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        return self._names[path].format(layer=layer[1]) if layer else self._names[path]


@contextmanager
def open_upcycled(src: str | Path, how: Upcycling) -> Iterator[OpenModel]:
    """`open_model` of a dense source, seen as a mixture; `to_hf` writes it.

    Raises:
      InputError: as `open_model` and `upcycled_config`.
    """
    with open_model(src) as model:
        yield dataclasses.replace(
            model,
            cfg=upcycled_config(model.cfg, how),
            tensors=UpcycledTensors(model.tensors, model.cfg, how),
            stamp={**model.stamp, **dataclasses.asdict(how)},
            origin=None,  # its digest is of the dense model's tensors, which the experts share or change
        )
