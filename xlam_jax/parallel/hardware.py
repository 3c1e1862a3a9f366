"""Accelerators by name: peaks, memories, links and example prices, from `hardware.json`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax

from xlam_jax.errors import unknown

_DATA = json.loads(Path(__file__).with_name("hardware.json").read_text(encoding="utf-8"))
_UNMEASURED_CEILING = 0.8  # of the peak; what was measured on the H100


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device of a kind.

    Attributes:
      peak: dense bf16 FLOP/s of the data sheet.
      ceiling: bf16 FLOP/s of the best matrix product measured, or 0.8 of the peak (`measured` tells).
      memory: bytes; `usable` is the share that a training step may plan with.
      bandwidth: bytes/s of the memory.
      link: bytes/s received along one mesh axis inside a domain of `domain` devices.
      network: bytes/s a device between domains.
      price: dollars an hour, an example.
      efficiency: share of the ceiling that a tuned step is expected to reach.
    """

    name: str
    peak: float
    ceiling: float
    measured: bool
    memory: float
    usable: float
    bandwidth: float
    link: float
    network: float
    domain: int
    price: float
    efficiency: float
    source: str

    @property
    def budget(self) -> float:
        """Bytes that a step may use."""
        return self.memory * self.usable


def names() -> list[str]:
    """Names that `hardware` knows."""
    return list(_DATA["devices"])


def hardware(
    name: str = "h100-sxm", *, price: float | None = None, efficiency: float | None = None
) -> Hardware:
    """The device called `name` (or one of its other names).

    Raises:
      InputError: an unknown name; the hint is the nearest known one.
    """
    known = _DATA["devices"]
    also = {alias: key for key, values in known.items() for alias in values["aka"]}
    key = also.get(name.lower(), name.lower())
    if key not in known:
        raise unknown("hardware", name, [*known, *also], where="--hardware", cutoff=0.5)
    values = {k: v for k, v in known[key].items() if k != "aka"}
    measured = values["ceiling"] is not None
    values["ceiling"] = values["ceiling"] if measured else _UNMEASURED_CEILING * values["peak"]
    values["price"] = values["price"] if price is None else price
    share = _DATA["efficiency"] if efficiency is None else efficiency
    return Hardware(name=key, measured=measured, usable=_DATA["usable"], efficiency=share, **values)


def known_hardware(kind: str | None = None) -> Hardware | None:
    """The data sheet of a device kind as JAX calls it (the first device's), or None for one that is not in the
    table: a CPU, or a card of less power than the one of that name."""
    kind = (kind or jax.devices()[0].device_kind).lower()
    if "pcie" in kind or "nvl" in kind:
        return None
    for mark, name in (
        ("h100", "h100-sxm"),
        ("h200", "h200"),
        ("b200", "b200"),
        ("v5p", "tpu-v5p"),
        ("v6", "tpu-v6e"),
    ):
        if mark in kind or (name == "tpu-v5p" and kind == "tpu v5"):
            return hardware(name)
    return None
