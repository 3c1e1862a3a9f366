"""An ablation as a table, a JSON object, a plot and a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from xlam_jax.evaluation.ablation.compare import compare
from xlam_jax.evaluation.ablation.config import AblationConfig
from xlam_jax.evaluation.ablation.run import Result
from xlam_jax.evaluation.journal import GENERATIONS, kept_rows
from xlam_jax.files import write_json, write_text
from xlam_jax.plots import svg_file

_UNEQUAL = 0.02  # relative difference of budgets that is said


def summarise(config: AblationConfig, results: Sequence[Result]) -> dict[str, Any]:
    """What came out, as JSON: `arms` (see `compare.Arm`), `budget` of each, and `warnings`.

    Raises:
      InputError: a result without rows, or arms that cannot be compared.
    """
    rows = {name: [kept_rows(r.stage.folder) for r in results if r.arm == name] for name in config.arms}
    arms = compare(rows, config.compared_with, config.score)
    budget = {name: _budget([r.training for r in results if r.arm == name]) for name in config.arms}
    return {
        "score": config.score,
        "baseline": config.compared_with,
        "seeds": config.seeds,
        "arms": [arm.to_json() for arm in arms],
        "budget": budget,
        "folders": {f"{r.arm} {r.seed}": str(r.stage.folder) for r in results},
        "warnings": _warnings(config, budget),
    }


def _budget(training: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Steps, and tokens without padding, over all seeds; a step's tokens are those of the measured steps."""
    runs = [t for t in training if t.get("step")]
    tokens = sum(t["step"] * t["tokens_per_second"] * t["seconds_per_step"] for t in runs)
    return {"steps": sum(t["step"] for t in runs), "tokens": round(tokens)}


def _warnings(config: AblationConfig, budget: dict[str, dict[str, int]]) -> list[str]:
    base, out = budget[config.compared_with], []
    for name, spent in budget.items():
        for key in ("steps", "tokens"):
            if base[key] and abs(spent[key] / base[key] - 1) > _UNEQUAL:
                out.append(
                    f"{name} trained on {spent[key] / base[key] - 1:+.0%} {key} of {config.compared_with}"
                )
    return out


def table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A line an arm, in per cent."""
    return [
        {
            "arm": arm["name"],
            f"{summary['score']} %": _percent(arm["score"]["value"]),
            "95 % interval": _interval(arm["score"]),
            "of each seed": ", ".join(_percent(seed) for seed in arm["seeds"]),
            f"against {summary['baseline']}": _difference(arm),
            "rows better, worse": "" if arm["difference"] is None else f"{arm['better']}, {arm['worse']}",
        }
        for arm in summary["arms"]
    ]


def style_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A line a style of question, a column an arm, in per cent."""
    styles = sorted({style for arm in summary["arms"] for style in arm["by_style"]})
    return [
        {
            "style": style,
            **{arm["name"]: _percent(arm["by_style"].get(style, 0.0)) for arm in summary["arms"]},
        }
        for style in styles
    ]


def write(summary: dict[str, Any], out: Path) -> Path:
    """Writes report.json, ablation.svg and report.html; returns the page."""
    write_json(out / "report.json", summary)
    svg = plot(summary, out / "ablation.svg")
    page = out / "report.html"
    write_text(page, _page(summary, svg, out))
    return page


def plot(summary: dict[str, Any], path: Path) -> str:
    """Draws every arm's mean with its interval, and its seeds; returns the SVG."""
    from matplotlib.figure import Figure

    arms = summary["arms"]
    figure = Figure(figsize=(7.5, 1.2 + 0.5 * len(arms)))
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        score, y = arm["score"], -place
        axes.plot([100 * score["low"], 100 * score["high"]], [y, y], color="#1d4fc4", linewidth=2)
        axes.plot(
            [100 * s for s in arm["seeds"]], [y] * len(arm["seeds"]), "|", color="#57606a", markersize=12
        )
        axes.plot(100 * score["value"], y, "o", color="#1d4fc4", markersize=7)
    axes.set_yticks([-i for i in range(len(arms))], [arm["name"] for arm in arms])
    axes.set_ylim(-len(arms) + 0.4, 0.6)
    axes.set_xlabel(f"{summary['score']} %: mean, 95 % interval, and a bar for each seed")
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    text = svg_file(figure)
    write_text(path, text)
    return text[text.index("<svg") :]


def _page(summary: dict[str, Any], svg: str, out: Path) -> str:
    links = [
        {
            "arm and seed": escape(name),
            "rows": _link(Path(folder) / GENERATIONS, out),
            "log": _link(Path(f"{folder}.log"), out),
        }
        for name, folder in summary["folders"].items()
    ]
    outcomes = [{"arm": arm["name"], **arm["outcomes"]} for arm in summary["arms"]]
    keys = list(dict.fromkeys(key for row in outcomes for key in row))
    parts = [
        _html("Arms", table(summary)),
        f"<section>{svg}</section>",
        _html("By style of question, %", style_table(summary)),
        _html("Rows of a seed by outcome", [{key: row.get(key, 0) for key in keys} for row in outcomes]),
        _html("Training, all seeds", [{"arm": name, **spent} for name, spent in summary["budget"].items()]),
        _html("Every answer", links, links=True),
    ]
    warnings = "".join(f"<p><strong>{escape(text)}</strong></p>" for text in summary["warnings"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Ablation</title><style>'
        "body{font:14px/1.5 system-ui,sans-serif;max-width:1000px;margin:20px auto;padding:0 16px;color:#1b1f24}"
        "table{border-collapse:collapse}th,td{text-align:left;padding:3px 14px 3px 0;border-bottom:1px solid #dfe3e8}"
        "svg{max-width:100%;height:auto}h2{font-size:15px;margin:22px 0 6px}</style>"
        f"<h1>Ablation: {escape(str(out.name))}</h1>{warnings}{''.join(parts)}</html>\n"
    )


def _html(title: str, rows: Sequence[dict[str, Any]], links: bool = False) -> str:
    if not rows:
        return ""
    cell = str if links else lambda value: escape(str(value))
    head = "".join(f"<th>{escape(key)}</th>" for key in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<section><h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table></section>"


def _link(path: Path, out: Path) -> str:
    target = escape(os.path.relpath(path, out), quote=True)
    return f'<a href="{target}">{escape(path.name)}</a>'


def _difference(arm: dict[str, Any]) -> str:
    difference = arm["difference"]
    if difference is None:
        return "-"
    return f"{100 * difference['value']:+.1f} ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})"


def _interval(score: dict[str, float]) -> str:
    return f"{_percent(score['low'])} - {_percent(score['high'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
