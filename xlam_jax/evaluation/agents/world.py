"""What an agent works in: worlds with tools, tasks in them, and an episode of one.

The measures are AgentBoard's (Ma et al., arXiv 2401.13178): success, progress (the share of sub-goals that were
reached), and grounding (the share of actions that the world could carry out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from xlam_jax.format import Tool, ToolCall

ERROR = "ERROR | "
"""How the observation of an action begins that could not be carried out."""
EASY = 4
"""Most sub-goals of an easy task."""


@dataclass(frozen=True)
class Task:
    """What an agent is asked for.

    Attributes:
      world: the group in the report.
      subgoals: JSON values; how they are reached is the world's affair. Their number is the task's difficulty.
      gold: actions that reach all of them, the last one ends the task.
      setting: what the world is told beside, such as the date.
    """

    id: str
    world: str
    goal: str
    subgoals: tuple[Any, ...]
    gold: tuple[ToolCall, ...]
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """easy or hard, by the number of sub-goals."""
        return "easy" if len(self.subgoals) <= EASY else "hard"


@dataclass(frozen=True)
class Score:
    """Where a task stands.

    Attributes:
      progress: from 0 to 1, never falls.
      error: why it is no success, in a word; empty for one.
      metrics: further numbers of the world.
    """

    success: bool
    progress: float
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class Refusal(Exception):
    """An action that cannot be carried out; the message says why and what can be."""


class World(Protocol):
    """One place to act in, with the state of one task at a time."""

    @property
    def instruction(self) -> str:
        """What every agent is told beside its goal: how a task is ended."""
        ...

    @property
    def tools(self) -> tuple[Tool, ...]: ...

    @property
    def done(self) -> bool: ...

    def reset(self, task: Task) -> str:
        """Begins a task. Returns what the agent sees first, beside the goal; may be empty."""
        ...

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Carries out an action and returns what is seen of it; `ERROR | ...` where it cannot be."""
        ...

    def score(self) -> Score: ...


NO_ACTION = ERROR + "no action was taken; call one of the functions"
UNREAD = ERROR + "the answer could not be read: "


class Episode:
    """One task, action by action.

    Args:
      budget: most answers of the agent.
    """

    def __init__(self, world: World, task: Task, budget: int):
        self._world, self._budget = world, budget
        self.task, self.instruction = task, world.instruction
        self.first = world.reset(task)
        self.answers = self.actions = self.valid = 0

    @property
    def over(self) -> bool:
        return self._world.done or self.answers >= self._budget

    def step(self, calls: Sequence[ToolCall], problem: str = "") -> list[str]:
        """The observations of an answer's calls, one after the other until the task is done.

        An answer without calls is an action that cannot be carried out, as in AgentBoard.

        Args:
          problem: why the answer could not be read.
        """
        self.answers += 1
        seen = []
        for call in calls:
            if self._world.done:
                break
            seen.append(self._world.call(call.name, call.arguments))
        seen = seen or [UNREAD + problem[:200] if problem else NO_ACTION]
        self.actions += len(seen)
        self.valid += sum(not text.startswith(ERROR) for text in seen)
        return seen

    def score(self) -> Score:
        """The world's, with `grounding` and the number of `steps` among the metrics."""
        score = self._world.score()
        grounding = self.valid / self.actions if self.actions else 0.0
        metrics = {"grounding": grounding, "steps": float(self.answers), **score.metrics}
        return Score(score.success, score.progress, score.error, metrics)
