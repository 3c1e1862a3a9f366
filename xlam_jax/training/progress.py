"""What a person sees while it trains, and the clock behind it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Meter:
    """Tokens and seconds between two readings."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets what was counted; the next rates start now."""
        self._since = time.monotonic()
        self._counts = (0, 0, 0)

    def add(self, tokens: int, targets: int, padded: int) -> None:
        """Counts a step: real tokens, trained targets, positions with padding."""
        self._counts = tuple(a + b for a, b in zip(self._counts, (tokens, targets, padded), strict=True))

    def rates(self) -> dict[str, float]:
        """Tokens per second of the three kinds since the last restart."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        keys = ("tokens_per_second", "target_tokens_per_second", "padded_tokens_per_second")
        return {key: round(n / seconds, 2) for key, n in zip(keys, self._counts, strict=True)}


class StepClock:
    """Seconds of the steps of this session, and how much of the time since the run was first started went
    into steps that count.

    The first step of a session compiles; it is counted as long as the second.

    Args:
      productive: seconds of the steps up to the checkpoint that this session goes on from.
      started: unix time of the run's first start.
    """

    def __init__(self, productive: float, started: float):
        self._before, self._started = productive, started
        self._laps: list[float] = []
        self._begun = False
        self._since = time.monotonic()

    def mark(self) -> None:
        """What lies before now (an evaluation, a save) is no part of a step."""
        self._since = time.monotonic()

    def lap(self) -> float | None:
        """A step has ended: its seconds, None for the first."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        if not self._begun:
            self._begun = True
            return None
        self._laps.append(seconds)
        return seconds

    @property
    def mean(self) -> float:
        """Seconds of a step; 0 before the second."""
        return sum(self._laps) / len(self._laps) if self._laps else 0.0

    @property
    def productive(self) -> float:
        """Seconds of all steps that led here, over all sessions."""
        return self._before + sum(self._laps) + (self._laps[0] if self._laps else 0.0)

    @property
    def goodput(self) -> float:
        """Productive seconds over seconds since the first start, time between sessions included."""
        return round(min(1.0, self.productive / max(time.time() - self._started, 1e-9)), 4)


def memory() -> dict[str, float]:
    """`rss_gib` of this process, and `device_gib`, the peak of its fullest device, where devices tell."""
    memory = {"rss_gib": round(psutil.Process().memory_info().rss / 2**30, 3)}
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    if known := [peak for peak in peaks if peak is not None]:
        memory["device_gib"] = round(max(known) / 2**30, 3)
    return memory


def peak_rss() -> float:
    """Largest resident set of this process so far, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 3)


class Display:
    """A progress bar on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, console: Console, progress: Progress | None, total: int):
        self.console, self._progress, self._total = console, progress, total
        self._task = progress.add_task("train", total=total, note="") if progress else None
        self._said = 0.0
        self._first: tuple[float, float] | None = None

    def show(self, row: dict[str, float]) -> None:
        """Takes a line of metrics."""
        note = f"loss {row['loss']:.4f}  accuracy {100 * row['accuracy']:.1f} %  epoch {row['epoch']:.2f}"
        note += f"  {row['tokens_per_second']:,.0f} tokens/s"
        if "step_seconds" in row:  # not of a step that compiled
            note += f"  {row['step_seconds']:.3g} s/step  {row['tflops_per_device']:.3g} TFLOP/s"
            note += f"  MFU {100 * row['mfu']:.1f} %" if "mfu" in row else ""
        note += (
            f"  device {row['device_gib']:.1f} GiB" if "device_gib" in row else f"  {row['rss_gib']:.1f} GiB"
        )
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=row["step"], note=note)
        elif time.monotonic() - self._said > 10 or row["step"] == self._total:
            self._said = time.monotonic()
            note += self._left(row["step"])
            self.console.print(f"step {row['step']}/{self._total}  {note}", highlight=False)

    def _left(self, step: float) -> str:
        """How long the rest will take at the pace since the first line; "" before the second."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        begun, since = self._first
        if not begun < step < self._total:
            return ""
        left = (now - since) / (step - begun) * (self._total - step)
        return f"  {left / 60:.1f} min left" if left >= 60 else f"  {left:.0f} s left"

    def say(self, text: str) -> None:
        """One line above the bar."""
        self.console.print(text, highlight=False, markup=False)


@contextmanager
def display(console: Console, total: int, done: int) -> Iterator[Display]:
    """A `Display` of `total` steps of which `done` are done."""
    if not console.is_terminal:
        yield Display(console, None, total)
        return
    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        shown = Display(console, progress, total)
        progress.update(shown._task, completed=done)  # type: ignore[arg-type]
        yield shown
