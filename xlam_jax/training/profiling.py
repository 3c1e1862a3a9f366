"""A window of steps under the JAX profiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xlam_jax.errors import InputError

FOLDER = "profile"


class StepProfiler:
    """Traces steps `first` to `last`, counted from 1, of "first:last"; None traces nothing.

    Raises:
      InputError: a window that ends before it begins.
    """

    def __init__(self, window: str | None, run: Path):
        self._first, self._last = (int(n) for n in window.split(":")) if window else (1, 0)
        if window and self._last < self._first:
            raise InputError(
                f"the profile window {window} ends before it begins", where="log.profile", hint="10:15"
            )
        self._folder = run / FOLDER
        self._open = False

    def before(self, step: int) -> None:
        """Step number `step` is about to be dispatched."""
        if not self._open and self._first <= step <= self._last:
            import jax

            jax.profiler.start_trace(str(self._folder))
            self._open = True

    def after(self, step: int, wait: Callable[[], object]) -> bool:
        """Step number `step` was dispatched; `wait` returns when it is done. True when the window ends."""
        if not self._open or step < self._last:
            return False
        wait()
        self.close()
        return True

    def close(self) -> None:
        """Ends a trace that is under way."""
        if self._open:
            import jax

            self._open = False
            jax.profiler.stop_trace()
