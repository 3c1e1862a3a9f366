"""WebShop's own logs: a line for each page that a person opened, a file for each person's shopping.

A log tells no actions, but which page follows on which says what was clicked or searched for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from xlam_jax.records.sources.base import Refused, Row
from xlam_jax.records.sources.rows import read_rows

_PAGES = ("index", "search_results", "item_page", "item_sub_page", "done")


def rows(path: Path) -> Iterator[Row]:
    """Rows as they are, but the pages of one log as one row `{"pages": [...]}`; a log ends with its file or sale."""
    log: list[Any] = []
    first, file = "", ""
    for row in read_rows(path):
        page = _page(row)
        of = row.where.rpartition(":")[0]
        if log and (page is None or of != file or log[-1]["page"] == "done"):
            yield Row(first, parsed={"pages": log})
            log = []
        if page is None:
            yield row
            continue
        first, file = first if log else row.where, of
        log.append(page)
    if log:
        yield Row(first, parsed={"pages": log})


def _page(row: Row) -> dict[str, Any] | None:
    if row.raw is not None and b'"page"' not in row.raw:
        return None
    try:
        value = row.value
    except Refused:
        return None
    if not isinstance(value, dict) or value.get("page") not in _PAGES or "actions" in value:
        return None
    return value if isinstance(value.get("content") or {}, dict) and "goal" in value else None


def trajectory(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """`goal`, `actions`, `observations` and `reward` of a log.

    Raises:
      Refused: `unfinished` for a log without a sale, `bad_action` for a page that no action leads to.
    """
    if pages[-1]["page"] != "done":
        raise Refused("unfinished", f"the last page is {pages[-1]['page']}")
    goal = pages[0]["goal"]
    actions, seen = [], []
    for before, page in itertools.pairwise(pages):
        if action := _action(before, page):
            actions.append(action)
            seen.append({"page": page["page"], **(page.get("content") or {})})
    if seen:
        seen[-1]["reward"] = pages[-1].get("reward")
    return {
        "goal": goal.get("instruction_text") if isinstance(goal, dict) else goal,
        "actions": actions,
        "observations": seen,
        "reward": pages[-1].get("reward"),
    }


def _action(before: dict[str, Any], page: dict[str, Any]) -> str:
    """What leads from one page to the next, "" where a page was only loaded again."""
    was, now = before.get("content") or {}, page.get("content") or {}
    step = (before["page"], page["page"])
    match step:
        case (_, "index"):
            return "" if before["page"] == "index" else "click[Back to Search]"
        case ("index", "search_results"):
            return f"search[{' '.join(map(str, now.get('keywords') or ()))}]"
        case ("search_results", "search_results"):
            numbers = [str(content.get("page") or "") for content in (was, now)]
            if not all(number.isdecimal() for number in numbers):
                raise Refused("bad_action", "a page of results without its number")
            ahead = int(numbers[1]) - int(numbers[0])
            return "" if not ahead else "click[Next >]" if ahead > 0 else "click[< Prev]"
        case ("search_results", "item_page"):
            return f"click[{now.get('asin')}]"
        case ("item_page", "item_page"):
            chosen = [
                v for k, v in (now.get("options") or {}).items() if (was.get("options") or {}).get(k) != v
            ]
            return f"click[{chosen[0]}]" if chosen else ""
        case ("item_page", "item_sub_page"):
            return f"click[{unquote(urlsplit(str(page.get('url'))).path.split('/')[-2])}]"
        case ("item_page" | "item_sub_page", "search_results") | ("item_sub_page", "item_page"):
            return "click[< Prev]"
        case ("item_page", "done"):
            return "click[Buy Now]"
    raise Refused("bad_action", f"no click leads from {step[0]} to {step[1]}")
