"""The expert layout that transformers 5 holds in memory, read under the per-expert names of the hub.

`save_pretrained(save_original_format=False)` writes per layer `mlp.experts.gate_up_proj` [E, 2F, D] (gate
half first), `mlp.experts.down_proj` [E, D, F], and Mixtral's router as `mlp.gate.weight` (transformers
`conversion_mapping.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import leaves
from xlam_jax.weights.safetensors_io import TensorInfo
from xlam_jax.weights.tensors import Tensors

_FUSED = re.compile(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up_proj|down_proj)")
_ROUTER = re.compile(r"model\.layers\.(\d+)\.mlp\.gate\.weight")


@dataclass(frozen=True)
class _Part:
    """Where a tensor lies within a stored one: [expert, first : first + rows], or all of it."""

    stored: str
    expert: int | None = None
    first: int = 0


class FusedExperts:
    """A view of `tensors` in which every expert has its own tensors; reads only the bytes of its rows."""

    def __init__(self, tensors: Tensors, cfg: ModelConfig):
        self._tensors = tensors
        self._parts: dict[str, _Part] = {}
        self.infos: dict[str, TensorInfo] = {}
        names = {path: spec.hf for path, spec in leaves(cfg).items() if path.startswith("layers.mlp.")}
        for stored, info in tensors.infos.items():
            match = _FUSED.fullmatch(stored)
            router = _ROUTER.fullmatch(stored)
            if match and len(info.shape) == 3:
                halves = ("gate", "up") if match[2] == "gate_up_proj" else ("down",)
                rows = info.shape[1] // len(halves)
                for expert in range(info.shape[0]):
                    for i, half in enumerate(halves):
                        name = names[f"layers.mlp.{half}"].format(layer=match[1], expert=expert)
                        self._add(name, (rows, info.shape[2]), info, _Part(stored, expert, i * rows))
            elif router:
                name = names["layers.mlp.router"].format(layer=router[1])
                self._add(name, info.shape, info, _Part(stored))
            else:
                self.infos[stored] = info

    def _add(self, name: str, shape: tuple[int, ...], info: TensorInfo, part: _Part) -> None:
        self.infos[name] = TensorInfo(name, shape, info.dtype)
        self._parts[name] = part

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out."""
        part = self._parts.get(name, _Part(name))
        if part.expert is None:
            return self._tensors.get(part.stored, index)
        rows, cols = (
            slice(*s.indices(n))
            for s, n in zip(index or (slice(None),) * 2, self.infos[name].shape, strict=True)
        )
        rows = slice(part.first + rows.start, part.first + rows.stop)
        return self._tensors.get(part.stored, (slice(part.expert, part.expert + 1), rows, cols))[0]

    def path_of(self, name: str) -> str:
        """The file that holds the tensor."""
        return self._tensors.path_of(self._parts.get(name, _Part(name)).stored)


def is_fused(tensors: Tensors) -> bool:
    """True when some tensor is of the fused layout."""
    return any(_FUSED.fullmatch(name) for name in tensors.infos)
