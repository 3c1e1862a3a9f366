"""Results of `xlam eval` and `xlam demo` for a model card, with their intervals; those of other weights are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.files import read_object

_KEYS = ("n", "ast", "ast_low", "ast_high", "parsable")


def read_evaluations(path: Path, weights: str | None) -> list[dict[str, Any]]:
    """The results in a report that are of these weights: `{dataset, constrained, n, ast, ast_low, ast_high, parsable}`.

    Args:
      path: what `--json` of `xlam eval` wrote, or the report.json of `xlam demo`.
      weights: `weights_xxh3_128` of the model.

    Raises:
      InputError: no such report, or results of other weights only.
    """
    if not path.is_file():
        raise InputError("report not found", where=str(path), hint="check the path")
    results = list(_results(read_object(path)))
    if not results:
        raise InputError(
            "no result with an interval in this report",
            where=str(path),
            hint="xlam eval ... --json FILE writes one",
        )
    for result in results:
        low, ast, high, parsable = (result[k] for k in ("ast_low", "ast", "ast_high", "parsable"))
        if not (0 <= low <= ast <= high <= 1 and 0 <= parsable <= 1 and result["n"] >= 1):
            raise InputError(
                f"no possible result: ast {ast} within {low} and {high}, parsable {parsable}, n {result['n']}",
                where=str(path),
                hint="shares from 0 to 1 of at least one row; xlam eval ... --json FILE writes them",
            )
    ours = [r for r in results if weights and r["weights_xxh3_128"] == weights]
    if not ours:
        others = sorted({str(r["weights_xxh3_128"] or "weights it does not name") for r in results})
        raise InputError(
            f"the report is of {', '.join(others)}, this folder holds {weights}",
            where=str(path),
            hint="evaluate this very folder: xlam eval ... --model DIR --json FILE",
        )
    return [{k: v for k, v in r.items() if k != "weights_xxh3_128"} for r in ours]


def _results(report: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(report, dict):
        return
    summary = report.get("summary", report)
    if isinstance(summary, dict) and all(isinstance(summary.get(k), int | float) for k in _KEYS):
        if not report.get("adapter"):
            yield {
                "dataset": str(report.get("dataset") or "unknown"),
                "constrained": bool(report.get("constrained")),
                **{k: summary[k] for k in _KEYS},
                "weights_xxh3_128": report.get("weights_xxh3_128"),
            }
        return
    for value in report.values():
        for child in value if isinstance(value, list) else (value,):
            yield from _results(child)


def model_index(name: str, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The hub's `model-index`; [] without results."""
    entries = [
        {
            "task": {"type": "text-generation", "name": f"Function calling, {_way(r)}"},
            "dataset": {
                "name": r["dataset"],
                "type": re.sub(r"[^\w.-]+", "-", r["dataset"]).lower(),
                "config": "constrained"
                if r["constrained"]
                else "free",  # what tells the two apart to the hub
            },
            "metrics": [
                {
                    "type": "accuracy",
                    "name": f"AST accuracy in % (95 % interval {_interval(r)}, n = {r['n']})",
                    "value": round(100 * r["ast"], 1),
                    "args": {
                        "n": r["n"],
                        "interval": "Wilson, 95 %",
                        "low": round(100 * r["ast_low"], 1),
                        "high": round(100 * r["ast_high"], 1),
                    },
                }
            ],
        }
        for r in results
    ]
    return [{"name": name, "results": entries}] if entries else []


def score_table(results: Sequence[Mapping[str, Any]]) -> str:
    """What was measured, for a reader."""
    if not results:
        return "Unknown: no report was given (`xlam convert card DIR --eval FILE` adds one)."
    lines = [
        f"| {_cell(r['dataset'])} | {_way(r)} | {r['n']} | {100 * r['parsable']:.1f} "
        f"| {100 * r['ast']:.1f} | {_interval(r)} |"
        for r in results
    ]
    head = (
        "| data | decoding | rows | parsable % | AST accuracy % | 95 % interval (Wilson) |",
        "|---|---|---:|---:|---:|---|",
    )
    return "\n".join((*head, *lines))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _way(result: Mapping[str, Any]) -> str:
    return "constrained by a grammar" if result["constrained"] else "free"


def _interval(result: Mapping[str, Any]) -> str:
    return f"{100 * result['ast_low']:.1f} to {100 * result['ast_high']:.1f}"
