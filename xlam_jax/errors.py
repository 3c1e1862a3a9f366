"""Errors that a person reads: what was found, where, and what to type instead.

The command line turns them into one screen
and an exit status: 2 for bad input, 1 when the work itself failed.
"""

from __future__ import annotations

from typing import Any


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


class WorkError(XlamError):
    """The input was fine but the work failed; exit status 1."""

    exit_code = 1
