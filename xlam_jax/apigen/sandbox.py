"""Runs function calls where they can do no harm: bounded child processes, one per batch of calls.

A child is a bare interpreter (`python -I -S`, empty environment, own session, scratch folder). It leaves
the network, drops root, and runs under CPU, memory, file-size, descriptor and process limits, with an audit
hook as a second wall. When a call hangs or kills its child, that call gets its outcome and a fresh child
takes over. Calls that share a child share an interpreter: code that may tamper with Python itself belongs in
a child of its own (`calls_per_child=1`).
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import xlam_jax
from xlam_jax.errors import WorkError

Status = Literal["ok", "raised", "timeout", "memory", "too_large", "not_serialisable"]
_CHILD = Path(__file__).with_name("sandbox_child.py")
_ROOT = Path(xlam_jax.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Limits:
    """What a call may use.

    Attributes:
      seconds: wall-clock time of one call.
      cpu_seconds: CPU time of one child, that is of up to `calls_per_child` calls.
      memory_bytes: address space of the child.
      result_bytes: JSON text of one result.
      file_bytes: size of any file written (into the scratch folder).
      files: open descriptors.
      processes: further processes and threads.
      calls_per_child: calls that share one child.
    """

    seconds: float = 2.0
    cpu_seconds: int = 20
    memory_bytes: int = 512 * 2**20
    result_bytes: int = 64 * 1024
    file_bytes: int = 1 << 20
    files: int = 64
    processes: int = 0
    calls_per_child: int = 512


@dataclass(frozen=True)
class Outcome:
    """How one call ended: `value` where status is ok, `error` elsewhere; `seconds` of wall-clock time."""

    status: Status
    value: Any = None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Isolation:
    """What the kernel granted: network `unshared` or only `guarded`; user `nobody`, `unchanged` or `root`."""

    network: str
    user: str


def run_calls(
    calls: Sequence[tuple[str, dict[str, Any]]],
    limits: Limits = Limits(),
    *,
    paths: Sequence[str | Path] = (),
) -> list[Outcome]:
    """Runs each `(target, arguments)` by keyword and returns the outcomes in order.

    Args:
      calls: target is `module:function`, importable from this package or from `paths`.
      paths: further folders for `sys.path` of the child.

    Raises:
      WorkError: the child cannot be started at all.
    """
    outcomes: list[Outcome | None] = [None] * len(calls)
    for first in range(0, len(calls), limits.calls_per_child):
        pending = list(range(first, min(first + limits.calls_per_child, len(calls))))
        while pending:
            done = _run_batch(calls, pending, limits, paths)[0]
            for index, outcome in done.items():
                outcomes[index] = outcome
            pending = [i for i in pending if i not in done]
    return [o for o in outcomes if o is not None]


def probe_determinism(
    calls: Sequence[tuple[str, dict[str, Any]]],
    limits: Limits = Limits(),
    *,
    paths: Sequence[str | Path] = (),
) -> list[bool | None]:
    """Runs every call in two children (of different hash seeds): equal values? None where a run failed."""
    first, second = (run_calls(calls, limits, paths=paths) for _ in range(2))
    return [
        a.value == b.value if a.status == b.status == "ok" else None
        for a, b in zip(first, second, strict=True)
    ]


def isolation(limits: Limits = Limits()) -> Isolation:
    """Starts an empty child and tells which walls stand on this machine."""
    hello = _run_batch([], [], limits, ())[1]
    return Isolation(hello.get("network", "unknown"), hello.get("user", "unknown"))


def _run_batch(
    calls: Sequence[tuple[str, dict[str, Any]]],
    pending: list[int],
    limits: Limits,
    paths: Sequence[str | Path],
) -> tuple[dict[int, Outcome], dict]:
    """Runs `pending` in one child until it ends or must be killed; the first call always gets an outcome."""
    scratch, secret = tempfile.mkdtemp(prefix="xlam-sandbox-"), secrets.token_hex(8)
    job = {
        "paths": [str(Path(p).resolve()) for p in paths] + [str(_ROOT)],
        "modules": sorted({calls[i][0].partition(":")[0] for i in pending}),
        "scratch": scratch,
        "secret": secret,
        "limits": asdict(limits),
        "calls": [[i, *calls[i]] for i in pending],
    }
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd=scratch,
        start_new_session=True,
    )
    try:
        try:
            child.stdin.write(json.dumps(job).encode())  # type: ignore[union-attr]
            child.stdin.close()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass
        return _listen(child, secret, pending, limits)
    finally:
        _kill(child)
        shutil.rmtree(scratch, ignore_errors=True)


def _listen(child: subprocess.Popen, secret: str, pending: list[int], limits: Limits) -> tuple[dict, dict]:
    done: dict[int, Outcome] = {}
    hello: dict = {}
    current: int | None = None
    fd, buffer, prefix = child.stdout.fileno(), b"", f"{secret} ".encode()  # type: ignore[union-attr]
    started = time.monotonic()
    while len(done) < len(pending) or not hello:
        # The timer inside the child strikes first; this one is for what it cannot interrupt.
        allowance = 60.0 if current is None else limits.seconds + 0.5
        left = started + allowance - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            if current is None:
                break
            if not done:
                done[current] = Outcome(
                    "timeout", error="no result; the process was killed", seconds=allowance
                )
            return done, hello
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            break
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            message = _message(line, prefix)
            if message is None:
                continue
            started = time.monotonic()
            if "ready" in message:
                hello = message
            elif "start" in message:
                if current is not None:
                    done[current] = Outcome("raised", error="the call damaged the result channel")
                current = message["start"]
            elif message.get("index") == current and current is not None:
                outcome = _outcome(message)
                # Earlier calls may have filled the memory, a busy machine may have paused the child: such an
                # outcome counts only for the first call of a child, so the others get a second try.
                if outcome.status not in ("memory", "timeout") or not done:
                    done[current] = outcome
                current = None
    if len(done) < len(pending):
        if current is None and not done:
            raise WorkError(
                "the sandbox child ended before its first call",
                where=str(_CHILD),
                hint=f"exit status {child.wait()}; is {sys.executable} able to start with -I -S?",
            )
        if current is not None:
            outcome = _died(child)
            if outcome.status == "raised" or not done:
                done[current] = outcome
    return done, hello


def _message(line: bytes, prefix: bytes) -> dict | None:
    if not line.startswith(prefix):
        return None
    try:
        message = json.loads(line[len(prefix) :])
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _outcome(message: dict) -> Outcome:
    value = json.loads(message["json"]) if "json" in message else None
    return Outcome(message["status"], value, message.get("error", ""), message.get("seconds", 0.0))


def _died(child: subprocess.Popen) -> Outcome:
    try:
        code = child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return Outcome("raised", error="the call closed the result channel")
    if code == -signal.SIGXCPU:
        return Outcome("timeout", error="CPU time used up")
    if code == -signal.SIGKILL:
        return Outcome("memory", error="killed by the system")
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return Outcome("raised", error=f"the call ended its process ({how})")


def _kill(child: subprocess.Popen) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    if child.stdout:
        child.stdout.close()
    child.wait()
