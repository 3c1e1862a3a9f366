"""Roofline of a step, and what is expected of it: seconds, tokens/s, hours, dollars."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from xlam_jax.models.flops import count
from xlam_jax.parallel.hardware import Hardware
from xlam_jax.plan.memory import Memory
from xlam_jax.plan.remat import recomputed
from xlam_jax.plan.traffic import flows, seconds
from xlam_jax.plan.work import Sizes, Work


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds of one step on one device of the mesh.

    Attributes:
      compute: products at the matmul ceiling, recomputation included.
      update: reading and writing the state in the optimizer.
      hidden, exposed: collectives that can run beside products, and those that are waited for.
      floor: the roofline: no step is faster; everything overlaps.
      expected: compute at the hardware's `efficiency`, exposed collectives and the update after it.
      mfu: model FLOPs (no recomputation) of `expected` over the peak of the data sheet.
    """

    compute: float
    update: float
    hidden: float
    exposed: float
    floor: float
    expected: float
    tokens_per_second: float
    tokens_per_second_per_device: float
    mfu: float


def speed(work: Work, sizes: Sizes, hw: Hardware, memory: Memory) -> Speed:
    """The step of `work` on a mesh of `hw`.

    Args:
      sizes: of the mesh, by axis.
      memory: of one device; its optimizer and gradients say how much an update reads and writes.
    """
    devices = math.prod(sizes.values())
    flops = work.flops()
    executed = (flops["total"] + recomputed(work)) * work.tokens / devices
    # Products in float32 run at a fraction of the bf16 rate on every one of these devices.
    slow = 2.0 if jnp.dtype(work.compute_dtype).itemsize == 4 else 1.0
    compute = executed * slow / hw.ceiling
    # Trained parameters and moments are read and written; what is frozen is not touched.
    update = (2 * memory.optimizer + 3 * memory.gradients) / hw.bandwidth
    moved = [(flow, seconds(flow, sizes, hw)) for flow in flows(work, sizes)]
    hidden = sum(s for flow, s in moved if flow.hidden)
    exposed = sum(s for flow, s in moved if not flow.hidden)
    floor = max(compute, hidden + exposed) + update
    expected = max(compute / hw.efficiency, hidden) + exposed + update
    rate = work.tokens / expected
    return Speed(
        compute=compute,
        update=update,
        hidden=hidden,
        exposed=exposed,
        floor=floor,
        expected=expected,
        tokens_per_second=rate,
        tokens_per_second_per_device=rate / devices,
        mfu=flops["total"] * rate / devices / hw.peak,
    )


def price(tokens: float, speed: Speed, devices: int, hw: Hardware) -> dict[str, float]:
    """Hours and example dollars of training on `tokens` positions.

    Args:
      tokens: positions of the whole training.
      devices: of the mesh, each of which costs `hw.price` dollars an hour.
    """
    hours = tokens / speed.tokens_per_second / 3600
    return {
        "tokens": tokens,
        "hours": hours,
        "device_hours": hours * devices,
        "dollars": hours * devices * hw.price,
    }


def parameters(work: Work) -> dict[str, int]:
    """Counts for the report."""
    return dataclasses.asdict(count(work.cfg))
