"""A compiled step by its parts: kernels, products needed and not, collectives and what hides them, a roofline time."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from xlam_jax.parallel.hardware import Hardware
from xlam_jax.plan.hlo import parse
from xlam_jax.plan.schedule import Operation, operations


@dataclasses.dataclass(frozen=True)
class Needed:
    """What the model asks of one device in a step, in FLOPs.

    Attributes:
      products: of weights and adapters, forward and backward, each once.
      forward_attention: of the attention's own products in a forward pass.
    """

    products: float
    forward_attention: float


def account(
    text: str, needed: Needed, hw: Hardware, turns: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Everything that is read off an optimised program, as plain values.

    Args:
      text: `compiled.as_text()`, scheduled.
      turns: see `schedule.operations`.

    Returns:
      `kernels` {name: {written, run}}; `products` in FLOPs of a step and device (`needed`, `forward`, `recompute`,
      `backward`, `doubled`, `padding`: of the two passes what is neither needed nor doubled); `attention_runs`
      {forward, recompute, backward: runs}; `collectives` and `parts` as rows; `roofline` in seconds.
    """
    run = operations(parse(text), turns)
    run = [_with_attention(o, needed, run) for o in run]
    products = _products(run, needed)
    flown = _collectives(run, hw)
    parts = _parts(run, hw)
    busy = sum(row["seconds"] for row in parts)
    waited = sum(row["waited"] for row in flown)
    return {
        "kernels": _kernels(run),
        "products": products,
        "attention_runs": {
            stage: sum(o.times for o in run if o.kind == "attention kernel" and o.stage == stage)
            for stage in ("forward", "recompute", "backward")
        },
        "collectives": flown,
        "parts": parts,
        "roofline": {"busy": busy, "waited": waited, "seconds": busy + waited},
        "hlo_bytes": len(text),
    }


def _with_attention(o: Operation, needed: Needed, run: Sequence[Operation]) -> Operation:
    """A fused kernel does not say its FLOPs: the model's, shared out over its runs. Backward computes five products
    for the forward pass's two."""
    if o.kind != "attention kernel":
        return o
    backward = o.stage == "backward"
    alike = sum(p.times for p in run if p.kind == o.kind and p.stage == o.stage)
    whole = needed.forward_attention * (2.5 if backward else 1.0)
    return dataclasses.replace(o, flops=whole / alike if alike else 0.0)


def _products(run: Sequence[Operation], needed: Needed) -> dict[str, float]:
    by: defaultdict[str, float] = defaultdict(float)
    for o in run:
        if o.kind == "product":
            by[o.stage or "other"] += o.flops * o.times
            by["doubled"] += o.doubled * o.times
    total = sum(by[k] for k in ("forward", "recompute", "backward", "other"))
    padding = total - by["recompute"] - by["doubled"] - needed.products
    return {
        "needed": needed.products,
        **{k: by[k] for k in ("forward", "recompute", "backward", "other", "doubled")},
        "padding": padding,
        "total": total,
    }


def _kernels(run: Sequence[Operation]) -> dict[str, dict[str, float]]:
    written, times = Counter[str](), Counter[str]()
    for o in run:
        if o.kind == "collective":
            continue
        name = o.kernel or ("fusion with a product" if o.flops else "plain fusions")
        written[name] += 1
        times[name] += o.times  # type: ignore[assignment]
    return {name: {"written": count, "run": times[name]} for name, count in written.most_common()}


def seconds_of(o: Operation, hw: Hardware) -> float:
    """Of one run at the roofline: the slower of arithmetic and memory."""
    return max(o.flops / hw.ceiling, o.bytes / hw.bandwidth)


def _collectives(run: Sequence[Operation], hw: Hardware) -> list[dict[str, Any]]:
    """A row for each kind of collective: how many, bytes received, and what their transfer waits for."""
    rows: defaultdict[tuple[str, bool, int, bool], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for n, o in enumerate(run):
        if o.kind != "collective" or o.ends or not o.times:  # in a loop that even routing never enters
            continue
        row = rows[o.kernel, bool(o.begins), len(o.group), _near(o, hw) < len(o.group)]
        transfer = _transfer(o, hw)
        beside = _beside(run, n, hw) if o.begins else 0.0
        row["written"] += 1
        row["run"] += o.times
        row["received"] += o.bytes * o.times
        row["seconds"] += transfer * o.times
        row["waited"] += max(0.0, transfer - beside) * o.times
    return [
        {
            "collective": name,
            "asynchronous": "yes" if later else "no",
            "devices": group,
            "over": "network" if far else "links",
            **row,
        }
        for (name, later, group, far), row in sorted(rows.items(), key=lambda kv: -kv[1]["received"])
    ]


def _near(o: Operation, hw: Hardware) -> int:
    """How many devices of a collective's group are in one fast domain; devices are numbered domain by domain."""
    return sum(device // hw.domain == o.group[0] // hw.domain for device in o.group)


def _transfer(o: Operation, hw: Hardware) -> float:
    """Seconds of one run, as `traffic.seconds` has them: inside a domain at the links' rate, and each byte from other
    domains once, over the network cards of the group's devices together."""
    near, ways = _near(o, hw), len(o.group)
    outside = o.bytes * (ways - near) / max(1, ways - 1)
    return max(o.bytes / hw.link, outside / (hw.network * near))


def _beside(run: Sequence[Operation], start: int, hw: Hardware) -> float:
    """Seconds of the operations that stand between an asynchronous collective's start and its end."""
    total, opened = 0.0, run[start]
    for o in run[start + 1 :]:
        if o.ends == opened.begins:
            return total
        if o.kind != "collective":
            total += seconds_of(o, hw) * o.times / opened.times
    return 0.0


def _parts(run: Sequence[Operation], hw: Hardware) -> list[dict[str, Any]]:
    """A row for each part of the model, pass and kind, the longest at the roofline first."""
    rows: defaultdict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for o in run:
        if o.kind == "collective":
            continue
        row = rows[o.part, o.stage, o.kind]
        row["run"] += o.times
        row["flops"] += o.flops * o.times
        row["bytes"] += o.bytes * o.times
        row["seconds"] += seconds_of(o, hw) * o.times
    return [
        {"part": part, "pass": stage, "kind": kind, **row}
        for (part, stage, kind), row in sorted(rows.items(), key=lambda kv: -kv[1]["seconds"])
    ]
