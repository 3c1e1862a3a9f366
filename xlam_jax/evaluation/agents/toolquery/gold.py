"""Tasks made by solving them: a template calls the world, and what it calls is the gold."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from xlam_jax.evaluation.agents.toolquery.base import FINISH, QueryWorld
from xlam_jax.evaluation.agents.world import Task
from xlam_jax.format import ToolCall


class Again(Exception):
    """A draw that makes no good task: a tie, or nothing there."""


class Draft:
    """A task in the making.

    Attributes:
      rng: of this draw.
    """

    def __init__(self, world: QueryWorld, rng: random.Random, setting: dict[str, Any]):
        self.rng, self.setting = rng, setting
        self._world = world
        self._calls: list[ToolCall] = []
        self._results: list[Any] = []
        world.reset(Task("", world.name, "", (None,), (), setting))

    def call(self, function: str, /, **arguments: Any) -> Any:
        """The result of a call that the task needs."""
        return self._call(function, arguments, True)

    def prepare(self, function: str) -> None:
        """A call that others need, whose result is no sub-goal."""
        self._call(function, {}, False)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the world's database, to draw from."""
        return self._world.rows(query, *values)

    def balance(self, holds: bool) -> None:
        """Has about half of a template's tasks be of the rarer kind, so that no answer can be taken for granted."""
        if holds != (self.rng.random() < 0.5):
            raise Again

    def task(self, id: str, goal: str, answer: Any) -> Task:
        calls = (*self._calls, ToolCall(FINISH, {"answer": answer}))
        return Task(id, self._world.name, goal, (*self._results, answer), calls, self.setting)

    def _call(self, function: str, arguments: dict[str, Any], counts: bool) -> Any:
        value = self._world.value(function, arguments)
        self._calls.append(ToolCall(function, arguments))
        if counts:
            self._results.append(value)
        return value


Template = Callable[[Draft], tuple[str, Any]]
"""Plays a draft and returns the goal and the answer."""


def make_tasks(
    world: QueryWorld, templates: Sequence[Template], each: int, setting: Callable[[random.Random], dict[str, Any]]
) -> tuple[Task, ...]:  # fmt: skip
    """`each` tasks of every template, no goal twice in one setting; the same in every run.

    Args:
      world: where the templates' calls run; every draft resets it.
      setting: draws what the world is told beside the goal, `Task.setting`.
    """
    tasks: list[Task] = []
    seen = set()
    for template in templates:
        made = draw = 0
        while made < each:
            rng = random.Random(f"{world.name} {template.__name__} {draw}")
            draw += 1
            assert draw < 2000, template.__name__
            draft = Draft(world, rng, setting(rng))
            try:
                goal, answer = template(draft)
            except Again:
                continue
            key = (goal, repr(draft.setting))
            if key not in seen:
                seen.add(key)
                made += 1
                tasks.append(draft.task(f"{world.name}-{len(tasks) + 1:02d}", goal, answer))
    return tuple(tasks)


def yes(value: bool) -> str:
    return "Yes" if value else "No"
