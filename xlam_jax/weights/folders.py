"""Folders that appear whole or not at all, the memory a conversion took, and the error of a full disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xlam_jax.errors import InputError, NoRoomError, WorkError, is_no_room
from xlam_jax.lease import Lease, lease_of

# What each destination held when its command looked at it: the number of its inode, or None.
_LOOKED_AT: dict[Path, int | None] = {}
JOURNAL = "journal.jsonl"  # in a folder that is not finished; see `weights.checksums.Journal`


def check_free(dst: Path, *, overwrite: bool) -> None:
    """Raises InputError when `dst` exists and holds something, unless `overwrite`.

    `whole_folder` later replaces what was seen here, and nothing that appeared since.
    """
    _LOOKED_AT[dst.absolute()] = _inode(dst)
    if dst.exists() and not dst.is_dir():
        raise InputError("the destination is a file, a folder is needed", where=str(dst), hint="another DST")
    if not overwrite and dst.is_dir() and any(dst.iterdir()):
        raise InputError(
            "the destination folder is not empty", where=str(dst), hint="--overwrite, or another DST"
        )


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def check_space(where: Path, needed_bytes: int) -> None:
    """Raises NoRoomError when the disk that holds `where` has less than `needed_bytes` free."""
    folder = where.absolute()
    while not folder.is_dir() or folder.suffix == ".partial":  # the person knows the final name only
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise _no_room(folder, f"{needed_bytes / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free")


@contextmanager
def whole_folder(dst: str | Path, *, resume: bool = False) -> Iterator[Path]:
    """Yields `DST.partial` to write into; it becomes `dst` at the end, and is removed when anything fails.

    A killed process leaves `DST.partial`, and so does an interrupted one when the folder holds a journal.

    Args:
      resume: go on in a `DST.partial` that was left, and leave it again when this fails too.

    Raises:
      WorkError: another process writes there, or has finished since `check_free` looked.
      NoRoomError: the disk is full.
    """
    dst = Path(dst)
    partial = dst.with_name(dst.name + ".partial")
    with room_on_disk(dst), Lease(lease_of(dst), "destination") as lease:
        here = _inode(dst)
        if _LOOKED_AT.pop(dst.absolute(), here) != here and here is not None:
            raise WorkError(
                "another process finished this destination meanwhile", where=str(dst), hint="another DST"
            )
        if not resume:
            _remove(partial)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            yield partial
            lease.check()
            old = dst.with_name(dst.name + ".replaced")
            _remove(old)
            if dst.exists():
                os.replace(dst, old)
            os.replace(partial, dst)
            _remove(old)
        except BaseException as e:
            if not ((resume or isinstance(e, KeyboardInterrupt)) and (partial / JOURNAL).is_file()):
                _remove(partial)
            raise


@contextmanager
def room_on_disk(where: Path) -> Iterator[None]:
    """Turns the system's "no space left", quota and file-size errors into a NoRoomError about `where`."""
    try:
        yield
    except (OSError, ValueError) as e:  # tensorstore, under Orbax, reports every failed write as a ValueError
        if not is_no_room(e):
            raise
        raise _no_room(where, os.strerror(getattr(e, "errno", None) or errno.ENOSPC)) from e


def _no_room(where: Path, detail: str) -> NoRoomError:
    return NoRoomError(
        f"the disk is full: {detail}",
        where=str(where),
        hint="free some space or choose another disk",
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


class PeakMemory:
    """Highest resident set of this process since `start()`, in bytes above the resident set at the start.

    Linux keeps the high-water mark and lets a process reset its own. Where it cannot be reset the mark since
    the process began is used, which can only be too high.
    """

    def start(self) -> PeakMemory:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")
        return self

    def bytes(self) -> int:
        return max(0, _status("VmHWM") - self._before)


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux: the high-water mark alone is known
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
