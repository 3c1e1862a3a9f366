"""Errors that a person reads: what was found, where, and what to type instead.

The command line turns them into one screen and an exit status, which launchers act on:

  0   done
  1   the work failed in a way that another try may mend: storage, a lost process, memory, anything unknown
  2   bad input, the same after every try
  3   the work failed for good: a loss that is not finite, no readable checkpoint
  4   no room on the disk
  75  stopped by a signal; what was done is saved, and the same command goes on
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from typing import Any

# A quota and a file-size limit look the same to the person at the keyboard: the result does not fit.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class XlamError(Exception):
    """Base of every error this package raises on purpose.

    Args:
      what: what was found, in one sentence.
      where: file, line, record id or config key.
      hint: what to do or type instead.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = ""):
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors come back from worker processes; a subclass may want more arguments than `args` holds.
        return _revive, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  try:   {self.hint}")
        return "\n".join(lines)


def _revive(kind: type[XlamError], args: tuple[Any, ...], state: dict[str, Any]) -> XlamError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(XlamError):
    """The input (a file, a config key, an argument) is wrong; exit status 2."""

    exit_code = 2


class NoRoomError(InputError):
    """A disk, a quota or a limit of file sizes is full; exit status 4."""

    exit_code = 4


class WorkError(XlamError):
    """The input was fine but the work failed; exit status 1."""

    exit_code = 1


class FinalError(WorkError):
    """The work failed, and would fail again; exit status 3."""

    exit_code = 3


class Stopped(WorkError):
    """A signal ended the work, and what was done is saved; exit status 75 (`EX_TEMPFAIL` of sysexits.h)."""

    exit_code = 75


def unknown(
    what: str, name: str, known: Iterable[str], *, where: str = "", cutoff: float = 0.4
) -> InputError:
    """The error of a name that is not among the known ones: the hint is the nearest, else all of them.

    Args:
      what: the name is of: "preset".
      cutoff: how alike a near one is, from 0 to 1 (`difflib.get_close_matches`).
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return InputError(
        f"unknown {what} {name!r}", where=where, hint=near[0] if near else "one of " + ", ".join(known)
    )


def is_no_room(error: BaseException) -> bool:
    """Whether it is the system's "no space left", or that of a quota or a limit of file sizes, in whatever a
    library made of it (Orbax, tensorstore and ArrayRecord raise ValueError and RuntimeError)."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    words = (*map(os.strerror, _NO_ROOM), "RESOURCE_EXHAUSTED: Error writing")
    return isinstance(error, ValueError | RuntimeError) and any(word in str(error) for word in words)
