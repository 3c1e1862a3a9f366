"""Signals as a wish to save and stop after the current step."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any

# Slurm announces the end of a job with what `--signal` names, others with SIGTERM; SIGINT is Ctrl-C.
CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Interrupts:
    """Within it, signals of `CAUGHT` are only noted; `caught` names the first of them (of those
    that arrive together, which Python tells apart by their numbers alone, the lowest).

    A scheduler may warn with SIGUSR1 and then send SIGTERM, or send it twice (Slurm signals both a step and
    the `srun` that passes it on), and must not cut off the save: it has SIGKILL for that. A second SIGINT is
    a person at the keyboard, and acts as usual.

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
        if number == signal.SIGINT:
            self._put_back(number)

    def _put_back(self, number: int) -> None:
        handler = self._before.pop(number, None)
        # None stands for a handler that was not set from Python.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number in list(self._before):
            self._put_back(number)

    def agreed(self) -> str:
        """What was caught on any host; every host gets the same answer at the same step."""
        import jax

        if jax.process_count() == 1:
            return self.caught
        import numpy as np
        from jax.experimental import multihost_utils

        code = signal.Signals[self.caught].value if self.caught else 0
        largest = int(np.max(multihost_utils.process_allgather(np.int32(code))))
        return signal.Signals(largest).name if largest else ""
