"""AgentBoard's tool-query runs: weather, movie and academia logs of `Action: f with Action Input: {...}`.

A log is one object after another, indented. `trajectory` maps `Interaction Turn 0, 1, ...` to `Action`,
`Observation` and `Progress Rate` (or is the list of such parts with ids). Text before `Action:` is the
thought. Logs do not say which tools there were; those of the environment named by `task_name` are offered,
unless the row brings `tools`. `finish` is one of them, as in the environment. Only solved runs become
Records.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import ToolCall
from xlam_jax.records.sources.agentboard_tools import TOOLS
from xlam_jax.records.sources.base import Refused, Row, Source, row_id, tools
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.python_text import python_value
from xlam_jax.records.sources.rows import data_files

_ACTION = re.compile(r"(.*?)Action:\s*([^\s]+)\s+with\s+Action Input:\s*(\{.*?\})\s*\.?\s*", re.DOTALL)
_BLANK = re.compile(r"\s*")


def rows(path: Path) -> Iterator[Row]:
    """The objects of each log, however they are spread over lines; what follows a broken one is one row.

    Raises:
      InputError: nothing to read, or no whole gzip file.
    """
    decoder = json.JSONDecoder()
    for file in data_files(path):
        try:
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        except (OSError, EOFError, zlib.error) as e:
            raise InputError(f"cannot be read: {e}", where=str(file)) from e
        text = data.decode("utf-8", "replace")
        place, number = _start(text, 0), 0
        while place < len(text):
            where = f"{file}[{number}]"
            try:
                value, end = decoder.raw_decode(text, place)
            except (ValueError, RecursionError):
                yield Row(where, raw=text[place:].encode())
                break
            for item in value if isinstance(value, list) else [value]:
                yield Row(f"{file}[{number}]", parsed=item)
                number += 1
            place = _start(text, end)


def _start(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place


def convert(row: Row) -> Record:
    """One run.

    Refused: `not_solved`, `no_goal`, `no_actions`, `unknown_task`, `bad_action`, `bad_literal`.
    """
    obj = row.obj
    if obj.get("is_done") is False:
        raise Refused("not_solved", f"progress rate {obj.get('progress_rate')}")
    goal = obj.get("goal")
    if not isinstance(goal, str) or not goal.strip():
        raise Refused("no_goal")
    task = str(obj.get("task_name") or "")
    if not obj.get("tools") and task not in TOOLS:
        raise Refused("unknown_task", f"{task}; known: {', '.join(TOOLS)}")
    steps = tuple(_step(turn) for turn in _turns(obj.get("trajectory")) if turn.get("Action"))
    if not steps:
        raise Refused("no_actions")
    return checked(
        Record(
            id=row_id(SOURCE.name, row, f"{task}-{obj['id']}" if task and "id" in obj else None),
            query=goal.strip(),
            tools=tools(obj["tools"]) if obj.get("tools") else TOOLS[task],
            steps=steps,
            source=SOURCE.name,
            license=SOURCE.license,
        )
    )


def _turns(trajectory: Any) -> list[dict[str, Any]]:
    """Turns in their order; the list spelling is joined by ids as the log's writer does it."""
    if isinstance(trajectory, dict):
        number = re.compile(r"\d+")
        keyed = [(int(match[0]), turn) for key, turn in trajectory.items() if (match := number.search(key))]
        return [turn for _, turn in sorted(keyed, key=lambda item: item[0])]
    turns: dict[int, dict[str, Any]] = {}
    for part in trajectory or ():
        turns.setdefault(int(part["id"]), {}).update({k: v for k, v in part.items() if k != "id"})
    return [turns[number] for number in sorted(turns)]


def _step(turn: dict[str, Any]) -> Step:
    match = _ACTION.fullmatch(turn["Action"].strip())
    if not match:
        raise Refused("bad_action", turn["Action"][:80])
    thought, name, text = match.groups()
    try:
        arguments = json.loads(text)
    except ValueError:  # the environment itself reads a Python literal
        arguments = python_value(text)
    if not isinstance(arguments, dict):
        raise Refused("bad_action", text[:80])
    thought = re.sub(r"^(?:Think|Thought):\s*", "", thought.strip())
    return Step(thought, (ToolCall(name, arguments),), turn.get("Observation", ""))


SOURCE = Source(
    name="agentboard",
    summary="AgentBoard tool-query logs (weather, movie, academia), solved runs",
    license="GPL-2.0-only",
    url="https://github.com/hkust-nlp/AgentBoard",
    convert=convert,
    rows=rows,
)
