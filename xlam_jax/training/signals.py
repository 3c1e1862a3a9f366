"""Signals as a wish to save and stop after the current step."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any

# Slurm announces the end of a job with what `--signal` names, others with SIGTERM; SIGINT is Ctrl-C.
CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Interrupts:
    """Within it, a first signal of `CAUGHT` is only noted (`caught` names it), and so is a first one of
    another kind after it: a scheduler that warns with SIGUSR1 and then sends SIGTERM must not cut off the
    save. A second SIGTERM or SIGINT acts as usual; more of the others are noted only.

    Only the main thread can set handlers; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        self.caught = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.caught = self.caught or signal.Signals(number).name
        if number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._before.pop(number))

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def agreed(self) -> str:
        """What was caught on any host; every host gets the same answer at the same step."""
        import jax

        if jax.process_count() == 1:
            return self.caught
        import numpy as np
        from jax.experimental import multihost_utils

        code = signal.Signals[self.caught].value if self.caught else 0
        found = int(np.max(multihost_utils.process_allgather(np.int32(code))))
        return signal.Signals(found).name if found else ""
