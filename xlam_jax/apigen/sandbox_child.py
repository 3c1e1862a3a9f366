"""The inside of the sandbox: a bare interpreter that runs calls and reports one JSON line each.

Started as `python -I -S sandbox_child.py`; it reads one JSON job from stdin and writes to the descriptor that
was stdout, each line led by a secret of the job. Only the standard library is imported here.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time

_NOBODY = 65534
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000


class _CallTimeout(BaseException):
    """Raised by the timer inside a call; not an Exception, so that ordinary handlers let it pass."""


def main() -> None:
    """Reads the job, closes the doors, runs the calls."""
    job = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.path[:0] = [p for p in job["paths"] if p not in sys.path]
    limits, secret = job["limits"], job["secret"]
    write, pid, dumps = os.write, os.getpid(), json.dumps

    def send(message: dict) -> None:
        data = f"\n{secret} {dumps(message)}\n".encode()
        while data:
            data = data[write(channel, data) :]

    os.chdir(job["scratch"])
    network = _leave_network()
    user = _leave_root(job["scratch"], [*job["paths"], os.path.dirname(os.__file__)])
    _set_limits(limits)
    for module in job["modules"]:
        try:
            importlib.import_module(module)
        except BaseException:  # the call that needs it will report the reason
            continue
    _guard(job["scratch"])
    send({"ready": True, "network": network, "user": user})
    for index, target, arguments in job["calls"]:
        send({"start": index})
        message = _run(target, arguments, limits)
        if os.getpid() != pid:
            os._exit(0)
        send({"index": index, **message})


def _run(target: str, arguments: dict, limits: dict) -> dict:
    def ring(*_: object) -> None:
        raise _CallTimeout

    dumps, clock = json.dumps, time.perf_counter
    start = clock()
    try:
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, limits["seconds"])
        try:
            module, _, name = target.partition(":")
            function = getattr(importlib.import_module(module), name)
            value = function(**arguments)
            seconds = clock() - start
            text = dumps(value, allow_nan=False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _CallTimeout:
        return {
            "status": "timeout",
            "error": f"no result after {limits['seconds']} s",
            "seconds": clock() - start,
        }
    except MemoryError:
        return {"status": "memory", "error": "out of memory", "seconds": clock() - start}
    except BaseException as e:  # SystemExit and KeyboardInterrupt are the called function's doing
        if "seconds" in locals() and isinstance(e, TypeError | ValueError | RecursionError | OverflowError):
            status = "not_serialisable"
        else:
            status = "raised"
        return {
            "status": status,
            "error": f"{type(e).__name__}: {_text(e)}"[:300],
            "seconds": clock() - start,
        }
    if len(text) > limits["result_bytes"]:
        return {"status": "too_large", "error": f"{len(text)} bytes of JSON", "seconds": seconds}
    return {"status": "ok", "json": text, "seconds": seconds}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "(no text)"


def _unshare(flags: int) -> bool:
    if hasattr(os, "unshare"):
        try:
            os.unshare(flags)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).unshare(flags) == 0
    except (ImportError, OSError, AttributeError):
        return False


def _leave_network() -> str:
    """Moves to an empty network namespace; without the right to do so only the audit hook is left."""
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    return "unshared" if _unshare(flags) else "guarded"


def _leave_root(scratch: str, needed: list[str]) -> str:
    """Becomes `nobody` where root started us, since root is above RLIMIT_NPROC and file permissions.

    An interpreter that only root can read (below /root) is kept readable by one capability, nothing else.
    """
    if os.geteuid() != 0:
        return "unchanged"
    try:
        os.chown(scratch, _NOBODY, _NOBODY)
        os.setgroups([])
        os.setegid(_NOBODY)
        os.seteuid(_NOBODY)
        readable = all(os.access(p, os.R_OK | os.X_OK, effective_ids=True) for p in needed)
        os.seteuid(0)
        os.setegid(0)
        if readable:
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            return "nobody"
        return _leave_root_but_read()
    except OSError:
        return "root"


def _leave_root_but_read() -> str:
    import ctypes

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    class Data(ctypes.Structure):
        _fields_ = [(n, ctypes.c_uint32) for n in ("effective", "permitted", "inheritable")]

    libc = ctypes.CDLL(None, use_errno=True)
    read_search = 1 << 2  # CAP_DAC_READ_SEARCH
    if libc.prctl(8, 1, 0, 0, 0):  # PR_SET_KEEPCAPS
        return "root"
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    header, data = Header(0x20080522, 0), (Data * 2)(Data(read_search, read_search, 0), Data(0, 0, 0))
    if libc.capset(ctypes.byref(header), ctypes.byref(data)):
        raise OSError("capset refused")
    return "nobody, may read"


def _set_limits(limits: dict) -> None:
    wanted = (
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, value in wanted:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


_BLOCKED = (
    "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec", "os.kill", "os.killpg",
    "signal.pthread_kill", "subprocess.Popen", "pty.spawn", "socket.", "ctypes.dlopen", "ctypes.dlsym",
    "resource.setrlimit", "resource.prlimit", "os.chown", "os.chmod", "os.link", "os.symlink", "os.putenv",
    "_thread.start_new_thread", "_thread.start_joinable_thread", "syslog.", "gc.get_objects",
)  # fmt: skip
_PATH_EVENTS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "shutil.rmtree")


def _guard(scratch: str) -> None:
    """Second wall behind the kernel's: an audit hook, which cannot be taken off again."""
    root = os.path.realpath(scratch) + os.sep
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    realpath, fspath, join, getcwd = os.path.realpath, os.fspath, os.path.join, os.getcwd

    def inside(path: object) -> bool:
        if isinstance(path, int) or path is None:
            return True
        text = fspath(path)  # type: ignore[arg-type]
        text = text.decode(errors="surrogateescape") if isinstance(text, bytes) else text
        return realpath(join(getcwd(), text)).startswith(root) or text == os.devnull

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, mode, flags = args
            opens_for_writing = any(c in (mode or "") for c in "wax+") or (
                isinstance(flags, int) and flags & writing
            )
            if opens_for_writing and not inside(path):
                raise PermissionError(f"the sandbox refuses to write {path!r}")
        elif event in _PATH_EVENTS:
            if not all(inside(a) for a in args if isinstance(a, str | bytes)):
                raise PermissionError(f"the sandbox refuses {event} outside its folder")
        elif event.startswith(_BLOCKED):
            raise PermissionError(f"the sandbox refuses {event}")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
