"""AgentBoard's and AgentGym's tool tasks, where a user has them: what is there, and what each would need to be played.

They are tasks with answers; the worlds they ask (graphs, web services, accounts) are not among them. So they can be
counted here, not played. AgentBoard calls its data GPL-2.0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError

NEEDS = {
    "academia": "AgentBoard's graphs of DBLP",
    "movie": "TMDB and a key",
    "weather": "Open-Meteo, as it was",
    "todo": "a Todoist account",
    "sheet": "a Google sheet",
}


def count_tasks(folder: Path) -> list[dict[str, Any]]:
    """One line a kind: tasks, easy and hard ones, sub-goals, and what they need.

    Args:
      folder: of `.jsonl` files: AgentGym's (`movie.jsonl`, ...) or AgentBoard's `test.jsonl`.

    Raises:
      InputError: no such files, or a line that is no task (names it).
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                kind = row["additional_info"]["tool"]
                if (
                    not isinstance(row["goal"], str)
                    or not row["subgoals"]
                    or row["difficulty"] not in ("easy", "hard")
                ):
                    raise ValueError("goal, subgoals or difficulty")
                tables.setdefault(kind, []).append(row)
            except (ValueError, KeyError, TypeError) as e:
                what = f"not a task of AgentBoard: {type(e).__name__}: {e}"
                raise InputError(what, where=f"{path}:{number}") from e
    if not tables:
        hint = "academia.jsonl, movie.jsonl, ... of AgentGym; leave DIR out for our twins"
        raise InputError("no files of tasks", where=str(folder), hint=hint)
    return [
        {
            "kind": kind,
            "tasks": len(rows),
            "easy": sum(row["difficulty"] == "easy" for row in rows),
            "hard": sum(row["difficulty"] == "hard" for row in rows),
            "sub-goals": sum(_count(row["subgoals"]) for row in rows),
            "needs": NEEDS.get(kind, "a world that is not known"),
        }
        for kind, rows in sorted(tables.items())
    ]


def _count(subgoals: Any) -> int:
    """A whole sheet as one text is one sub-goal."""
    return len(subgoals) if isinstance(subgoals, list) else 1
