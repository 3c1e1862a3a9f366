"""What an optimised program runs in a step: each operation with how often, where it belongs, and what it costs.

Loops run as often as XLA knows they do. Every value is numbered by what computes it from what, through fusions and
views, so that two products of the same operands are found to be one product computed twice.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xlam_jax.plan import hlo
from xlam_jax.plan.hlo import Computation, Instruction, Program

# Innermost first: experts and the router stand inside the mlp.
PARTS = ("router", "experts", "attention", "attention_out", "qkv", "mlp", "loss", "embed", "optimizer")
COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip
_FREE = {
    "parameter", "tuple", "get-tuple-element", "constant", "bitcast", "after-all", "partition-id", "replica-id",
    "opt-barrier", "copy-done", "async-update", "add-dependency",
}  # fmt: skip
_SAME = {"bitcast", "reshape", "copy", "opt-barrier", "copy-start", "copy-done", "fusion-done", "async-done"}
_FUSIONS = ("fusion", "fusion-start")  # the second on a stream of its own


@dataclasses.dataclass(frozen=True)
class Operation:
    """Something that a step runs.

    Attributes:
      times: in a step.
      kind: "product", "attention kernel", "collective" or "other".
      kernel: a library's or a compiler's name for it; empty for plain fusions.
      part, stage: of the model, and "forward", "recompute", "backward" or "" (see `place`).
      flops, bytes: of one run; bytes are read and written in the device's memory, or received by a collective.
      doubled: FLOPs among them of a product that was computed before.
      scope: computation that it stands in.
      begins, ends: for a collective, "" or the name of the asynchronous pair that it opens or closes.
      group: devices that a collective runs over.
    """

    name: str
    times: float
    kind: str
    kernel: str
    part: str
    stage: str
    flops: float
    bytes: float
    doubled: float = 0.0
    scope: str = ""
    begins: str = ""
    ends: str = ""
    group: tuple[int, ...] = ()


def place(path: str) -> tuple[str, str]:
    """(part of the model, pass) of an `op_name`: its scopes, and what `jax.checkpoint` computes a second time."""
    words = re.split(r"[/()]", path)
    part = next((name for name in PARTS if name in words), "rest")
    if part == "optimizer" or not path:
        return part, ""
    if "rematted_computation" in words:
        return part, "recompute"
    # With its parenthesis it is the transformation; without, an array that is transposed.
    return part, "backward" if "transpose(" in path else "forward"


def operations(program: Program, turns: Mapping[str, float] | None = None) -> list[Operation]:
    """All that a step runs, in the order in which it is started, loops' bodies where their loops stand.

    Args:
      turns: part of the model -> turns of its loops whose number is known at run time only; 1 for others.
    """
    return list(_Walk(program, turns or {}).run(program.entry, 1.0))


class _Walk:
    """Goes through the computations that are run, and numbers values on its way."""

    def __init__(self, program: Program, turns: Mapping[str, float]):
        self._program, self._turns = program, turns
        self._numbers: dict[Any, int] = {}
        self._tuples: dict[int, tuple[int, ...]] = {}
        self._products: set[tuple[Any, ...]] = set()

    def run(self, name: str, times: float) -> Iterator[Operation]:
        values: dict[str, int] = {}
        computation = self._program.computations[name]
        for i in computation.values():
            values[i.name], doubled = self._value(i, computation, values, name, self._stage(i))
            if i.opcode == "while":
                known = hlo.turns(self._program, i, computation)
                turns = self._turns.get(place(i.op_name)[0], 1.0) if known is None else known
                yield from self.run(_body(i), times * turns)
            elif i.opcode == "call":
                yield from self.run(i.called, times)
            elif i.opcode == "conditional":
                for branch in re.findall(r"%([\w.-]+)", i.attributes):
                    if branch in self._program.computations:
                        yield from self.run(branch, times)
            elif i.opcode not in _FREE and (one := self._operation(i, computation, times, doubled, name)):
                yield one

    def _operation(
        self, i: Instruction, computation: Computation, times: float, doubled: float, scope: str
    ) -> Operation | None:
        part, stage = place(self._program.path(i))
        if i.opcode.endswith("-done"):
            opener = computation.get(i.operands[0])
            if opener is None or not (what := self._collective(opener)):
                return None
            return Operation(i.name, times, "collective", what, part, stage, 0, 0, 0, scope, ends=opener.name)
        if what := self._collective(i):
            begins = i.name if i.opcode.endswith("-start") and '"is_sync":true' not in i.attributes else ""
            group = _group(self._whole(i))
            size = _received(what, self._whole(i), computation, len(group))
            return Operation(
                i.name, times, "collective", what, part, stage, 0, size, 0, scope, begins, group=group
            )
        flops = sum(hlo.products(self._program, i, computation))
        kernel = _kernel(i)
        if kernel.startswith("splash"):
            part, stage = "attention", _splash_stage(kernel, computation)
        kind = "attention kernel" if is_attention(kernel) else "product" if flops else "other"
        moved = hlo.moved(self._program, i, computation)
        return Operation(i.name, times, kind, kernel, part, stage, flops, moved, doubled, scope)

    def _whole(self, i: Instruction) -> Instruction:
        """The collective itself where a start only wraps it."""
        if i.opcode != "async-start":
            return i
        return next(x for x in self._program.body(i).values() if x.opcode in COLLECTIVES)

    def _collective(self, i: Instruction) -> str:
        what = i.opcode.removesuffix("-start")
        if what == "async":
            return next((x.opcode for x in self._program.body(i).values() if x.opcode in COLLECTIVES), "")
        return what if what in COLLECTIVES else ""

    def _stage(self, i: Instruction) -> str:
        return place(self._program.path(i))[1]

    # -- values ----

    def _number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _value(
        self, i: Instruction, computation: Computation, values: dict[str, int], scope: str, stage: str
    ) -> tuple[int, float]:
        """(number of the result, FLOPs of products inside that were computed before)."""
        given = tuple(values[name] for name in i.operands if name in values)
        if i.opcode == "tuple":
            number = self._number(("tuple", given))
            self._tuples[number] = given
            return number, 0.0
        if i.opcode == "get-tuple-element" and given[0] in self._tuples:
            return self._tuples[given[0]][i.index], 0.0
        if i.opcode in _SAME and given:
            return given[0], 0.0
        if i.opcode in _FUSIONS:
            return self._fused(i, given, scope)
        if i.opcode in ("parameter", "while", "conditional", "call", "rng-bit-generator", "infeed"):
            return self._number((scope, i.name)), 0.0
        shape = tuple((s.dtype, s.dims) for s in i.shapes[:1])  # a library's scratch space is no difference
        flops = hlo.flops(i, computation)
        if flops:
            key = ("product", given, shape, flops)
            doubled = flops if (scope, stage, key) in self._products else 0.0
            self._products.add((scope, stage, key))
            return self._number(key), doubled
        # What a line says of itself: its constant, its dimensions, its comparison.
        said = re.sub(r"(metadata|backend_config|frontend_attributes|sharding)=\{.*", "", i.attributes)
        literal = i.literal if i.opcode in ("constant", "iota") else ""
        return self._number((i.opcode, shape, given, literal, said, i.index)), 0.0

    def _fused(self, i: Instruction, given: tuple[int, ...], scope: str) -> tuple[int, float]:
        body = self._program.body(i)
        inside: dict[str, int] = {}
        doubled, result = 0.0, -1
        stage = self._stage(i)
        for x in body.values():
            if x.opcode == "parameter":
                inside[x.name] = given[int(x.literal)]
            else:
                inside[x.name], twice = self._value(x, body, inside, scope, self._stage(x) or stage)
                doubled += twice
            if x.root:
                result = inside[x.name]
        return result, doubled


def is_attention(kernel: str) -> bool:
    """Whether a kernel of this name is fused attention, forward or backward."""
    return "fmha" in kernel or "splash" in kernel


def _splash_stage(kernel: str, computation: Computation) -> str:
    """Which pass a kernel of splash attention belongs to: a forward one beside backward ones is computed again."""
    beside = [name for name in computation if name.startswith(("splash_mha_dq", "splash_mha_dkv"))]
    if "_fwd" not in kernel:
        return "backward"
    return "recompute" if beside else "forward"


def _body(i: Instruction) -> str:
    match = re.search(r"\bbody=%?([\w.-]+)", i.attributes)
    assert match, i.name
    return match[1]


def _kernel(i: Instruction) -> str:
    if i.opcode == "custom-call":
        # A Pallas kernel of a TPU keeps its name in the instruction's, and nothing else.
        return re.sub(r"\.\d+$", "", i.name) if i.target == "tpu_custom_call" else i.target
    kind = re.search(r'"kind":"(__[\w$]+)"', i.attributes)
    return kind[1] if kind else ""


def _group(i: Instruction) -> tuple[int, ...]:
    """Devices of the first group that a collective runs over, from any way of writing groups."""
    said = i.attributes
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", said):
        ids = np.arange(int(match[1]) * int(match[2])).reshape(tuple(map(int, match[3].split(","))))
        ids = ids.transpose(tuple(map(int, match[4].split(",")))) if match[4] else ids
        return tuple(ids.reshape(-1)[: int(match[2])].tolist())
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", said):
        sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", match[1])}
        along = re.findall(r"'(\w+)'", match[2])
        ids = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
        return tuple(ids[tuple(slice(None) if axis in along else 0 for axis in sizes)].reshape(-1).tolist())
    if match := re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)\}", said):
        return tuple(map(int, match[1].split(",")))
    return (0,)


def _received(what: str, i: Instruction, computation: Computation, group: int) -> float:
    """Bytes into each device, by rings."""
    given = sum(computation[name].bytes for name in i.operands if name in computation)
    # A start's result also lists what it was given; the whole of a gather or of a scatter is the larger side.
    largest = max([s.bytes for s in i.shapes] or [0.0])
    whole = max(given, largest) if len(i.operands) == 1 else max(given, i.bytes - given)
    share = (group - 1) / max(1, group)
    if what == "all-reduce":
        return 2 * given * share
    if what == "all-gather":
        return max(given * group, whole) * share
    if what in ("collective-permute", "collective-broadcast"):
        return given
    return (given or whole) * share
