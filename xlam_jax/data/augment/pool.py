"""The pool: a bounded sample of all tools of an input, to draw other tools from."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from xlam_jax.data.augment.origin import masks_in
from xlam_jax.errors import InputError
from xlam_jax.format import Tool, normalise_tool
from xlam_jax.format.record import parse_line


@dataclass(frozen=True)
class ToolPool:
    """Tools to draw from."""

    tools: tuple[Tool, ...] = ()

    def draw(self, rng: np.random.Generator, n: int, fits: Callable[[Tool], bool]) -> list[Tool]:
        """At most `n` different tools for which `fits` holds; gives up after 20 tries a tool."""
        drawn: list[Tool] = []
        if not self.tools:
            return drawn
        for index in rng.integers(len(self.tools), size=20 * n):
            tool = self.tools[int(index)]
            if all(tool.name != other.name for other in drawn) and fits(tool):
                drawn.append(tool)
                if len(drawn) == n:
                    break
        return drawn


def collect_pool(lines: Iterable[tuple[bytes, str]], size: int, seed: int) -> ToolPool:
    """The `size` tools whose seeded hashes are least: a sample that depends on no order, in flat memory.

    A tool counts once however often it is offered. Lines that are no Record are skipped; the run over the
    same lines puts them into the ledger.
    """
    kept: list[tuple[int, str]] = []
    held: set[int] = set()
    for text in _tools(lines) if size else ():
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=str(seed).encode())
        rank = -int.from_bytes(digest.digest(), "big")
        if rank in held or (len(kept) == size and rank < kept[0][0]):
            continue
        held.add(rank)
        if len(kept) < size:
            heapq.heappush(kept, (rank, text))
        else:
            held.discard(heapq.heapreplace(kept, (rank, text))[0])
    tools = []
    for _, text in sorted(kept, reverse=True):
        try:
            tools.append(normalise_tool(json.loads(text)))
        except InputError:
            continue
    return ToolPool(tuple(tools))


def _tools(lines: Iterable[tuple[bytes, str]]) -> Iterator[str]:
    for line, where in lines:
        try:
            record = parse_line(line, where)
        except InputError:
            continue
        if not isinstance(record, dict) or not isinstance(record.get("tools"), list):
            continue
        notes = record.get("lineage")
        masks = masks_in(notes if isinstance(notes, list) else ())
        for tool in record["tools"]:
            # Away from its row nothing would tell which function a masked one was.
            if not (isinstance(tool, dict) and tool.get("name") in masks):
                yield json.dumps(tool)
