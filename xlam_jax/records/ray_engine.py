"""The engine for more than one machine: chunks as Ray tasks, results in order.

Ray Core rather than Ray Data: a chunk must carry the global index of its first row and keep its place, which
a task does by itself, while a dataset re-blocks rows and converts them to Arrow on the way. Tasks are pure,
so Ray may run one again when its worker or its node is lost; only one result is ever taken.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from xlam_jax.errors import InputError, WorkError
from xlam_jax.extras import need
from xlam_jax.records.engine import CHUNK_ROWS, ChunkTask, R, chunks, portable

# A chunk is given up when this many machines or processes in a row died with it: then the chunk kills them.
RETRIES = 5


@dataclass(frozen=True)
class _Failure:
    """An error of the task itself, which running it again would not mend."""

    error: Exception


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster, whose nodes need this package installed (`pip install 'xlam-jax[ray]'`).

    A connection of this process to a cluster is used as it is; one made here stays until the process ends.

    Attributes:
      workers: chunks in work at once, and as many again wait for a worker or to be taken, which bounds
        memory. 1, the commands' default, and 0 mean one for each CPU of the cluster.
      address: `host:port` of the head, or `auto` for the cluster that this machine is part of. Empty: what
        RAY_ADDRESS says, else a fresh cluster on this machine alone.
    """

    workers: int = 0
    address: str = ""

    def run(
        self, task: ChunkTask[R], items: Iterable[Any], chunk_rows: int = CHUNK_ROWS
    ) -> Generator[R, None, None]:
        """See `RowEngine`; a lost worker or node costs time only.

        Raises:
          InputError: Ray is not installed, or no cluster answers at `address`.
          WorkError: a chunk was lost more than `RETRIES` times, or the nodes lack a module.
          Exception: whatever the task raised.
        """
        workers = self.workers if self.workers > 1 else 0
        ray = _connected(self.address, workers)
        in_flight = 2 * (workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
        run_chunk = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_run_chunk)
        # In a list, because Ray would fetch and unpickle a bare reference for every chunk.
        shared = [ray.put(task)]
        waiting: deque[Any] = deque()
        try:
            for start, chunk in chunks(items, chunk_rows):
                waiting.append(run_chunk.remote(shared, start, chunk))
                if len(waiting) >= in_flight:
                    yield _result(ray, waiting.popleft())
            while waiting:
                yield _result(ray, waiting.popleft())
        finally:
            for ref in waiting:
                ray.cancel(ref)


def _connected(address: str, cpus: int) -> Any:
    """The ray module, connected; `cpus` is the size of a cluster that is started here, 0 for every core."""
    # Ray reports its use to its makers unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    need("ray", "ray", where="--engine ray", instead="--engine local")
    import ray

    if ray.is_initialized():
        return ray
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    alone = {"include_dashboard": False, "num_cpus": cpus or None} if address == "local" else {}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **alone)
    except (ConnectionError, TimeoutError, socket.gaierror) as e:
        raise InputError(
            "no Ray cluster answers",
            where=f"address {address}",
            hint="start one with `ray start --head`, or leave --ray-address out to use this machine alone",
        ) from e
    return ray


def _run_chunk(shared: list[Any], start: int, chunk: list[Any]) -> Any:
    task = _task(shared[0])
    try:
        return task(start, chunk)
    except Exception as e:
        return _Failure(portable(e))


@functools.lru_cache(maxsize=1)
def _task(ref: Any) -> ChunkTask[Any]:
    """Once a worker process: a task may load a tokenizer and keep it."""
    import ray

    return ray.get(ref)


def _result(ray: Any, ref: Any) -> Any:
    try:
        result = ray.get(ref)
    except ray.exceptions.RayTaskError as e:
        # What the task itself raises comes back as a _Failure: this is an import or a pickle.
        raise WorkError(
            f"a node cannot run the work: {(str(e).strip().splitlines() or [''])[-1]}",
            hint="install the same xlam-jax, and your own modules, on every node of the cluster",
        ) from e
    except ray.exceptions.RayError as e:
        what = (str(e).splitlines() or [""])[0]
        raise WorkError(
            f"the cluster lost a chunk {RETRIES + 1} times ({type(e).__name__}: {what})",
            hint="the rows of the chunk may exhaust memory or crash the worker; try --engine local",
        ) from e
    if isinstance(result, _Failure):
        raise result.error
    return result
