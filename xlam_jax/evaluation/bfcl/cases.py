"""The Berkeley Function-Calling Leaderboard's own files (v2 to v4 names) as cases.

Covers the categories that an AST checker or the presence of a call decides. A category's file is
`BFCL_v2_<category>.json` (JSON lines) with `possible_answer/` beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, unknown
from xlam_jax.evaluation.harness import Case
from xlam_jax.format import Codec, Record
from xlam_jax.records.sources.bfcl import question

# category of the files -> (category of the checker, language)
CATEGORIES = {
    "simple": ("simple", "python"),
    "multiple": ("multiple", "python"),
    "parallel": ("parallel", "python"),
    "parallel_multiple": ("parallel_multiple", "python"),
    "irrelevance": ("irrelevance", "python"),
    "live_simple": ("simple", "python"),
    "live_multiple": ("multiple", "python"),
    "live_parallel": ("parallel", "python"),
    "live_parallel_multiple": ("parallel_multiple", "python"),
    "live_irrelevance": ("irrelevance", "python"),
    "live_relevance": ("relevance", "python"),
}
_WITHOUT_ANSWERS = ("irrelevance", "relevance")


def bfcl_cases(folder: str | Path, category: str, codec: Codec, limit: int | None = None) -> list[Case]:
    """The first `limit` cases of a category, in file order.

    Raises:
      InputError: unknown category, missing file, or a line that is no case (with file:line).
    """
    if category not in CATEGORIES:
        raise unknown("BFCL category", category, CATEGORIES)
    kind, language = CATEGORIES[category]
    path = _find(Path(folder), category)
    answers: dict[str, Any] = {}
    if kind not in _WITHOUT_ANSWERS:
        answer_path = path.parent / "possible_answer" / path.name
        answers = {row["id"]: row["ground_truth"] for _, row in _lines(answer_path, ("id", "ground_truth"))}
    cases = []
    for where, row in _lines(path, ("id", "question", "function")):
        if limit is not None and len(cases) >= limit:
            break
        if kind not in _WITHOUT_ANSWERS and row["id"] not in answers:
            raise InputError(f"no possible answer for {row['id']!r}", where=where)
        record = _record(row, where)
        cases.append(
            Case(
                id=row["id"],
                style=category,
                category=kind,
                prompt=codec.prompt(record),
                tools=record.tools,
                answers=answers.get(row["id"], []),
                language=language,
            )
        )
    return cases


def _find(folder: Path, category: str) -> Path:
    names = [f"BFCL_v{v}_{category}{s}.json" for v in (2, 3, 4) for s in ("", "_python")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"no file of BFCL category {category!r}", where=str(folder / names[0]), hint="check the folder"
    )


def _lines(path: Path, keys: tuple[str, ...]):
    if not path.is_file():
        raise InputError("BFCL file not found", where=str(path), hint="check the folder")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                missing = [key for key in keys if key not in row]
            except (ValueError, TypeError) as e:
                raise InputError(f"not valid JSON: {e}", where=f"{path}:{number}") from e
            if missing:
                raise InputError(f"no key {missing[0]!r}", where=f"{path}:{number}")
            yield f"{path}:{number}", row


def _record(row: dict[str, Any], where: str) -> Record:
    try:
        return question(row)
    except InputError as e:
        raise InputError(e.what, where=where, hint=e.hint) from e
