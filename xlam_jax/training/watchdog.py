"""Ends a run that hangs, so that a scheduler can start it again."""

from __future__ import annotations

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from xlam_jax.config import Config

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command may work when it is run again
_ADVICE = """\
{name}: no step for {waited:.0f} s (a step takes {median:.2f} s). All threads' stacks: {dump}
  look at: a host that is gone or slow (collectives wait for all; compare the hang-*.txt of the hosts),
           the file system of the data and the run folder, the device (nvidia-smi, dmesg),
           a data folder on a disk that sleeps. Waiting longer: watchdog.factor, watchdog.least_seconds.
  exit status {code}; the same command goes on from the last checkpoint.
"""


class WatchdogConfig(Config):
    """When a run is taken for hung: no step for `factor` times the median of the last steps, and at least
    `least_seconds`. Before that median is known (start, compilation), while evaluating and while saving,
    `work_seconds`. `factor` 0: never.

    Attributes:
      factor: times the median of the last steps; 0: never.
      least_seconds: no step is taken for hung before so many seconds.
      work_seconds: the limit of a start, an evaluation and a save.
    """

    factor: float = Field(default=50.0, ge=0)
    least_seconds: float = Field(default=300.0, gt=0)
    work_seconds: float = Field(default=7200.0, gt=0)


class Watchdog:
    """A thread that waits for `beat`.

    Time is counted in polls: a poll that comes late (the process was stopped, the machine slept, a clock
    jumped) counts as one poll, so only time in which the run could have worked counts.

    Args:
      dump: file for the stacks.
      poll: seconds between looks.
      clock: seconds that only go forward.
      end: what ends the process.
    """

    def __init__(
        self,
        config: WatchdogConfig,
        dump: Path,
        *,
        poll: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], object] = os._exit,
    ):
        self._config, self._dump, self._poll, self._clock, self._end = config, dump, poll, clock, end
        self._times: deque[float] = deque(maxlen=50)
        self._busy = 0
        self._waited = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Watchdog:
        if self._config.factor:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def beat(self, seconds: float | None = None) -> None:
        """The run moved.

        Args:
          seconds: what the step took, when a step it was.
        """
        self._waited = 0.0
        if seconds is not None:
            self._times.append(seconds)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Within it the run does something that is no step."""
        self._busy += 1
        self.beat()
        try:
            yield
        finally:
            self._busy -= 1
            self.beat()

    def limit(self) -> float:
        """Seconds without a step after which the run is taken for hung, as things stand."""
        if self._busy or len(self._times) < 3:
            return self._config.work_seconds
        return max(self._config.least_seconds, self._config.factor * statistics.median(self._times))

    def look(self, gap: float) -> None:
        """Counts one poll that took `gap` seconds, and ends the process when the limit is reached."""
        self._waited += min(max(gap, 0.0), 2 * self._poll)
        if self._waited >= self.limit():
            self._bite()

    def _watch(self) -> None:
        before = self._clock()
        while not self._over.wait(self._poll):
            now = self._clock()
            self.look(now - before)
            before = now

    def _bite(self) -> None:
        median = statistics.median(self._times) if self._times else float("nan")
        text = _ADVICE.format(
            name="watchdog", waited=self._waited, median=median, dump=self._dump, code=EXIT_CODE
        )
        try:
            with self._dump.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError:  # a hung disk must not keep the process alive
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        print(text, file=sys.__stderr__, flush=True)
        self._end(EXIT_CODE)
