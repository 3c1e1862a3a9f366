"""What the twin worlds of tool queries share: functions over a database, answers by `finish`, sub-goals.

A sub-goal is the result of a call that the task needs, or, the last one, the answer given to `finish`; coordinates
match within 50 km. Functions and parameters are those of AgentBoard's environments, so that what was learnt of its runs
applies; data and tasks are our own.
"""

from __future__ import annotations

import json
import math
import sqlite3
from typing import Any

from xlam_jax.evaluation.agents.world import ERROR, Refusal, Score, Task
from xlam_jax.format import Tool
from xlam_jax.records.sources.agentboard_tools import TOOLS

_NOTHING = object()
_KINDS: dict[str, tuple[type, ...]] = {"number": (int, float), "string": (str,)}
FINISH, LIST = "finish", "check_valid_actions"
NEAR_KM = 50.0


class QueryWorld:
    """A database and the functions that read it; a method of a subclass for every function.

    Args:
      db: not written to, so that worlds may share it.
    """

    name = ""
    instruction = (
        "Reach the goal step by step by calling the tools. Take nothing from memory that they can tell. "
        f"End with {FINISH} and the answer alone, as the goal asks for it."
    )

    def __init__(self, db: sqlite3.Connection):
        self.db = db
        self.setting: dict[str, Any] = {}
        self._results: list[Any] = []
        self._answer: Any = _NOTHING
        self._task: Task | None = None

    @property
    def tools(self) -> tuple[Tool, ...]:
        return TOOLS[self.name]

    @property
    def done(self) -> bool:
        return self._answer is not _NOTHING

    def reset(self, task: Task) -> str:
        self._task, self.setting = task, task.setting
        self._results, self._answer = [], _NOTHING
        self.begin()
        return ""

    def begin(self) -> None:
        """Sets the state that a subclass keeps back to that of a new task."""

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        try:
            value = self.value(name, arguments)
        except Refusal as e:
            return f"{ERROR}{e}"
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def value(self, name: str, arguments: dict[str, Any]) -> Any:
        """The result of a call, which counts for sub-goals.

        Raises:
          Refusal: an unknown function, arguments it does not take, or nothing found.
        """
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            raise Refusal(f"there is no function {name!r}; {LIST} lists them")
        properties = tool.parameters["properties"]
        if properties.keys() != arguments.keys():
            raise Refusal(f"{name} takes {', '.join(properties) or 'no arguments'}")
        for key, schema in properties.items():
            kinds = _KINDS.get(schema.get("type", ""))
            if kinds and (not isinstance(arguments[key], kinds) or isinstance(arguments[key], bool)):
                raise Refusal(f"{key} of {name} must be a {schema['type']}")
        if name == FINISH:
            self._answer = arguments["answer"]
            return "The answer was taken."
        if name == LIST:
            return [tool.name for tool in self.tools]
        value = getattr(self, name)(**arguments)
        self._results.append(value)
        return value

    def score(self) -> Score:
        """AgentBoard's: a success is a task that was finished with all sub-goals reached.

        Unlike there, the answer counts only where it is given to `finish`.
        """
        assert self._task is not None
        *needed, answer = self._task.subgoals
        left = list(self._results)
        reached = 0
        for goal in needed:
            match = next((i for i, given in enumerate(left) if same(goal, given)), None)
            if match is not None:
                del left[match]
                reached += 1
        right = same(_sorted(answer), _sorted(self._answer))
        progress = (reached + right) / (len(needed) + 1)
        if not self.done:
            return Score(False, progress, "not_finished")
        error = "" if progress == 1 else "missed_subgoals" if right else "wrong_answer"
        return Score(not error, progress, error)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.db.execute(query, values).fetchall()

    def one(self, missing: str, query: str, *values: Any) -> tuple[Any, ...]:
        """The first row; refuses with `missing` where there is none."""
        row = self.db.execute(query, values).fetchone()
        if row is None:
            raise Refusal(missing)
        return row


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal: coordinates within 50 km, all else by value; true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return False
        place = {"latitude", "longitude"}
        if place <= a.keys():
            if distance_km(a["latitude"], a["longitude"], b["latitude"], b["longitude"]) > NEAR_KM:
                return False
        else:
            place = set()
        return all(same(a[key], b[key]) for key in a.keys() - place)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def distance_km(latitude1: float, longitude1: float, latitude2: float, longitude2: float) -> float:
    """Great-circle distance of two points in degrees, on a sphere of 6,371 km radius (haversine).

    Args:
      latitude1, longitude1: of the first point.
      latitude2, longitude2: of the second point.
    """
    phi1, phi2 = math.radians(latitude1), math.radians(latitude2)
    across = math.radians(longitude2 - longitude1)
    h = math.sin((phi2 - phi1) / 2) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(across / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(min(1.0, h)))


def _sorted(value: Any) -> Any:
    """A list in an order of its own: the order of an answer does not count."""
    return sorted(value, key=repr) if isinstance(value, list) else value
