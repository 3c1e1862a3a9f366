"""How well a run uses its devices: model FLOP/s, and MFU, their share of what the devices could do.

    FLOPs of a step = W x tokens + A x sum of len^2 over documents
    MFU = FLOPs of a step / (seconds of the step x devices x peak FLOP/s of one)

`W` and `A` are counted from the spec table (`models.flops`): products of real tokens with the weights that they
pass, causal attention inside each document. Padding and recomputation are no work; the peak is the data sheet's for
dense bf16. Everything is counted on the host: nothing here waits for a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.sharding import Mesh

from xlam_jax.models.config import ModelConfig
from xlam_jax.models.flops import StepFlops, step_flops
from xlam_jax.parallel.hardware import known_hardware
from xlam_jax.parallel.mesh import batch_share
from xlam_jax.training.config import TrainConfig


class Efficiency:
    """Counts steps, and tells seconds of a step, TFLOP/s of a device and MFU, since it last told and overall.

    The first step of a session compiles and is left out.

    Attributes:
      formula: what is counted, in numbers of this model.
    """

    def __init__(self, config: TrainConfig, cfg: ModelConfig, mesh: Mesh):
        # A reference that is computed in the step costs a forward pass of the base.
        reference = config.objective.kind != "sft" and config.objective.reference in ("base", "copy")
        self._flops: StepFlops = step_flops(
            cfg,
            freeze=config.freeze,
            freeze_layers=config.freeze_layers,
            lora=config.lora,
            more_forward=int(reference),
        )
        self._window, self._parts, self._devices = cfg.sliding_window, batch_share(mesh)[1], mesh.size
        sheet = known_hardware(mesh.devices.flat[0].device_kind)
        self._peak = sheet.peak if sheet else None
        self.formula = self._flops.formula
        if sheet:
            self.formula += f"; MFU: of {sheet.peak / 1e12:.0f} TFLOP/s ({sheet.name}, dense bf16)"
        self._recent, self._all = _Sum(), _Sum()

    def pairs(self, batch: Any) -> float:
        """Pairs of a position and one that it attends to in a host batch [A, B, S]: half of len^2 a document.

        Of this process's rows, times the parts that the batch was cut into.
        """
        # Positions count from 0 in every document, so each tells how many keys it sees.
        keys = np.asarray(batch.positions, np.float32) + np.float32(0.5)
        if self._window:
            keys = np.minimum(keys, self._window)
        return float(keys.sum(where=np.asarray(batch.segment_ids) > 0, dtype=np.float64)) * self._parts

    def add(self, tokens: int, pairs: float, seconds: float | None) -> None:
        """Counts a step of `tokens` that are not padding; None seconds: it compiled."""
        if seconds is not None:
            flops = self._flops.per_token * tokens + self._flops.per_pair * pairs
            self._recent, self._all = self._recent.plus(flops, seconds), self._all.plus(flops, seconds)

    def recent(self) -> dict[str, float]:
        """`step_seconds`, `tflops_per_device` and, on known devices, `mfu` of the steps since this was asked last;
        empty without one."""
        reading, self._recent = self._read(self._recent), _Sum()
        return reading

    def overall(self) -> dict[str, float]:
        """As `recent`, of all steps of the session."""
        return self._read(self._all)

    def _read(self, counted: _Sum) -> dict[str, float]:
        if not counted.steps:
            return {}
        rate = counted.flops / max(counted.seconds, 1e-9) / self._devices
        rates = {
            "step_seconds": round(counted.seconds / counted.steps, 6),
            "tflops_per_device": float(f"{rate / 1e12:.5g}"),
        }
        return rates | ({"mfu": round(rate / self._peak, 5)} if self._peak else {})


class _Sum:
    def __init__(self, steps: int = 0, flops: float = 0.0, seconds: float = 0.0):
        self.steps, self.flops, self.seconds = steps, flops, seconds

    def plus(self, flops: float, seconds: float) -> _Sum:
        return _Sum(self.steps + 1, self.flops + flops, self.seconds + seconds)
