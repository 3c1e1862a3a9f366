"""Runs function calls where they can do no harm, each in a fork of its own of a warm process inside walls.

The walls (`walls.kinds`) are the kernel's; a module is imported inside them, so its top level runs there too. A
call sees the interpreter as it was after the imports, whatever other calls did. It answers with one message of
bounded size, read strictly, before one deadline; whatever it does instead ends as an outcome of that call alone.
Without walls only the functions that this package ships are run, unless the caller trusts the others by name.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Literal

from xlam_jax.apigen.outcome import Limits, Outcome, read_outcome
from xlam_jax.apigen.walls import kinds, seccomp, zygote
from xlam_jax.apigen.walls.kinds import Kind
from xlam_jax.errors import InputError, WorkError

Call = tuple[str, dict[str, Any]]
_OWN = "xlam_jax"
_GRACE = 2.0  # seconds beyond a deadline that the inside has to report it
_IMPORT_SECONDS = 120.0
_IMPORT_BYTES = 16 * 2**30  # of address space, of which large packages reserve much and touch little
_SECOND_WORKER = 200  # calls that are worth starting a second process for
_MOST_WORKERS = 16


def walls(wanted: Kind | Literal["auto"] = "auto") -> tuple[Kind, str]:
    """The walls that this machine can put up, and why there are none.

    Raises:
      WorkError: the wanted walls do not stand here.
    """
    if wanted in ("docker", "podman"):
        if shutil.which(wanted):
            return wanted, ""
        raise WorkError(f"{wanted} is not installed", hint=f"install {wanted}, or use the default walls")
    if wanted == "none":
        return "none", "walls were not wanted"
    binary, reason = kinds.bubblewrap()
    if binary:
        return "bubblewrap", ""
    if wanted == "bubblewrap":
        raise WorkError(reason, hint="pip install 'xlam-jax[apigen]', or apt-get install bubblewrap")
    return "none", reason


class Sandbox:
    """Warm processes for calls, a pool per module; a context manager.

    Args:
      limits: bounds of every call.
      paths: folders where modules are looked up before the installed packages.
      kind: the walls; `auto` takes bubblewrap where it works.
      trust: run modules that are not this package's although there are no walls.
      workers: most processes that run calls of one module at a time.

    Raises:
      WorkError: the wanted walls do not stand here.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        paths: Sequence[str | os.PathLike[str]] = (),
        kind: Kind | Literal["auto"] = "auto",
        trust: bool = False,
        workers: int = 2,
    ):
        self.limits, self.paths, self.trust, self.workers = limits, tuple(paths), trust, workers
        self.kind: Kind
        self.kind, self.reason = walls(kind)
        self._idle: OrderedDict[str, list[_Worker]] = OrderedDict()

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Runs each `(target, arguments)` by keyword and returns the outcomes in order.

        Args:
          calls: target is `module:function`.

        Raises:
          InputError: a module is found nowhere, or may not be run without walls.
          WorkError: the walls cannot be put up after all.
        """
        groups: dict[str, list[int]] = {}
        for i, (target, _) in enumerate(calls):
            groups.setdefault(target.partition(":")[0].partition(".")[0], []).append(i)
        self._refuse(groups)
        outcomes: list[Outcome | None] = [None] * len(calls)
        for top, indices in groups.items():
            modules = {calls[i][0].partition(":")[0] for i in indices}
            count = self.workers if len(indices) >= _SECOND_WORKER else 1
            workers = self._take(top, modules, count)
            left = queue.SimpleQueue[int]()
            for i in indices:
                left.put(i)

            def work(worker: _Worker, left: queue.SimpleQueue[int] = left) -> None:
                with contextlib.suppress(queue.Empty):
                    while True:
                        i = left.get_nowait()
                        outcomes[i] = worker.call(*calls[i])

            try:
                # Each takes the next call, and no outcome depends on which of them ran it.
                for future in [worker.thread.submit(work, worker) for worker in workers]:
                    future.result()
            finally:
                self._idle[top] = workers
        self._shrink()
        return [o for o in outcomes if o is not None]

    def describe(self, module: str) -> Outcome:
        """What the functions of a module are, see `describe.functions_of`; the module is imported inside."""
        self._refuse([module.partition(".")[0]])
        return self.run([("xlam_jax.apigen.describe:functions_of", {"module": module})])[0]

    def close(self) -> None:
        """Ends every process."""
        while self._idle:
            for worker in self._idle.popitem()[1]:
                worker.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse(self, tops: Sequence[str] | dict[str, Any]) -> None:
        foreign = sorted(top for top in tops if top != _OWN)
        if foreign and self.kind == "none" and not self.trust:
            raise InputError(
                f"the module {foreign[0]!r} is not run without walls",
                where=self.reason,
                hint="pip install 'xlam-jax[apigen]' (Linux), --sandbox docker, or --trust to run it unprotected",
            )

    def _take(self, top: str, modules: set[str], count: int) -> list[_Worker]:
        workers = self._idle.pop(top, [])
        known = set().union(*(worker.modules for worker in workers), modules)
        for worker in workers:
            if not modules <= worker.modules:
                worker.stop()
                worker.modules = known
        while len(workers) < count:
            workers.append(_Worker(self, top, known))
        return workers

    def _shrink(self) -> None:
        while sum(map(len, self._idle.values())) > _MOST_WORKERS and len(self._idle) > 1:
            for worker in self._idle.popitem(last=False)[1]:
                worker.close()


def run_calls(
    calls: Sequence[Call],
    limits: Limits = Limits(),
    *,
    paths: Sequence[str | os.PathLike[str]] = (),
    kind: Kind | Literal["auto"] = "auto",
    trust: bool = False,
) -> list[Outcome]:
    """`Sandbox.run` in a sandbox of its own.

    Args:
      calls: `(target, arguments)`, as in `Sandbox.run`.
      limits, paths, kind, trust: as in `Sandbox`.
    """
    with Sandbox(limits, paths=paths, kind=kind, trust=trust) as sandbox:
        return sandbox.run(calls)


def probe_determinism(
    calls: Sequence[Call], limits: Limits = Limits(), *, paths: Sequence[str | os.PathLike[str]] = ()
) -> list[bool | None]:
    """Runs every call in two processes (of different hash seeds): equal values? None where a run failed."""
    first, second = (run_calls(calls, limits, paths=paths) for _ in range(2))
    return [
        a.value == b.value if a.status == b.status == "ok" else None
        for a, b in zip(first, second, strict=True)
    ]


class _Gone(Exception):
    """The process ended, or said something that is no reply."""


class _Late(Exception):
    """No reply before the deadline."""


class _Worker:
    """One warm process, started when it is first needed and again after whatever ended it."""

    def __init__(self, sandbox: Sandbox, top: str, modules: set[str]):
        self.sandbox, self.limits, self.top, self.modules = sandbox, sandbox.limits, top, modules
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        # The process dies with the thread that started it, not only with the program: the thread has to last.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"sandbox-{top}")

    def call(self, target: str, arguments: dict[str, Any]) -> Outcome:
        """Runs one call to its outcome."""
        seconds = self.limits.seconds
        outcome, starved = self._try(target, arguments, seconds)
        if starved:
            # It may have slept, or the machine was busy with other work: a result must not depend on that.
            outcome, _ = self._try(target, arguments, 2 * seconds)
        return outcome

    def close(self) -> None:
        """Ends the process and the thread."""
        self.stop()
        self.thread.shutdown()

    def stop(self) -> None:
        """Ends the process, with everything inside its walls; the next call starts another."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = ""

    def _try(self, target: str, arguments: dict[str, Any], seconds: float) -> tuple[Outcome, bool]:
        try:
            if self._process is None:
                self._start()
        except _Late:
            self.stop()
            return Outcome("timeout", error=f"importing {self.top} took over {_IMPORT_SECONDS:g} s"), False
        except _Gone:
            self.stop()
            return Outcome("raised", error=f"{self.top} ended its process while it was imported"), False
        began = time.monotonic()
        late = Outcome("timeout", error=f"no result after {self.limits.seconds} s", seconds=seconds)
        try:
            self._send({"target": target, "arguments": arguments, "seconds": seconds})
            kind, leaving, wall, cpu, data = self._receive(began + seconds + _GRACE)
        except _Late:
            self.stop()
            return late, True
        except _Gone:
            self.stop()
            return Outcome("raised", error="the call ended the process that ran it"), False
        if leaving:
            self.stop()
        if kind == zygote.TIMEOUT:
            return late, cpu < 0.8 * seconds
        return read_outcome(kind, data, self.limits, wall, cpu), False

    def _start(self) -> None:
        sandbox, limits = self.sandbox, self.limits
        self._scratch = tempfile.mkdtemp(prefix="xlam-sandbox-") if sandbox.kind == "none" else ""
        names = sorted(self.modules)
        start = kinds.start(sandbox.kind, [self.top], sandbox.paths, 4 * limits.file_bytes, self._scratch)
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                start.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=start.environment,
                start_new_session=True, pass_fds=[file.fileno() for file in start.files],
            )  # fmt: skip
            for file in start.files:
                file.close()
            try:
                refused = seccomp.program(seccomp.SESSION + seccomp.CALL)
                self._send(
                    {
                        "paths": start.path, "modules": names, "scratch": start.scratch, "limits": asdict(limits),
                        "filter": refused.hex() if refused and os.name == "posix" else "",
                        "import_bytes": _IMPORT_BYTES, "walled": sandbox.kind != "none",
                    }
                )  # fmt: skip
                kind = self._receive(time.monotonic() + _IMPORT_SECONDS)[0]
            except _Gone:
                said.seek(0)
                if words := said.read(4096).decode(errors="replace").strip():
                    self.stop()
                    raise WorkError(
                        f"the walls ({sandbox.kind}) cannot be put up: {words[-500:]}",
                        hint="xlam apigen walls shows what stands on this machine",
                    ) from None
                raise
        if kind != zygote.READY:
            raise _Gone

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        try:
            self._process.stdin.write(zygote.REQUEST.pack(len(data)) + data)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except (BrokenPipeError, OSError):
            raise _Gone from None

    def _receive(self, deadline: float) -> tuple[bytes, bool, float, float, bytes]:
        most = self.limits.result_bytes + 64 * 1024
        kind, size, leaving, wall, cpu = zygote.REPLY.unpack(self._read(zygote.REPLY.size, deadline))
        if size > most or not (math.isfinite(wall) and math.isfinite(cpu)):
            raise _Gone
        return kind, leaving, wall, cpu, self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        fd, data = self._process.stdout.fileno(), b""  # type: ignore[union-attr]
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise _Late
            chunk = os.read(fd, size - len(data))
            if not chunk:
                raise _Gone
            data += chunk
        return data
