"""The warm process inside the walls: imports the modules once, then forks for every call.

Started as `python -I zygote.py`. Frames on stdin are requests, the first one the job; frames on stdout are replies.
A call runs in a child that holds one descriptor, the pipe of its own result, so that it can spoil no other's.
Only the standard library is imported here, for nothing else is sure to be at hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import resource
import select
import shutil
import signal
import struct
import sys
import time

REQUEST = struct.Struct(">I")  # bytes of JSON that follow
REPLY = struct.Struct(">cI?dd")  # kind, bytes that follow, leaving, seconds of wall clock, seconds of CPU
READY, MESSAGE, TIMEOUT, TOO_LARGE, DIED = b"r", b"m", b"t", b"l", b"d"
_ERROR_CHARS, _DEPTH, _INTEGER_BITS = 300, 100, 14_000


def main() -> None:
    """Reads the job, imports its modules and serves calls until stdin ends."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    job = json.loads(_frame(requests) or b"{}")
    sys.path[:0] = [p for p in job["paths"] if p not in sys.path]
    os.chdir(job["scratch"])
    _limit(resource.RLIMIT_AS, job["import_bytes"])
    _limit(resource.RLIMIT_CORE, 0)
    for module in job["modules"]:
        try:
            importlib.import_module(module)
        except BaseException:  # the call that needs it will meet the reason again
            continue
    caller = _Caller(job)
    gc.collect()
    gc.freeze()
    _reply(replies, READY)
    while (request := _frame(requests)) is not None:
        if not caller.serve(json.loads(request), replies):
            return


