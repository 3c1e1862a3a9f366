"""Where the time of a compiled step goes, by part of the model and pass, from the profiler's own trace.

The profiler times every operation that XLA launches; the compiled program says what each came from: the
`jax.named_scope` it stands in, and whether it belongs to the forward pass, the backward one, or what
`jax.checkpoint` computes a second time. A fusion counts as what its last operation is.
"""

from __future__ import annotations

import collections
import gzip
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from xlam_jax.plan.schedule import place

_log = logging.getLogger(__name__)

KINDS = ("product", "attention kernel", "other")
_OP = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = .*? ([a-z][\w-]*)\(")
_CALLED = re.compile(r"\b(?:calls|to_apply)=%?([\w.-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_OPERAND = re.compile(r"%([\w.-]+)")
_NAME = re.compile(r'op_name="([^"]*)"')


def profile(program: str, run: Callable[[], Any], steps: int = 3) -> list[dict[str, Any]]:
    """Runs `steps` under the profiler.

    Args:
      program: text of the compiled program that `run` executes (`compiled.as_text()`).
      run: starts one step and returns something to wait for.

    Returns:
      rows of {part, pass: "forward", "backward", "recompute" or "", kind: one of `KINDS`, milliseconds of a
      step summed over threads or streams, share}, the longest first.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                jax.block_until_ready(run())
        (path,) = Path(folder).rglob("*.trace.json.gz")
        trace = json.loads(gzip.decompress(path.read_bytes()))
    return totals(program, trace["traceEvents"], steps)


def profile_if_possible(program: str, run: Callable[[], Any]) -> list[dict[str, Any]] | None:
    """`profile`, or a warning and None: a machine without a working profiler must not lose what was timed."""
    try:
        return profile(program, run)
    except Exception as e:
        _log.warning("no profile: %s: %s", type(e).__name__, e)
        return None


def totals(program: str, events: Iterable[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """See `profile`; `events` as in a trace of the Trace Event Format."""
    known = operations(program)
    spent: collections.defaultdict[tuple[str, str, str], float] = collections.defaultdict(float)
    for name, microseconds in _self_times(events):
        spent[known.get(name) or _of_kernel(name)] += microseconds / 1e3 / steps
    whole = sum(spent.values()) or 1.0
    return [
        {"part": part, "pass": stage, "kind": kind, "milliseconds": ms, "share": ms / whole}
        for (part, stage, kind), ms in sorted(spent.items(), key=lambda item: -item[1])
    ]


def operations(program: str) -> dict[str, tuple[str, str, str]]:
    """Name of each operation of a program's text -> (part, pass, kind), see `profile`."""
    lines: dict[str, tuple[str, str]] = {}
    inside, users = collections.defaultdict(list), collections.defaultdict(list)
    computation = ""
    for line in program.splitlines():
        if line and not line[0].isspace():
            computation = line.removeprefix("ENTRY ").split(" ")[0].lstrip("%")
        elif match := _OP.match(line):
            lines[match[1]] = (match[2], line)
            inside[computation].append((match[2], line))
            for operand in _OPERAND.findall(line[match.end() :]):
                users[operand].append(match[1])
    paths = {name: _path(line, inside) for name, (_, line) in lines.items()}
    return {
        name: (*place(paths[name] or _path_of_users(name, users, paths)), _kind(opcode, line, inside))
        for name, (opcode, line) in lines.items()
    }


def _path(line: str, inside: dict[str, list[tuple[str, str]]]) -> str:
    """Where an operation comes from; one that the compiler made, from the last named one inside it."""
    if match := _NAME.search(line):
        return match[1]
    called = _CALLED.search(line)
    within = (_path(text, inside) for _, text in reversed(inside[called[1]])) if called else ()
    return next((path for path in within if path), "")


def _path_of_users(name: str, users: dict[str, list[str]], paths: dict[str, str], depth: int = 4) -> str:
    """The compiler drops some names (of batched products on a CPU); what takes the result has one."""
    for user in users.get(name, ()):
        if path := paths.get(user) or (depth and _path_of_users(user, users, paths, depth - 1)):
            return path
    return ""


def _kind(opcode: str, line: str, inside: dict[str, list[tuple[str, str]]]) -> str:
    target = match[1] if (match := _TARGET.search(line)) else ""
    if "fmha" in target:
        return "attention kernel"
    if opcode in ("dot", "convolution") or "gemm" in target or "matmul" in target:
        return "product"
    called = _CALLED.search(line) if opcode in ("fusion", "call") else None
    kinds = {_kind(code, text, inside) for code, text in inside[called[1]]} if called else set()
    return next((kind for kind in ("attention kernel", "product") if kind in kinds), "other")


def _self_times(events: Iterable[dict[str, Any]]) -> Iterable[tuple[str, float]]:
    """(operation, microseconds without those of the operations inside it) of every execution.

    A kernel of a device that the profiler ties to no operation goes by its own name.
    """
    events = list(events)
    # A device's streams; what the profiler derives from them stands beside them and would count twice.
    streams = {
        (event.get("pid"), event.get("tid"))
        for event in events
        if event.get("name") == "thread_name" and str(event["args"].get("name", "")).startswith("Stream")
    }
    threads = collections.defaultdict(list)
    for event in events:
        place = (event.get("pid"), event.get("tid"))
        name = (event.get("args") or {}).get("hlo_op") or (event.get("name") if place in streams else None)
        if event.get("ph") == "X" and name and (not streams or place in streams):
            threads[place].append((event["ts"], event["ts"] + event["dur"], name))
    for spans in threads.values():
        open_spans: list[list[Any]] = []  # [end, operation, self time]
        for begin, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_spans and open_spans[-1][0] <= begin:
                _, done, own = open_spans.pop()
                yield done, own
            if open_spans:
                open_spans[-1][2] -= min(end, open_spans[-1][0]) - begin
            open_spans.append([end, name, end - begin])
        yield from ((name, own) for _, name, own in open_spans)


def _of_kernel(name: str) -> tuple[str, str, str]:
    """What the name of a bare kernel tells."""
    if re.search("fmha|flash|attention|cudnn", name, re.IGNORECASE):
        return "unnamed", "", "attention kernel"
    product = re.search("gemm|nvjet|cutlass|xmma|matmul", name, re.IGNORECASE)
    return "unnamed", "", "product" if product else "other"
