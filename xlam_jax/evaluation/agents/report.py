"""Numbers of agents over their tasks, as AgentBoard has them, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from xlam_jax.evaluation.harness import CaseResult
from xlam_jax.scoring.intervals import bootstrap, wilson

LEVELS = ("easy", "hard")


def summarise_agents(rows: Sequence[CaseResult], level: Callable[[CaseResult], str]) -> dict[str, Any]:
    """Shares are fractions of 1. Success has Wilson's interval, means have bootstrap ones, all at 95 %.

    A task that was not run counts as failed, with no progress. `grounding` is the mean over tasks of the share of their
    actions that could be carried out, `reward` (a shop's) the mean over tasks.

    Args:
      level: easy or hard.
    """
    return {
        **_numbers(rows, level),
        "worlds": {
            name: _numbers([r for r in rows if r.style == name], level)
            for name in dict.fromkeys(r.style for r in rows)
        },
        "errors": dict(Counter(r.error for r in rows if r.outcome == "wrong").most_common()),
        "not_run": dict(Counter(r.error for r in rows if r.outcome == "not_run").most_common()),
    }


def _numbers(rows: Sequence[CaseResult], level: Callable[[CaseResult], str]) -> dict[str, Any]:
    numbers = _success(rows)
    for key in ("progress", "grounding", "reward"):
        if key != "reward" or any(key in row.metrics for row in rows):
            numbers[key] = _mean([row.metrics.get(key, 0.0) for row in rows])
    played = [row.metrics["steps"] for row in rows if "steps" in row.metrics]
    numbers["steps"] = sum(played) / len(played) if played else 0.0
    for name in LEVELS:
        part = [row for row in rows if level(row) == name]
        if part:
            progress = _mean([row.metrics.get("progress", 0.0) for row in part])
            numbers[name] = {**_success(part), "progress": progress}
    return numbers


def _success(rows: Sequence[CaseResult]) -> dict[str, Any]:
    n, right = len(rows), sum(row.valid for row in rows)
    low, high = wilson(right, n)
    return {"n": n, "success": {"value": right / n, "low": low, "high": high, "right": right}}


def _mean(values: Sequence[float]) -> dict[str, float]:
    low, high = bootstrap(values)
    return {"value": sum(values) / len(values), "low": low, "high": high}


def world_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One line a world and one for all, in per cent; intervals in brackets. Of one world there is one line."""
    lines = []
    for name, numbers in _groups(summary):
        line = _line({"world": name} if len(summary["worlds"]) > 1 else {}, numbers)
        line["grounding %"] = f"{100 * numbers['grounding']['value']:.1f}"
        lines.append(line)
    return lines


def level_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for the easy and one for the hard tasks of each world."""
    return [
        _line({"world": name, "level": level}, numbers[level])
        for name, numbers in _groups(summary)
        for level in LEVELS
        if level in numbers
    ]


def error_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One line a class of failure."""
    kinds = (("failed", "errors"), ("not run", "not_run"))
    return [{"kind": kind, "error": e, "tasks": n} for kind, key in kinds for e, n in summary[key].items()]


def _groups(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    worlds = summary["worlds"]
    return [*worlds.items(), ("all", summary)] if len(worlds) > 1 else list(worlds.items())


def _line(head: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    keys = [key for key in ("success", "progress", "reward") if key in numbers]
    return {**head, "tasks": numbers["n"], **{f"{key} %": per_cent(numbers[key]) for key in keys}}


def per_cent(share: dict[str, float]) -> str:
    """`55.0 (42-67)`: value and interval, which is not known to tenths."""
    return f"{100 * share['value']:.1f} ({100 * share['low']:.0f}-{100 * share['high']:.0f})"
