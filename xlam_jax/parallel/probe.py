"""How fast the devices of a run exchange data: one all-reduce over all of them, timed."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

FAR_BELOW = 0.25  # of the link's rate; RDMA reaches more than half of it, TCP a few per cent


@dataclasses.dataclass(frozen=True)
class Speed:
    """One measurement.

    Attributes:
      devices, processes: that took part.
      mib: what each device gave, in MiB.
      seconds: of one all-reduce, the median.
      gb_per_s: bus bandwidth in GB/s as NCCL's tests define it, 2 (n - 1) / n bytes over seconds.
    """

    devices: int
    processes: int
    mib: float
    seconds: float
    gb_per_s: float


def all_reduce_speed(mib: float, repeats: int = 10) -> Speed:
    """Times a sum over all devices of all processes, each of which gives `mib` MiB of float32.

    Raises:
      RuntimeError: the sum is wrong.
    """
    devices = np.array(jax.devices())
    count, width = len(devices), max(1, int(mib * 2**18))
    mesh = Mesh(devices, ("all",), axis_types=(AxisType.Auto,))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("all",), ()))
    index = np.arange(count, dtype=np.float32)[:, None]
    given = jax.make_array_from_callback(
        (count, width), rows, lambda at: np.broadcast_to(index, (count, width))[at]
    )
    reduce = jax.jit(lambda x: jnp.sum(x, axis=0), in_shardings=rows, out_shardings=everywhere)
    total = reduce(given)
    summed = float(np.asarray(total.addressable_data(0))[0])
    if summed != count * (count - 1) / 2:
        raise RuntimeError(f"an all-reduce over {count} devices yields {summed}")
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(reduce(given))
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times))
    moved = 2 * (count - 1) / count * width * 4
    return Speed(count, jax.process_count(), mib, seconds, moved / seconds / 1e9)


def link_gbps(folder: Path = Path("/sys/class/infiniband")) -> float:
    """Gbit/s of this host's active RDMA ports together; 0 where there are none."""
    rates = 0.0
    for port in folder.glob("*/ports/*"):
        try:
            active = "ACTIVE" in (port / "state").read_text()
            rate = re.match(r"[\d.]+", (port / "rate").read_text())
        except OSError:
            continue
        rates += float(rate[0]) if active and rate else 0.0
    return rates
