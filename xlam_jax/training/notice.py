"""How long before its time limit a scheduler should give notice, from what a run's saves took."""

from __future__ import annotations

import math
from pathlib import Path

from xlam_jax.training.run_folder import EVENTS, read_lines, read_metrics

LEAST = 60  # seconds: the signal travels, and processes and storage have other things to do at the end
_LAST = 10


def notice_seconds(run: str | Path) -> int | None:
    """Three times the slowest of the last saves, and the slowest of the last steps, because a save waits for the step
    at hand; at least `LEAST`. None for a run that has measured no save."""
    saves = [
        row["seconds"]
        for row in read_lines(Path(run) / EVENTS)
        if row.get("event") == "complete" and "seconds" in row
    ]
    steps = [row["step_seconds"] for row in read_metrics(run) if "step_seconds" in row]
    if not saves:
        return None
    return max(LEAST, math.ceil(3 * max(saves[-_LAST:]) + max(steps[-_LAST:], default=0.0)))
