"""What came of a BFCL run: per category, per column, by BFCL's rules and by strict ones, never mixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xlam_jax.evaluation.bfcl.aggregate import Count, Score, board, total
from xlam_jax.evaluation.bfcl.categories import CATEGORIES, NOT_RUN
from xlam_jax.evaluation.harness import CaseResult
from xlam_jax.scoring.intervals import wilson

RULES = ("bfcl", "strict")


def summarise_bfcl(
    rows: Sequence[CaseResult], version: str, best: Collection[tuple[str, str, int]] = ()
) -> dict[str, Any]:
    """Counts, shares (fractions of 1) and Wilson intervals at 95 % of every category; columns and totals by rule.

    Args:
      best: keys of the single-turn rows whose published answer passes, for `best`: what a model can reach.
    """
    categories: dict[str, Any] = {}
    for name in [c for c in CATEGORIES if any(r.style == c for r in rows)]:
        own = [row for row in rows if row.style == name]
        categories[name] = {
            "n": len(own),
            "best": None
            if CATEGORIES[name].kind == "multi_turn"
            else sum(r.key in best for r in own) / len(own),
            "parsable": sum(row.calls is not None for row in own) / len(own),
            **{rule: _share(sum(_right(row, rule) for row in own), len(own)) for rule in RULES},
        }
    return {
        "version": version,
        "n": len(rows),
        "categories": categories,
        **{rule: scores(version, counts_of(rows, rule)) for rule in RULES},
        "errors": _errors(rows, "wrong"),
        "decoder_errors": _errors(rows, "unparsable"),
        "not_run": _errors(rows, "not_run"),
    }


def summarise_counts(version: str, counts: Mapping[str, Count]) -> dict[str, Any]:
    """The same of scores that others counted, which know BFCL's rules alone."""
    categories = {
        name: {"n": c.n, "best": None, "bfcl": _share(c.right, c.n)} for name, c in counts.items() if c.n
    }
    return {
        "version": version,
        "n": sum(c.n for c in counts.values()),
        "categories": categories,
        "bfcl": scores(version, counts),
    }


def counts_of(rows: Sequence[CaseResult], rule: str) -> dict[str, Count]:
    """Right rows a category by one of `RULES`."""
    n, right = Counter(row.style for row in rows), Counter(row.style for row in rows if _right(row, rule))
    return {name: Count(right[name], n[name]) for name in n}


def scores(version: str, counts: Mapping[str, Count]) -> dict[str, Any]:
    """The version's columns, and its overall score or an honestly named partial of it."""
    columns = {
        name: asdict(score) if isinstance(score, Score) else {"missing": list(score)}
        for name, score in board(version, counts).items()
    }
    whole = total(version, counts)
    return {"columns": columns, "total": {"name": whole[0], **asdict(whole[1])} if whole else None}


def category_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One line a category; `best` is what the published answers reach."""
    return [
        {"category": name, "rows": scores["n"], "bfcl %": _cell(scores["bfcl"])}
        | (
            {
                "best": None if scores["best"] is None else round(100 * scores["best"], 1),
                "strict %": _cell(scores["strict"]),
            }
            if "strict" in scores
            else {}
        )
        for name, scores in summary["categories"].items()
    ]


def column_table(summary: dict[str, Any], rules: Sequence[str] = RULES) -> list[dict[str, Any]]:
    """One line a column of the board that has its categories, and the total last."""
    lines = []
    for name, score in summary[rules[0]]["columns"].items():
        if "missing" not in score:
            lines.append(_column(name, [summary[rule]["columns"][name] for rule in rules], rules))
    if summary[rules[0]]["total"]:
        totals = [summary[rule]["total"] for rule in rules]
        lines.append(_column(totals[0]["name"], totals, rules))
    return lines


def left_out(summary: dict[str, Any]) -> list[str]:
    """Sentences on the columns that are not there: categories that are never run, with the reason, and absent ones."""
    never = NOT_RUN[summary["version"]]
    columns: dict[bool, list[str]] = {True: [], False: []}
    reasons: dict[str, list[str]] = {}
    absent: list[str] = []
    for name, score in summary["bfcl"]["columns"].items():
        lacking = score.get("missing", ())
        if not lacking:
            continue
        columns[any(c in never for c in lacking)].append(name)
        for category in lacking:
            where = reasons.setdefault(never[category], []) if category in never else absent
            if category not in where:
                where.append(category)
    lines = []
    if columns[True]:
        why = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
        lines.append(f"no {', '.join(columns[True])}; not run: {why}")
    if absent:
        columns_without = f"no {', '.join(columns[False])}; " if columns[False] else ""
        lines.append(f"{columns_without}not among the rows: {', '.join(absent)}")
    return lines


def error_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per class of failure by BFCL's rules; text that is no answer and wrong answers apart."""
    kinds = (("wrong answer", "errors"), ("no answer", "decoder_errors"), ("not run", "not_run"))
    return [
        {"kind": kind, "error": error, "rows": count}
        for kind, key in kinds
        for error, count in summary[key].items()
    ]


def _right(row: CaseResult, rule: str) -> bool:
    return row.lenient if rule == "bfcl" else row.strict


def _share(right: int, n: int) -> dict[str, Any]:
    low, high = wilson(right, n)
    return {"right": right, "value": right / n, "low": low, "high": high}


def _errors(rows: Sequence[CaseResult], outcome: str) -> dict[str, int]:
    return dict(Counter(row.error for row in rows if row.outcome == outcome).most_common())


def _column(name: str, scores: list[dict[str, Any]], rules: Sequence[str]) -> dict[str, Any]:
    cells = {f"{rule} %": _cell(score) for rule, score in zip(rules, scores, strict=True)}
    return {"column": name, "rows": scores[0]["n"], **cells}


def _cell(score: dict[str, Any]) -> str:
    """Per cent, with the interval behind it."""
    value, low, high = (f"{100 * score[key]:.1f}".replace("100.0", "100") for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"
