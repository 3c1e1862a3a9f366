"""SIGTERM and SIGINT as a wish to stop after the current step."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any


class Interrupts:
    """Within it, the first SIGTERM or SIGINT is only noted (`caught` names it); the second acts as usual.

    Only the main thread can set handlers; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        self.caught = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.caught = signal.Signals(number).name
        self._restore()

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
