"""Rows of BFCL's single-turn files as cases, and the calls that their published answers describe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl.categories import Category, category
from xlam_jax.evaluation.bfcl.data import Data, find_data, read_rows
from xlam_jax.evaluation.harness import Case
from xlam_jax.evaluation.scripted import small_call, small_value
from xlam_jax.format import Codec, Record
from xlam_jax.format.values import ToolCall
from xlam_jax.records.sources.base import Refused
from xlam_jax.records.sources.bfcl import answer_calls, published_tools, question


def bfcl_cases(folder: str | Path, name: str, codec: Codec, limit: int | None = None) -> list[Case]:
    """The first `limit` cases of a category in the newest files of a folder, in file order.

    Args:
      folder: where `find_data` looks for BFCL's files.
      name: of a single-turn category, in any version's spelling.
      codec: writes the prompts.
      limit: None for all.

    Raises:
      InputError: unknown category, missing file, or a line that is no case (with file:line).
    """
    wanted = category(name)
    return category_cases(find_data(Path(folder)), wanted, codec)[:limit]


def category_cases(data: Data, wanted: Category, codec: Codec) -> list[Case]:
    """All cases of a single-turn category, in file order.

    Raises:
      InputError: missing file, or a line that is no case (with file:line).
    """
    answers: dict[str, Any] = {}
    if wanted.has_answers:
        rows = read_rows(data.answers(wanted), ("id", "ground_truth"))
        answers = {row["id"]: row["ground_truth"] for _, row in rows}
    cases = []
    for where, row in read_rows(data.file(wanted), ("id", "question", "function")):
        if wanted.has_answers and row["id"] not in answers:
            raise InputError(f"no possible answer for {row['id']!r}", where=where)
        record = _record(row, where, wanted.language)
        cases.append(
            Case(
                id=row["id"],
                style=wanted.name,
                category=wanted.kind,
                prompt=codec.prompt(record),
                tools=record.tools,
                answers=answers.get(row["id"], []),
                language=wanted.language,
                judged=published_tools(row),
                record=record,
            )
        )
    return cases


def gold_calls(case: Case) -> tuple[ToolCall, ...]:
    """The calls of the published answer; none where it is no answer, and none are due for irrelevance.

    A relevance row has no published answer: any call of the first function, with what it requires, is one.
    """
    if case.category == "irrelevance":
        return ()
    if case.category == "relevance":
        return (small_call(case, small_value),)
    try:
        return tuple(answer_calls(case.judged or case.tools, case.answers, case.language))
    except Refused:
        return ()


def reachable(cases: Iterable[Case]) -> set[tuple[str, str, int]]:
    """Keys of the cases whose published answer passes BFCL's own rules; the others, no sensible answer passes."""
    from xlam_jax.scoring.bfcl import score

    return {
        case.key
        for case in cases
        if score(
            case.judged or case.tools,
            gold_calls(case),
            case.answers,
            category=case.category,
            language=case.language,
        ).valid
    }


def _record(row: dict[str, Any], where: str, language: str) -> Record:
    try:
        return question(row, language)
    except InputError as e:
        raise InputError(e.what, where=where, hint=e.hint) from e
    except (KeyError, TypeError, AttributeError, IndexError) as e:
        raise InputError(f"not a BFCL question: {type(e).__name__}: {e}", where=where) from e
