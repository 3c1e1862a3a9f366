"""The pool: a bounded sample of all tools of an input, to draw other tools from."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format import Tool, normalise_tool
from xlam_jax.format.record import parse_line
from xlam_jax.records.augment.origin import masks_in
from xlam_jax.records.sources.rows import read_rows
from xlam_jax.records.sources.values import Refused


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


def collect_pool(values: Iterable[Any], size: int, seed: int) -> ToolPool:
    """The `size` tools whose seeded hashes are least: a sample that depends on no order, in flat memory.

    A tool counts once however often it is offered.

    Args:
      values: Records as JSON objects, or other objects with a list `tools`, or tools.
    """
    kept: list[tuple[int, str]] = []
    held: set[int] = set()
    for text in _tools(values) if size else ():
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


def record_values(lines: Iterable[tuple[bytes, str]]) -> Iterator[Any]:
    """The values of lines; what is no JSON is skipped, and the run over the same lines puts it into the ledger."""
    for line, where in lines:
        try:
            yield parse_line(line, where)
        except InputError:
            continue


def file_values(paths: Sequence[Path]) -> Iterator[Any]:
    """The values of the files that a user gives as a pool.

    Raises:
      InputError: a missing file, one that is no data file, or one without a single tool.
    """
    for path in paths:
        some = False
        for row in read_rows(path):
            try:
                value = row.value
            except Refused as e:
                raise InputError(e.detail, where=row.where) from None
            some = some or any(True for _ in _tools([value]))
            yield value
        if not some:
            hint = "Records, or tools: one JSON object a line"
            raise InputError("no tool in this pool", where=str(path), hint=hint)


def _tools(values: Iterable[Any]) -> Iterator[str]:
    for record in values:
        if not isinstance(record, dict):
            continue
        if not isinstance(record.get("tools"), list):
            if isinstance(record.get("name"), str) or isinstance(record.get("function"), dict):
                yield json.dumps(record)
            continue
        notes = record.get("lineage")
        masks = masks_in(notes if isinstance(notes, list) else ())
        for tool in record["tools"]:
            # Away from its row nothing would tell which function a masked one was.
            if not (isinstance(tool, dict) and tool.get("name") in masks):
                yield json.dumps(tool)
