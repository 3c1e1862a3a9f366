"""One writer to a place: a small file that says who works there, and is renewed while they do.

It holds the host, the process and a counter. It needs nothing of the file system but exclusive creation and rename,
so it works on NFS; where folders can be locked, newcomers come one at a time. Nobody compares clocks of two hosts: a
newcomer watches whether the counter moves. A process of this host that is gone is known at once; one elsewhere after
`EXPIRES` seconds of silence.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from xlam_jax.errors import WorkError

RENEW = 10.0
EXPIRES = 60.0
"""Seconds between two renewals, and of silence after which a lease is taken for abandoned."""
_LATE = 0.5  # how late one newcomer may write after another looked


class Lease:
    """Holds FILE from `__enter__` to `__exit__`; an abandoned one is taken over, which is said.

    Args:
      file: of the lease; its folder is made.
      what: what is worked on, for messages: "run folder".
      say: told what a person waits for.

    Raises:
      WorkError: somebody else works there, and lives. It may end, so this is no bad input.
    """

    def __init__(
        self,
        file: Path,
        what: str,
        say: Callable[[str], None] = lambda text: None,
        *,
        renew: float = RENEW,
        expires: float = EXPIRES,
    ):
        self._file, self._what, self._say = file, what, say
        self._renew_every, self._expires = renew, expires
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._mine = {**_this_process(), "since": now, "token": secrets.token_hex(8)}
        self._beats = 0
        self._lost_to: dict[str, Any] | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        folder = self._file.parent
        folder.mkdir(parents=True, exist_ok=True)
        silent: dict[str, Any] | None = None
        while True:
            with _one_at_a_time(folder) as locked:
                if self._create():
                    break
                current = _read(self._file)
                if current is not None and (current == silent or _gone(current)):
                    self._replace()
                    self._say(
                        f"the {self._what} was left by {_who(current)}, which is no more; going on there"
                    )
                    break
            if current is not None:
                self._watch(current)
                silent = current
        if not locked:
            time.sleep(2 * _LATE)
            self._must_be_mine()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        if self._thread:
            self._thread.join(timeout=self._renew_every)
        with suppress(OSError):
            if (_read(self._file) or {}).get("token") == self._mine["token"]:
                self._file.unlink()

    def check(self) -> None:
        """Raises WorkError when another process has taken the lease over, as after a long standstill of this one:
        what it writes must not be mixed with what we would."""
        if self._lost_to is not None:
            raise WorkError(
                f"the {self._what} was taken over by {_who(self._lost_to)} while this process stood still",
                where=str(self._file.parent),
                hint="this one ends; the other goes on",
            )

    def _create(self) -> bool:
        try:
            with self._file.open("x", encoding="utf-8") as file:
                file.write(self._text())
        except FileExistsError:
            return False
        return True

    def _text(self) -> str:
        return json.dumps({**self._mine, "beats": self._beats}) + "\n"

    def _replace(self) -> None:
        partial = self._file.with_name(f"{self._file.name}.{self._mine['token']}")
        partial.write_text(self._text(), encoding="utf-8")
        os.replace(partial, self._file)

    def _must_be_mine(self) -> None:
        """Where there are no locks, two newcomers may replace the same abandoned lease; the later one has it."""
        current = _read(self._file)
        if current and current.get("token") != self._mine["token"]:
            raise self._taken(current)

    def _taken(self, by: dict[str, Any]) -> WorkError:
        return WorkError(
            f"another process works in this {self._what}: {_who(by)}",
            where=str(self._file.parent),
            hint="wait for its end or stop it, or choose another folder",
        )

    def _watch(self, found: dict[str, Any]) -> None:
        """Returns when the lease was not renewed for so long that its owner is gone; raises when it is alive."""
        end = time.monotonic() + self._expires
        if found.get("host") != self._mine["host"]:
            self._say(
                f"the {self._what} is held by {_who(found)}; looking up to {self._expires:.0f} s for life"
            )
        while time.monotonic() < end:
            time.sleep(min(0.2, self._expires / 10))
            now = _read(self._file)
            if now is None or _gone(now):
                return
            if now != found or _alive(now):
                raise self._taken(now)

    def _keep(self) -> None:
        while not self._end.wait(self._renew_every):
            self._beats += 1
            current = None
            with suppress(OSError):  # storage that is away for a while is no reason to end
                current = _read(self._file)
            if current and current.get("token") != self._mine["token"]:
                self._lost_to = current
                return
            with suppress(OSError):
                self._replace()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[bool]:
    """Lets one newcomer at a time look and take; yields False where the file system has no locks of folders."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            locked = True
        except OSError:
            locked = False
        yield locked
    finally:
        os.close(handle)


def lease_of(folder: Path) -> Path:
    """Where the lease of a folder lies that appears under its name only when it is complete: beside it."""
    return folder.absolute().with_name(f".{folder.absolute().name}.lease")


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "machine": _machine(), "pid": pid, "started": _started(pid)}


def _machine() -> str:
    """Names what process numbers belong to: a boot of a machine, and on it a container's own numbering."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> float | None:
    """Unix time of a process's start; None when it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time(), 2)
    except psutil.Error:
        return None


def _here(owner: dict[str, Any]) -> bool:
    """Whether its process number means something to this process."""
    return bool(owner.get("machine")) and owner["machine"] == _machine()


def _gone(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to have ended: the number is free, or another process has it now."""
    return _here(owner) and not _alive(owner)


def _alive(owner: dict[str, Any]) -> bool:
    if not _here(owner) or owner.get("started") is None:
        return False
    started = _started(owner["pid"])
    # Reckoned from the clock, which may have been set meanwhile.
    return started is not None and abs(started - owner["started"]) < 5


def _who(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"


def _read(file: Path) -> dict[str, Any] | None:
    """What a lease says; {} where it is being written, None where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
