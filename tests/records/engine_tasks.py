"""Work for the engines' tests; worker processes import it, so it must not pull in jax."""

import json
import os
import signal
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Tool, ToolCall
from xlam_jax.ledger import Entry
from xlam_jax.records.engine import ChunkResult, RecordTask


def record(i):
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    tools = tuple(Tool(f"tool_{k}", "é 東京", parameters) for k in range(4))
    return Record(f"r{i}", f"Query {i}?", tools, (Step("", (ToolCall("tool_1", {"x": i}),)),), source="made")


def write_rows(path, count):
    """`count` records, every 50th line broken."""
    with Path(path).open("w", encoding="utf-8") as f:
        for i in range(count):
            f.write("no json\n" if i % 50 == 49 else json.dumps(record(i).to_json()) + "\n")
    return path


@dataclass(frozen=True)
class Shuffle:
    """Shuffles tools by a generator of the global row index; drops every 7th row, doubles every 11th."""

    seed: int = 0
    pause: float = 0.0

    def __call__(self, index, record):
        time.sleep(self.pause)
        rng = np.random.default_rng([self.seed, zlib.crc32(b"shuffle"), index])
        if index % 7 == 6:
            return (), [Entry(record.id, record.source, "shuffle", "dropped", "seventh")]
        tools = tuple(record.tools[k] for k in rng.permutation(len(record.tools)))
        out = replace(record, tools=tools, lineage=(f"shuffle:{index}",))
        return [out] * (2 if index % 11 == 10 else 1), [Entry(record.id, record.source, "shuffle", "pass")]


def shuffle_task(pause=0.0):
    return RecordTask(Shuffle(pause=pause), "shuffle")


def count_task(start, items):
    return ChunkResult([str(start)])


class Awkward(Exception):
    """An error that cannot be unpickled, as several clients' errors are."""

    def __init__(self, *, status):
        super().__init__(f"status {status}")


def failing_task(start, items):
    if start >= 4:
        raise InputError("row is bad", where=f"row {start}", hint="mend it")
    return ChunkResult([str(start)])


def awkward_task(start, items):
    raise Awkward(status=503)


@dataclass(frozen=True)
class Dies:
    """Kills its own process at row `at`; with `once`, a path, only if that file is not there yet."""

    at: int
    once: str = ""

    def __call__(self, start, items):
        if start <= self.at < start + len(items) and not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ChunkResult([str(i) for i in items], [Entry(str(i), "", "dies", "pass") for i in items])


@dataclass(frozen=True)
class Slow:
    """Sleeps for each chunk, and leaves its process id in a folder."""

    folder: str
    pause: float = 0.2

    def __call__(self, start, items):
        (Path(self.folder) / str(os.getpid())).touch()
        time.sleep(self.pause)
        return ChunkResult([str(i) for i in items], [Entry(str(i), "", "slow", "pass") for i in items])


def where_task(start, items):
    import ray

    time.sleep(0.1)
    return ray.get_runtime_context().get_node_id()
