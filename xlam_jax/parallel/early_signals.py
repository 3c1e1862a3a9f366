"""Signals before a run has anything to save: the process ends at once, whatever it waits in.

Two things would keep it alive. A handler of Python runs between two of its instructions, and the joining of
processes waits for minutes inside C++. And Linux drops a signal whose action is the default when it goes to
process 1, which `xlam train` is in a container.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_CODE = 75  # EX_TEMPFAIL: the same command goes on
_CAUGHT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def end_at_once() -> Iterator[None]:
    """Within it SIGTERM, SIGUSR1 and SIGUSR2 end the process with status 75 and a line on stderr.

    Afterwards the handlers are those from before, but for process 1 of a container: there the signals go on to
    end the process, between two instructions of Python, until `training.signals.Interrupts` takes them over.
    Outside of the main thread, which alone can set handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The C part of Python's handler writes the signal's number into a pipe, even while the main thread waits.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _nothing) for number in _CAUGHT}
    pipe_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), name="early signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            # None stands for a handler that was not set from Python.
            handler = signal.SIG_DFL if handler is None else handler
            is_dropped = os.getpid() == 1 and handler == signal.SIG_DFL
            signal.signal(number, _end if is_dropped else handler)
        os.write(writer, b"\0")
        watcher.join()
        os.close(reader)
        os.close(writer)


def _nothing(number: int, frame: Any) -> None:
    pass


def _end(number: int, frame: Any) -> None:
    _exit(number)


def _watch(reader: int) -> None:
    while (number := os.read(reader, 1)[0]) != 0:
        if number in _CAUGHT:
            _exit(number)


def _exit(number: int) -> None:
    """Leaves without any cleaning up, which could wait for the other processes."""
    sys.stderr.write(f"stopped by {signal.Signals(number).name} before the first step\n")
    sys.stderr.flush()
    os._exit(EXIT_CODE)
