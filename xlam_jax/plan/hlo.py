"""Reading the text of an optimised HLO program: its computations, and what each instruction costs.

The text is what `compiled.as_text()` gives after scheduling: instructions stand in the order in which they are started.
XLA writes products in three ways, as `dot`, as `convolution` (TPU) and as calls of cuBLAS (NVIDIA).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "f4e2m1fn": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
    "f8e4m3": 8, "f8e4m3fn": 8, "f8e4m3b11fnuz": 8, "f8e4m3fnuz": 8, "f8e5m2": 8, "f8e5m2fnuz": 8, "f8e3m4": 8,
    "f8e8m0fnu": 8,
}  # fmt: skip
_SHAPE = re.compile(r"\b(" + "|".join(sorted(_BITS, key=len, reverse=True)) + r")\[([\d,]*)\]")
_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.-]+) = ")
_OPCODE = re.compile(r"([\w-]+)\(")
_OPERAND = re.compile(r"%([\w.-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|called_computations=\{)=?%?([\w.-]+)")
_VIEWS = ("bitcast", "reshape", "get-tuple-element", "opt-barrier")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array: dtype as HLO writes it, and its sizes."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> float:
        """Without padding."""
        return self.count * _BITS[self.dtype] / 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      shapes: arrays of the result, those of a tuple one after the other.
      operands: names of instructions of the same computation.
      literal: what stands between the parentheses: a parameter's number, a constant's value.
      attributes: the rest of the line.
    """

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    literal: str
    attributes: str
    root: bool

    @property
    def bytes(self) -> float:
        """Of the whole result."""
        return sum(s.bytes for s in self.shapes)

    @functools.cached_property
    def target(self) -> str:
        """Of a custom call; empty for others."""
        return _first(r'custom_call_target="([^"]+)"', self.attributes)

    @functools.cached_property
    def op_name(self) -> str:
        """Where in the traced program it comes from: names of transformations and scopes."""
        return _first(r'op_name="([^"]*)"', self.attributes)

    @functools.cached_property
    def called(self) -> str:
        """The computation that a fusion, call, loop or asynchronous start runs."""
        return _first(_CALLED.pattern, self.attributes)

    @property
    def index(self) -> int:
        """Of a `get-tuple-element`."""
        return int(_first(r"\bindex=(\d+)", self.attributes) or 0)


Computation = dict[str, Instruction]  # in the order of the text


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name, and which of them is run."""

    computations: dict[str, Computation]
    entry: str

    def body(self, instruction: Instruction) -> Computation:
        """Of what an instruction calls; empty for one that calls nothing."""
        return self.computations.get(instruction.called, {})

    def path(self, instruction: Instruction) -> str:
        """`op_name`; of one that the compiler made, the last name inside of what it calls."""
        if instruction.op_name:
            return instruction.op_name
        named = (self.path(i) for i in reversed(self.body(instruction).values()))
        return next(filter(None, named), "")


def parse(text: str) -> Program:
    """The program of `compiled.as_text()`.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line[:1].isspace():
            if current is not None and (instruction := _instruction(line)):
                current[instruction.name] = instruction
        elif match := _HEAD.match(line):
            current = computations.setdefault(match[2], {})
            entry = match[2] if match[1] else entry
    if not entry:
        raise ValueError("no ENTRY computation in this HLO text")
    return Program(computations, entry)


def _instruction(line: str) -> Instruction | None:
    match = _LINE.match(line)
    if not match:
        return None
    rest = _COMMENT.sub("", line[match.end() :]) if "/*" in line else line[match.end() :]
    end = _closing(rest, 0) if rest.startswith("(") else rest.find(" ")
    kind, rest = rest[: end + 1], rest[end + 1 :].lstrip()
    opcode = _OPCODE.match(rest)
    if not opcode:
        return None
    end = _closing(rest, opcode.end() - 1)
    inside = rest[opcode.end() : end]
    return Instruction(
        match[2], shapes_of(kind), opcode[1], tuple(_OPERAND.findall(inside)), inside, rest[end + 1 :], bool(match[1])
    )  # fmt: skip


def shapes_of(text: str) -> tuple[Shape, ...]:
    """Every array that a type names."""
    return tuple(Shape(d, tuple(map(int, filter(None, n.split(","))))) for d, n in _SHAPE.findall(text))


