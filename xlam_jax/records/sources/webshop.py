"""WebShop: shopping trajectories, as `search[...]` and `click[...]` on a shop's pages.

Reads the human demonstrations (`il_trajs_finalized_images.jsonl`: `states`, `actions`, or `action_idxs` into
`available_actions`) and ReAct traces in the same manner (`observations` for the pages that came back, `goal`
or `instruction`, `thoughts`, and actions `think[...]`, which become the next step's thought), and the shop's own
logs of pages (`all_trajs`, see `webshop_pages.py`). Each action is
a call of one of two tools; what it led to is the next page. Without a goal of its own, the row's first page
tells it.
"""

from __future__ import annotations

import re
from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.format.values import Tool, ToolCall
from xlam_jax.records.sources.base import Refused, Row, Source, row_id
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.webshop_pages import rows, trajectory


def _tool(name: str, description: str, parameter: str, meaning: str) -> Tool:
    properties = {parameter: {"type": "string", "description": meaning}}
    return Tool(name, description, {"type": "object", "properties": properties, "required": [parameter]})


TOOLS = (
    _tool("search", "Searches the shop, where the page has a search bar.", "keywords", "What to look for."),
    _tool("click", "Clicks a button, link or option of the page.", "value", "Its text on the page."),
)
_ARGUMENT = {"search": "keywords", "click": "value"}
_ACTION = re.compile(r"(search|click|think)\[(.*)\]", re.DOTALL)
_GOAL = re.compile(r"Instruction:\s*(.*?)\s*(?:\n|\[SEP\]|\[button\]|$)", re.DOTALL)


def convert(row: Row) -> Record:
    """One trajectory.

    Refused: `no_actions`, `no_goal`, `bad_action`, `uneven` (lists of different lengths), `low_reward` (a
    trace that says it earned less than the full reward), `unfinished`.
    """
    obj = row.obj
    if "pages" in obj:
        obj = trajectory(obj["pages"])
    actions = _actions(obj)
    if not actions:
        raise Refused("no_actions")
    if isinstance(obj.get("reward"), int | float) and obj["reward"] < 1:
        raise Refused("low_reward", str(obj["reward"]))
    return checked(
        Record(
            id=row_id(SOURCE.name, row, obj.get("id")),
            query=_goal(obj),
            tools=TOOLS,
            steps=_steps(actions, _pages(obj, len(actions)), obj.get("thoughts") or [""] * len(actions)),
            source=SOURCE.name,
            license=SOURCE.license,
        )
    )


def _actions(obj: dict[str, Any]) -> list[str]:
    if obj.get("actions"):
        return obj["actions"]
    chosen, available = obj.get("action_idxs") or [], obj.get("available_actions") or []
    if len(chosen) != len(available):
        raise Refused("uneven", f"{len(chosen)} choices, {len(available)} lists of actions")
    if any(index < 0 for index in chosen):  # a search is no choice, and its words stand in `actions` only
        raise Refused("bad_action", "a search without its words")
    return [options[index] for index, options in zip(chosen, available, strict=True)]


def _goal(obj: dict[str, Any]) -> str:
    goal = obj.get("goal") or obj.get("instruction")
    if not goal:
        first = (obj.get("states") or obj.get("observations") or [""])[0]
        match = _GOAL.search(str(first))
        goal = match[1] if match else ""
    if not isinstance(goal, str) or not goal.strip():
        raise Refused("no_goal")
    return goal.strip()


def _pages(obj: dict[str, Any], actions: int) -> list[str]:
    """The page after each action: `states` are those before it, `observations` either."""
    if "states" in obj:
        pages = obj["states"][1:]
    else:
        pages = obj.get("observations") or []
        pages = pages[1:] if len(pages) == actions + 1 else pages
    if len(pages) not in (actions, actions - 1):
        raise Refused("uneven", f"{actions} actions, {len(pages)} pages after them")
    return [*pages, ""][:actions]


def _steps(actions: list[str], pages: list[str], thoughts: list[str]) -> tuple[Step, ...]:
    if len(thoughts) != len(actions):
        raise Refused("uneven", f"{len(actions)} actions, {len(thoughts)} thoughts")
    steps: list[Step] = []
    pending = ""
    for action, page, thought in zip(actions, pages, thoughts, strict=True):
        match = _ACTION.fullmatch(action.strip())
        if not match:
            raise Refused("bad_action", action[:80])
        name, text = match.groups()
        pending = "\n".join(filter(None, (pending, thought)))
        if name == "think":
            pending = "\n".join(filter(None, (pending, text)))
            continue
        steps.append(Step(pending, (ToolCall(name, {_ARGUMENT[name]: text}),), page))
        pending = ""
    return (*steps, Step(pending)) if pending else tuple(steps)


SOURCE = Source(
    name="webshop",
    summary="WebShop demonstrations and traces: search[...] and click[...]",
    license="MIT",
    url="https://github.com/princeton-nlp/WebShop",
    convert=convert,
    rows=rows,
)
