"""What a mesh of fake CPU devices needs so that its collectives do not take each other's data.

JAX gives every collective of a `shard_map` the same channel. XLA's CPU backend finds the partners of a collective by
run, devices, kind and channel, and starts what does not depend on each other in any order: a gather of the head beside
a loop of layers that gathers experts over the same devices. Device 0's head then meets device 4's experts, and the
step yields garbage, or waits for ever. GPUs and TPUs run collectives in the order of the program and are not concerned.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable
from typing import Any

from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

from xlam_jax.compat import wrap_compile

log = logging.getLogger(__name__)
_DEVICE_TO_DEVICE = 1  # the type of channel that StableHLO's specification asks of collectives
_COLLECTIVES = {
    f"stablehlo.{kind}"
    for kind in (
        "all_gather",
        "all_reduce",
        "all_to_all",
        "collective_broadcast",
        "collective_permute",
        "reduce_scatter",
    )
}


def separate_channels() -> None:
    """From now on every program compiled for the CPU gives each of its collectives a channel of its own.

    Calling it again changes nothing. Where JAX no longer compiles by the function that this wraps, it warns.
    """
    if not wrap_compile(_separating):
        log.warning(
            "JAX no longer compiles where it did: on fake CPU devices collectives may take each other's data, so do "
            "not trust a loss computed on them"
        )


def _separating(compile_program: Callable[..., Any]) -> Callable[..., Any]:
    def separated(backend: Any, computation: ir.Module, *args: Any, **kwargs: Any) -> Any:
        if backend.platform == "cpu":
            number_channels(computation)
        return compile_program(backend, computation, *args, **kwargs)

    return separated


def number_channels(program: ir.Module) -> int:
    """Numbers the channels of a lowered program's collectives in place, from 1 and alike for like programs.

    A function with collectives that is called twice is copied first: inlined, it would carry its numbers twice.

    Returns:
      the number of collectives.
    """
    functions = {_text(op, "sym_name"): op for op in _find(program.operation, {"func.func"})}
    symbols = ir.SymbolTable(program.operation)
    numbered: set[str] = set()
    channels = itertools.count(1)

    @functools.cache
    def communicates(name: str) -> bool:
        inner = _find(functions[name], _COLLECTIVES | {"func.call"})
        return any(op.name != "func.call" or communicates(_text(op, "callee")) for op in inner)

    def number(function: ir.Operation) -> None:
        for op in _find(function, _COLLECTIVES | {"func.call"}):
            if op.name != "func.call":
                op.attributes["channel_handle"] = stablehlo.ChannelHandle.get(
                    next(channels), _DEVICE_TO_DEVICE
                )
            elif communicates(name := _text(op, "callee")):
                called = functions[name]
                if name in numbered:
                    called = called.clone(ip=ir.InsertionPoint(program.body))
                    symbols.insert(called)  # which gives it a name of its own
                    name = _text(called, "sym_name")
                    functions[name] = called
                    op.attributes["callee"] = ir.FlatSymbolRefAttr.get(name)
                numbered.add(name)
                number(called)

    with program.context, ir.Location.unknown():
        if "main" in functions and communicates("main"):
            number(functions["main"])
    return next(channels) - 1


def _text(op: ir.Operation, attribute: str) -> str:
    value: Any = op.attributes[attribute]
    return value.value


def _find(root: ir.Operation, names: set[str]) -> list[ir.Operation]:
    operations = []

    def look(op: ir.Operation) -> ir.WalkResult:
        if op.name in names:
            operations.append(op)
        return ir.WalkResult.ADVANCE

    root.walk(look, ir.WalkOrder.PRE_ORDER)
    return operations
