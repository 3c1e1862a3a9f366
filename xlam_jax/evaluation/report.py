"""Reports as tables for the eye and files for the record."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from xlam_jax.evaluation.harness import EvalReport
from xlam_jax.files import write_text


def table(report: EvalReport) -> list[dict[str, Any]]:
    """One line per style and one for all, in per cent."""
    groups = report.summary["by_category"]
    lines = [_line(style, shares) for style, shares in groups.items()]
    return [*lines, _line("all", report.summary)] if len(groups) != 1 else lines


def _line(name: str, shares: dict[str, Any]) -> dict[str, Any]:
    return {
        "style": name,
        "rows": shares["n"],
        "parsable %": round(100 * shares["parsable"], 1),
        "AST accuracy %": round(100 * shares["ast"], 1),
        "95 % interval": f"{100 * shares['ast_low']:.1f} - {100 * shares['ast_high']:.1f}",
    }


def error_table(report: EvalReport) -> list[dict[str, Any]]:
    """One line per class of failure; decoder errors and wrong answers apart."""
    kinds = (("wrong answer", "errors"), ("unparsable", "decoder_errors"), ("not run", "not_run"))
    return [
        {"kind": kind, "error": error, "rows": count}
        for kind, key in kinds
        for error, count in report.summary[key].items()
    ]


def write_report(report: EvalReport, folder: Path) -> None:
    """Writes generations.jsonl (a line per row, raw text included) and summary.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in report.rows)
    write_text(folder / "generations.jsonl", lines)
    write_text(folder / "summary.json", json.dumps(report.summary, indent=2, ensure_ascii=False) + "\n")
