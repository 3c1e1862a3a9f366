"""The whole answer for one step on one kind of device: counts, bytes, traffic, time, cost, and the best mesh."""

from __future__ import annotations

import dataclasses
from typing import Any

from xlam_jax.errors import InputError, WorkError
from xlam_jax.models.flops import count
from xlam_jax.parallel.hardware import Hardware
from xlam_jax.plan.compiled import MAX_DEVICES, refine
from xlam_jax.plan.memory import Memory
from xlam_jax.plan.search import Candidate, candidate, device_count, rows_of, search
from xlam_jax.plan.speed import price, speed
from xlam_jax.plan.traffic import flows, seconds
from xlam_jax.plan.work import Sizes, Work, name_mesh


@dataclasses.dataclass(frozen=True)
class Plan:
    """`best` is the mesh that was asked for, or else the first of `ranked`; `work` with the remat policy taken for it.

    Attributes:
      memory: of `best`; with the compiler's own account of a slice where `compiled` is not None.
      note: what was not compiled and why, or from which slices was extrapolated.
    """

    work: Work
    hardware: Hardware
    best: Candidate
    memory: Memory
    ranked: list[Candidate]
    refused: list[Candidate]
    compiled: dict[str, Any] | None
    note: str


def make_plan(
    work: Work,
    hw: Hardware,
    *,
    sizes: Sizes | None = None,
    devices: int = 1,
    compile: bool = True,
    timeout: float = 90.0,
) -> Plan:
    """Judges the mesh of `sizes`, or searches all meshes of `devices`.

    Args:
      compile: measure the memory of the chosen mesh by compiling a slice for fake devices.
      timeout: seconds that the compilation may take; after it the traced numbers stand, and `note` says so.

    Raises:
      InputError: the mesh that was asked for cannot run the step, or none of `devices` can.
    """
    if sizes is not None:
        devices = device_count(sizes)
    candidates = search(work, devices, hw)
    ranked = [c for c in candidates if not c.refused]
    refused = [c for c in candidates if c.refused]
    if sizes is not None:
        best = candidate(work, sizes, hw)
        if best.refused:
            raise InputError(
                f"mesh {name_mesh(sizes)}: {best.refused}",
                where="--mesh",
                hint=f"possible and fastest: {ranked[0].name}" if ranked else "another number of devices",
            )
    elif ranked:
        best = ranked[0]
    else:
        raise InputError(
            f"no mesh of {devices} devices can run this step",
            where="--gpus",
            hint=refused[0].refused if refused else "",
        )
    assert best.memory
    work = work.replace(remat=best.remat)
    memory, measured, note = best.memory, None, "traced, not compiled"
    if compile and device_count(best.sizes) > MAX_DEVICES:
        note = f"traced, not compiled: more than {MAX_DEVICES} devices"
    elif compile:
        try:
            memory, one = refine(work, best.sizes, timeout)
            measured = dataclasses.asdict(one)
            whole = len(one.layers) == 1
            cut = (
                "the whole step"
                if whole
                else f"slices of {one.layers[0]} and {one.layers[1]} layers, extrapolated"
            )
            note = f"momentary buffers from the compiler ({cut}; {one.seconds:.0f} s on fake devices)"
        except WorkError as e:
            note = f"traced, not compiled: {e.what}"
        best = dataclasses.replace(best, memory=memory, speed=speed(work, best.sizes, hw, memory))
    return Plan(work, hw, best, memory, ranked, refused, measured, note)


def report(plan: Plan, tokens: float) -> dict[str, Any]:
    """Everything as plain values, for JSON and for tables.

    Args:
      tokens: positions that the recipe trains on.
    """
    work, hw, best = plan.work, plan.hardware, plan.best
    assert best.speed
    devices = device_count(best.sizes)
    flops = work.flops()
    moved = [
        {
            "collective": f.what,
            "axis": f.axis,
            "GB received a step": f.received / 1e9,
            "seconds": seconds(f, best.sizes, hw),
            "beside products": "yes" if f.hidden else "no",
        }
        for f in flows(work, best.sizes)
    ]
    memory = dataclasses.asdict(plan.memory)
    choices = ("rows", "seq_len", "accumulation", "remat", "param_dtype", "compute_dtype")
    return {
        "step": {
            **{k: getattr(work, k) for k in choices},
            "tokens": work.tokens,
            "lora": work.lora.model_dump() if work.lora else None,
        },
        "model": {"family": work.cfg.family, **dataclasses.asdict(count(work.cfg))},
        "mesh": best.sizes,
        "devices": devices,
        "hardware": dataclasses.asdict(hw),
        "fits": plan.memory.total <= hw.budget,
        "memory": {**memory, "total": plan.memory.total, "budget": hw.budget},
        "memory_note": plan.note,
        "compiled": plan.compiled,
        "flops": flops,
        "traffic": moved,
        "speed": dataclasses.asdict(best.speed),
        "cost": price(tokens, best.speed, devices, hw),
        "ranked": rows_of(plan.ranked, hw),
        "refused": [{"mesh": c.name, "reason": c.refused} for c in plan.refused],
    }