def _closing(text: str, start: int) -> int:
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.start()
    return len(text)


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def turns(program: Program, loop: Instruction, computation: Computation) -> int | None:
    """How often a `while` runs, where the program tells: XLA's own word, or a counter between two constants. None where
    the data decides."""
    if known := _first(r'known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(known)
    condition = program.computations.get(_first(r"\bcondition=%?([\w.-]+)", loop.attributes), {})
    ends = [i for c in (condition, *map(program.body, condition.values())) for i in c.values()]
    limits = [int(i.literal) for i in ends if i.opcode == "constant" and i.shapes == (Shape("s32", ()),)]
    carried = computation.get(loop.operands[0])
    # Of a loop in a computation of its own the carried values are a parameter, which tells nothing.
    start = computation.get(carried.operands[0]) if carried and carried.operands else None
    while start is not None and start.opcode in ("copy", "bitcast"):
        start = computation.get(start.operands[0])
    if len(limits) != 1 or start is None or start.opcode != "constant":
        return None
    return limits[0] - int(start.literal)


# -- FLOPs of products ----


def flops(instruction: Instruction, computation: Computation) -> float:
    """Of one product, two for each multiplication; 0 for what is none. Fusions: see `products`."""
    i = instruction
    if i.opcode == "dot":
        return _contracted(i, computation, _first(r"lhs_contracting_dims=\{([\d,]*)\}", i.attributes))
    if i.opcode == "custom-call" and is_matmul(i.target):
        dims = _first(r'"lhs_contracting_dimensions":\[([^\]]*)\]', i.attributes)
        return _contracted(i, computation, dims)
    if i.opcode == "convolution":
        return _convolution(i, computation)
    return 0.0


def is_matmul(target: str) -> bool:
    """Whether a custom call is a matrix product of a library."""
    return "matmul" in target or "gemm" in target


def products(program: Program, instruction: Instruction, computation: Computation) -> Iterator[float]:
    """FLOPs of each product that an instruction runs, itself or inside of its fusion."""
    if own := flops(instruction, computation):
        yield own
    elif instruction.opcode in ("fusion", "fusion-start", "async-start"):
        body = program.body(instruction)
        for inner in body.values():
            yield from products(program, inner, body)


def _contracted(i: Instruction, computation: Computation, dims: str) -> float:
    left = computation[i.operands[0]].shapes[0].dims
    return 2.0 * i.shapes[0].count * math.prod(left[n] for n in _numbers(dims))


def _convolution(i: Instruction, computation: Computation) -> float:
    """A product of matrices as a TPU has it: batch dimensions are spatial ones, most of whose taps meet padding."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.attributes)
    if not labels:
        return 0.0
    left, right = (computation[name].shapes[0].dims for name in i.operands[:2])
    out = i.shapes[0].dims
    window = _first(r"window=\{([^}]*)\}", i.attributes)
    spatial = sorted(c for c in labels[2] if c.isdigit())

    def option(name: str, default: str) -> list[str]:
        return (_first(rf"\b{name}=([\w-]+)", window) or "x".join([default] * len(spatial))).split("x")

    pads, strides = option("pad", "0_0"), option("stride", "1")
    left_gaps, right_gaps = option("lhs_dilate", "1"), option("rhs_dilate", "1")
    taps = 1
    for n, c in enumerate(spatial):
        sizes = (left[labels[1].index(c)], right[labels[2].index(c)], out[labels[3].index(c)])
        low = int(pads[n].split("_")[0])
        taps *= _taps(*sizes, low, int(strides[n]), int(left_gaps[n]), int(right_gaps[n]))
    features = right[labels[2].index("i")]
    others = out[labels[3].index("b")] * out[labels[3].index("f")]
    return 2.0 * taps * features * others


def _taps(size: int, kernel: int, out: int, low: int, stride: int, left_gap: int, right_gap: int) -> int:
    """Pairs of an output and a kernel element that meet an element of the input, along one dimension."""
    last = (size - 1) * left_gap
    count = 0
    for k in range(kernel):
        for o in range(out):
            at = o * stride + k * right_gap - low
            count += 0 <= at <= last and at % left_gap == 0
    return count


# -- bytes that an instruction moves ----


def moved(program: Program, instruction: Instruction, computation: Computation) -> float:
    """Bytes read and written in the device's memory, each operand once; of what is sliced, the slice."""
    i = instruction
    if i.opcode == "dynamic-update-slice":
        return 2 * computation[i.operands[1]].bytes
    if i.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * i.bytes
    if i.opcode in ("fusion", "fusion-start"):
        return _fusion(program.body(i)) or i.bytes
    return i.bytes + sum(computation[name].bytes for name in set(i.operands) if name in computation)


def _fusion(body: Computation) -> float:
    users: defaultdict[str, list[Instruction]] = defaultdict(list)
    for i in body.values():
        for name in i.operands:
            users[name].append(i)
    total = 0.0
    for i in body.values():
        if i.opcode == "parameter":
            total += min(i.bytes, _read(i, users))
        if i.root:
            total += _written(i, body)
    return total


def _read(i: Instruction, users: dict[str, list[Instruction]]) -> float:
    total = 0.0
    for user in users.get(i.name, ()):
        first = user.operands[0] == i.name
        if user.opcode in ("dynamic-slice", "slice", "gather") and first:
            total += user.bytes
        elif user.opcode in _VIEWS:
            total += _read(user, users)
        elif not (user.opcode == "dynamic-update-slice" and first):  # written in place
            return i.bytes
    return total


def _written(i: Instruction, body: Computation) -> float:
    if i.opcode == "dynamic-update-slice":
        return body[i.operands[1]].bytes
    if i.opcode == "tuple" or i.opcode in _VIEWS:
        return sum(_written(body[name], body) for name in i.operands if name in body)
    return 0.0 if i.opcode == "parameter" else i.bytes