class _Caller:
    """Runs calls in forks of this process."""

    def __init__(self, job: dict):
        self.limits, self.scratch, self.walled = job["limits"], job["scratch"], job["walled"]
        self.filter = _Filter(bytes.fromhex(job["filter"])) if job["filter"] else None
        self.memory = _address_space() + self.limits["memory_bytes"]

    def serve(self, request: dict, replies: int) -> bool:
        """Runs one call and sends its reply; False when what it left behind cannot be cleared away."""
        ours, theirs = os.pipe()
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                self._call(request, theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        deadline = start + request["seconds"]
        kind, data = self._listen(ours, deadline)
        if kind == MESSAGE and not data:
            # It died, which takes a moment after its end of the pipe is closed, or it closed the pipe and goes on.
            while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if time.monotonic() > deadline:
                    kind = TIMEOUT
                    break
                time.sleep(0.0005)
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except OSError:
                continue
        _, status, usage = os.wait4(pid, 0)
        os.close(ours)
        if kind == MESSAGE and not data:
            kind, data = DIED, str(status).encode()
        clean = self._clear()
        _reply(replies, kind, data, not clean, time.monotonic() - start, usage.ru_utime + usage.ru_stime)
        return clean

    def _listen(self, fd: int, deadline: float) -> tuple[bytes, bytes]:
        data, most = b"", self.limits["result_bytes"] + 16 * _ERROR_CHARS
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return TIMEOUT, b""
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                return MESSAGE, data
            data += chunk
            if len(data) > most:
                return TOO_LARGE, b""

    def _clear(self) -> bool:
        try:
            for name in os.listdir(self.scratch):
                path = os.path.join(self.scratch, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.remove(path)
        except OSError:
            return False
        return True

    def _call(self, request: dict, channel: int) -> None:
        os.setpgid(0, 0)
        os.dup2(channel, 3)
        os.closerange(4, 256)
        cpu = self.limits["cpu_seconds"]
        for kind, value in (
            (resource.RLIMIT_AS, self.memory),
            (resource.RLIMIT_CPU, cpu),
            (resource.RLIMIT_FSIZE, self.limits["file_bytes"]),
            (resource.RLIMIT_NOFILE, self.limits["files"]),
            (resource.RLIMIT_NPROC, self.limits["processes"]),
        ):
            _limit(kind, value, for_good=True)
        if self.filter and not self.filter.load() and self.walled:
            return  # without walls the filter is one more precaution, and some kernels know none
        data = json.dumps(_run(request["target"], request["arguments"], self.limits)).encode()
        while data:
            data = data[os.write(3, data) :]


def _run(target: str, arguments: dict, limits: dict) -> dict:
    dumps = json.dumps  # a call that changes the module changes only what is looked up later
    try:
        module, _, name = target.partition(":")
        function = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
        value = function(**arguments)  # type: ignore[operator]
    except MemoryError:
        return {"status": "memory", "error": "out of memory"}
    except BaseException as e:  # SystemExit and KeyboardInterrupt are the called function's doing
        return {"status": "raised", "error": f"{type(e).__name__}: {_text(e)}"}
    try:
        text = dumps(_plain(value), allow_nan=False)
    except MemoryError:
        return {"status": "memory", "error": "out of memory"}
    except BaseException as e:
        return {"status": "not_serialisable", "error": f"{type(e).__name__}: {_text(e)}"}
    if len(text) > limits["result_bytes"]:
        return {"status": "too_large", "error": f"{len(text)} bytes of JSON"}
    return {"status": "ok", "json": text}


def _plain(value: object, depth: int = 0) -> object:
    """The value made of the exact types of JSON, whatever its classes say of themselves."""
    if depth > _DEPTH:
        raise ValueError(f"nested deeper than {_DEPTH}")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        text.encode()  # a lone surrogate is no text
        return text
    if isinstance(value, int):
        if int.bit_length(value) > _INTEGER_BITS:
            raise ValueError(f"an integer of {int.bit_length(value)} bits")
        return int.__pos__(value)
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, dict):
        return {_key(k): _plain(v, depth + 1) for k, v in dict.items(value)}
    if isinstance(value, list):
        return [_plain(v, depth + 1) for v in list.__iter__(value)]
    if isinstance(value, tuple):
        return [_plain(v, depth + 1) for v in tuple.__iter__(value)]
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return _plain(value.item(), depth + 1)  # type: ignore[attr-defined]
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _key(key: object) -> object:
    if isinstance(key, str | int | float) or key is None:
        return _plain(key)
    raise TypeError(f"{type(key).__name__} is no key of a JSON object")


def _text(error: BaseException) -> str:
    try:
        return str.__str__(str(error))[:_ERROR_CHARS].encode(errors="replace").decode()
    except BaseException:
        return "(no text)"


def _limit(kind: int, value: int, for_good: bool = False) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # not every system knows every limit
        resource.setrlimit(kind, (value, value if for_good else hard))


def _address_space() -> int:
    """Bytes of this process's address space, found by the limit below which nothing can be mapped any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    low, high, page = 0, 1 << 40, 1 << 20
    while high - low > page:
        middle = (low + high) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
            mmap.mmap(-1, page).close()
            high = middle
        except (OSError, ValueError):
            low = middle
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return high


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]


class _Filter:
    """A seccomp filter, made ready before a process forks, since each page a child touches first is copied."""

    def __init__(self, lines: bytes):
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._lines = ctypes.create_string_buffer(lines, len(lines))
        self._program = _Program(len(lines) // 8, ctypes.cast(self._lines, ctypes.c_void_p))
        self._reference = ctypes.byref(self._program)
        no_new_privileges = 38
        self._usable = self._prctl(no_new_privileges, 1, 0, 0, 0) == 0

    def load(self) -> bool:
        """Puts the filter on this process for the rest of its life."""
        seccomp, filter_mode = 22, 2
        return self._usable and self._prctl(seccomp, filter_mode, self._reference, 0, 0) == 0


def _frame(fd: int) -> bytes | None:
    head = _exactly(fd, REQUEST.size)
    return _exactly(fd, REQUEST.unpack(head)[0]) if head else None


def _exactly(fd: int, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            return None
        data += chunk
    return data


def _reply(
    fd: int, kind: bytes, data: bytes = b"", leaving: bool = False, seconds: float = 0, cpu: float = 0
) -> None:
    data = REPLY.pack(kind, len(data), leaving, seconds, cpu) + data
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()
