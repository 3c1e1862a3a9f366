"""Which mesh fits best: every factorisation of the devices, the illegal ones with their reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.parallel.hardware import Hardware
from xlam_jax.parallel.mesh import AXES
from xlam_jax.plan.memory import Memory, estimate
from xlam_jax.plan.remat import lightest
from xlam_jax.plan.speed import Speed, speed
from xlam_jax.plan.work import Sizes, Work, name_mesh, ways


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A mesh, and either what it needs and does or why it cannot be.

    Attributes:
      remat: the policy that is asked for, or for "auto" the one that was taken.
    """

    sizes: Sizes
    memory: Memory | None = None
    speed: Speed | None = None
    refused: str = ""
    remat: str = ""

    @property
    def name(self) -> str:
        return name_mesh(self.sizes)


def factorisations(devices: int, axes: tuple[str, ...] = AXES) -> Iterator[Sizes]:
    """Every assignment of sizes to `axes` whose product is `devices`."""
    if len(axes) == 1:
        yield {axes[0]: devices}
        return
    for size in (n for n in range(1, devices + 1) if devices % n == 0):
        for rest in factorisations(devices // size, axes[1:]):
            yield {axes[0]: size, **rest}


def refusal(work: Work, sizes: Sizes) -> str:
    """Why this mesh cannot run this step; empty when it can."""
    cfg, moe = work.cfg, work.cfg.moe
    expert, tensor, context = (sizes.get(axis, 1) for axis in ("expert", "tensor", "context"))
    if expert > 1 and moe is None:
        return "no experts: a dense model has nothing to split over expert"
    if moe is not None and moe.num_experts % expert:
        return f"{moe.num_experts} experts do not split {expert} ways"
    if tensor > 1 and (cfg.num_heads % tensor or cfg.num_kv_heads % tensor):
        return f"{cfg.num_heads} query and {cfg.num_kv_heads} key/value heads do not split {tensor} ways"
    if context > 1 and work.seq_len % (2 * context):
        return f"{work.seq_len} positions do not split {context} ways"
    if work.rows % (work.accumulation * ways(sizes)):
        part = "data x fsdp x expert"
        return (
            f"{work.rows} rows in {work.accumulation} micro-batches do not split {ways(sizes)} ways ({part})"
        )
    return ""


def candidate(work: Work, sizes: Sizes, hw: Hardware) -> Candidate:
    """One mesh, judged."""
    if why := refusal(work, sizes):
        return Candidate(sizes, refused=why)
    try:
        if work.remat == "auto":
            name, memory = lightest(work, sizes, hw.budget)
            work = work.replace(remat=name)
        else:
            memory = estimate(work, sizes)
    except InputError as e:
        return Candidate(sizes, refused=e.what)
    return Candidate(sizes, memory, speed(work, sizes, hw, memory), remat=work.remat)


def search(work: Work, devices: int, hw: Hardware) -> list[Candidate]:
    """All meshes of `devices`: those that fit by expected tokens/s, then those that do not by bytes, then the
    refused ones."""
    judged = [candidate(work, sizes, hw) for sizes in factorisations(devices)]

    def order(c: Candidate) -> tuple[int, float, float]:
        if c.memory is None or c.speed is None:
            return 2, 0.0, 0.0
        if c.memory.total > hw.budget:
            return 1, c.memory.total, 0.0
        return 0, round(c.speed.expected, 6), c.memory.total

    return sorted(judged, key=order)


def rows_of(candidates: list[Candidate], hw: Hardware) -> list[dict[str, Any]]:
    """For a table: mesh, GiB, fits, seconds, tokens/s."""
    out = []
    for c in candidates:
        if c.memory is None or c.speed is None:
            continue
        out.append(
            {
                "mesh": c.name,
                "GiB": float(f"{c.memory.total / 2**30:.3g}"),
                "fits": "yes" if c.memory.total <= hw.budget else "no",
                "compute s": c.speed.compute,
                "beside s": c.speed.hidden,
                "waited s": c.speed.exposed,
                "step s": c.speed.expected,
                "tokens/s/device": round(c.speed.tokens_per_second_per_device),
                "MFU %": round(100 * c.speed.mfu, 1),
            }
        )
    return out


def device_count(sizes: Sizes) -> int:
    """Devices of a mesh."""
    return math.prod(sizes.values())
