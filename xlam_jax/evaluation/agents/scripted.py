"""Agents without weights whose scores are known beforehand.

- `gold` does the task's gold actions;
- `empty` answers without a call, up to the budget;
- `lazy` ends the task by the shortest way, whatever is asked;
- `random` calls an offered function with values out of the air, up to the budget;
- `mutated` does the gold actions, but in every second task leaves the last one out, so that it does not end.
"""

from __future__ import annotations

import random

from xlam_jax.errors import unknown
from xlam_jax.evaluation.agents.world import Task, World
from xlam_jax.evaluation.harness import Case
from xlam_jax.evaluation.scripted import Calls, random_calls
from xlam_jax.format import ToolCall

SCRIPTS = ("gold", "empty", "lazy", "random", "mutated")


def script(
    name: str, case: Case, task: Task, world: World, budget: int, number: int = 0, seed: int = 0
) -> list[Calls]:
    """The calls of each answer of a scripted agent.

    Args:
      world: of the task; only `lazy` looks at it.
      number: of the task in the run, for `mutated`.
      seed: of `random`.

    Raises:
      InputError: unknown name.
    """
    if name == "gold":
        return [(call,) for call in task.gold]
    if name == "mutated":
        return [(call,) for call in task.gold[: len(task.gold) - number % 2]]
    if name == "empty":
        return [()] * budget
    if name == "lazy":
        return [(call,) for call in _shortest(task, world)]
    if name == "random":
        rng = random.Random(f"{seed} {case.key}")
        return [random_calls(case, rng) for _ in range(budget)]
    raise unknown("scripted model", name, SCRIPTS)


def _shortest(task: Task, world: World) -> list[ToolCall]:
    """The last gold action alone where it ends the task by itself, with nothing in it; a shop says its own."""
    lazy = getattr(world, "lazy", None)
    if lazy is not None:
        return lazy(task)
    last = task.gold[-1]
    return [ToolCall(last.name, dict.fromkeys(last.arguments, ""))]
