"""How a call ended, and how that is read from what a process says of it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import Any, Literal

from xlam_jax.apigen.walls import zygote

Status = Literal["ok", "raised", "timeout", "memory", "too_large", "not_serialisable"]
_REPORTED = ("ok", "raised", "memory", "too_large", "not_serialisable")


@dataclass(frozen=True)
class Limits:
    """What a call may use.

    Attributes:
      seconds: wall-clock time; a call that got little of the processor in it has a second, longer try.
      cpu_seconds: CPU time.
      memory_bytes: address space beyond that of the imported modules.
      result_bytes: JSON text of the result.
      file_bytes: size of any file written, and of all of them together, in the scratch folder.
      files: open descriptors.
      processes: further processes and threads, where no system-call filter refuses them all.
    """

    seconds: float = 2.0
    cpu_seconds: int = 20
    memory_bytes: int = 512 * 2**20
    result_bytes: int = 64 * 1024
    file_bytes: int = 1 << 20
    files: int = 64
    processes: int = 0


@dataclass(frozen=True)
class Outcome:
    """How one call ended: `value` where status is ok, `error` elsewhere; `seconds` of wall-clock time."""

    status: Status
    value: Any = None
    error: str = ""
    seconds: float = 0.0


def read_outcome(kind: bytes, data: bytes, limits: Limits, seconds: float, cpu: float) -> Outcome:
    """What a reply means; one that means nothing is the call's own damage.

    Args:
      kind: of the reply, one of the bytes in `walls.zygote`; the caller reads `TIMEOUT`.
      data: JSON of what the call said; of a process that died, its wait status as text.
      limits: those under which the call ran.
      seconds: wall-clock time of the call.
      cpu: its seconds of CPU time.
    """
    damaged = Outcome("raised", error="the call damaged its result", seconds=seconds)
    try:
        if kind == zygote.TOO_LARGE:
            return Outcome("too_large", error=f"over {limits.result_bytes} bytes of JSON", seconds=seconds)
        if kind == zygote.DIED:
            if cpu >= limits.cpu_seconds:
                return Outcome("timeout", error="CPU time used up", seconds=seconds)
            return Outcome(*_death(int(data)), seconds=seconds)
        message = json.loads(data, parse_constant=_no_constant) if kind == zygote.MESSAGE else None
        if not isinstance(message, dict) or message.get("status") not in _REPORTED:
            return damaged
        if message["status"] != "ok":
            error = message.get("error")
            if not isinstance(error, str) or len(error) > 1000:
                return damaged
            return Outcome(message["status"], error=error.encode(errors="replace").decode(), seconds=seconds)
        text = message.get("json")
        if not isinstance(text, str) or len(text) > limits.result_bytes:
            return damaged
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate would end whoever writes the row
        return Outcome("ok", value, seconds=seconds)
    except (ValueError, RecursionError, KeyError):
        return damaged


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _death(status: int) -> tuple[Status, Any, str]:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            return "memory", None, "killed by the system"
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return "raised", None, f"the call ended its process ({name})"
    return "raised", None, f"the call ended its process (exit status {os.waitstatus_to_exitcode(status)})"
