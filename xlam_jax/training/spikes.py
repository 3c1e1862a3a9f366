"""Steps whose loss or gradient stands out: found by robust statistics, refused, and reported by record."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any, Literal

import numpy as np
from pydantic import Field

from xlam_jax.config import Config


class SpikeConfig(Config):
    """What is done about a step whose loss or gradient norm is far above those before it.

    Attributes:
      deviations: so many robust standard deviations (1.4826 times the median absolute deviation, at least 5 %
        of the median) above the median of the window; None looks for non-finite values only.
      window: steps looked back on; no rule before a quarter of it has passed.
      action: "stop" ends the run with the record ids; "skip" goes on without the step. In both cases its
        update is not applied.
      most_skipped: more skipped steps than this among the last `window` end the run all the same.
    """

    deviations: float | None = Field(default=None, gt=0)
    window: int = Field(default=64, ge=8)
    action: Literal["stop", "skip"] = "stop"
    most_skipped: int = Field(default=8, ge=0)


class SpikeRule:
    """Limits of a step from the steps before it.

    The limits of step n come from the applied steps up to n - 2: the loop reads metrics one step late, and
    must decide the same when it reads them earlier, as it does where it saves.
    """

    def __init__(self, config: SpikeConfig, state: dict[str, Any] | None = None):
        self.config = config
        state = state or {"history": [], "skipped": []}
        self._history: deque[list[float]] = deque(state["history"], maxlen=config.window + 2)
        self._skipped: deque[int] = deque(state["skipped"], maxlen=config.most_skipped + 1)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold so that a resumed run decides as this one."""
        return {"history": list(self._history), "skipped": list(self._skipped)}

    def limits(self, step: int) -> np.ndarray:
        """float32 [2]: largest loss and gradient norm of step number `step`."""
        config = self.config
        past = [row for row in self._history if row[0] <= step - 2][-config.window :]
        if config.deviations is None or len(past) < max(8, config.window // 4):
            return np.full(2, np.inf, np.float32)
        return np.asarray([_limit([row[i] for row in past], config.deviations) for i in (1, 2)], np.float32)

    def add(self, step: int, loss: float, grad_norm: float, applied: bool) -> bool:
        """Takes a step in; False when the run must end because of it.

        Args:
          applied: whether it changed the parameters; False for one that stood out.
        """
        if applied:
            self._history.append([step, loss, grad_norm])
            return True
        self._skipped.append(step)
        recent = [s for s in self._skipped if s > step - self.config.window]
        return self.config.action == "skip" and len(recent) <= self.config.most_skipped


def _limit(values: list[float], deviations: float) -> float:
    middle = statistics.median(values)
    spread = 1.4826 * statistics.median(abs(v - middle) for v in values)
    return middle + deviations * max(spread, 0.05 * abs(middle), math.ulp(middle))
