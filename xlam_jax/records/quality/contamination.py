"""Overlap with evaluation sets: the same query, or a run of 13 words of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, read_json_lines

NGRAM_WORDS = 13
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class EvaluationIndex:
    """Queries of evaluation sets, and their runs of words; text -> number of the set in `names`."""

    names: tuple[str, ...]
    queries: dict[str, int]
    runs: dict[str, int]

    @classmethod
    def of(cls, sets: Iterable[tuple[str, Iterable[str]]]) -> EvaluationIndex:
        """From `(name, queries)` of each set; where sets share a query the first is named."""
        names, queries, runs = [], {}, {}
        for number, (name, texts) in enumerate(sets):
            names.append(name)
            for text in texts:
                words = _WORD.findall(text.lower())
                if words:
                    queries.setdefault(" ".join(words), number)
                for run in _runs(words):
                    runs.setdefault(run, number)
        return cls(tuple(names), queries, runs)

    def find(self, record: Record) -> tuple[str, str] | None:
        """`(name of the set, the words shared)` of the first turn that overlaps, None for a clean row."""
        for text in (record.query, *(step.user_input for step in record.steps)):
            if not text:
                continue
            words = _WORD.findall(text.lower())
            joined = " ".join(words)
            if (number := self.queries.get(joined)) is not None:
                return self.names[number], joined
            for run in _runs(words):
                if (number := self.runs.get(run)) is not None:
                    return self.names[number], run
        return None


def _runs(words: list[str]) -> Iterator[str]:
    for i in range(len(words) - NGRAM_WORDS + 1):
        yield " ".join(words[i : i + NGRAM_WORDS])


def read_queries(path: Path) -> Iterator[str]:
    """User turns of a JSONL file of Records, or of BFCL's question rows.

    Raises:
      InputError: missing file, bad JSON, or a row that is neither.
    """
    for obj, where in read_json_lines(path):
        if isinstance(obj, dict) and isinstance(obj.get("query"), str):
            yield obj["query"]
            steps = obj.get("steps")
            for step in steps if isinstance(steps, list) else ():
                if isinstance(step, dict) and isinstance(step.get("user_input"), str) and step["user_input"]:
                    yield step["user_input"]
        elif isinstance(obj, dict) and "question" in obj:
            yield from _user_turns(obj["question"])
        else:
            hint = "Records or BFCL question rows, one JSON object a line"
            raise InputError("neither a query nor a question in this row", where=where, hint=hint)


def _user_turns(question: Any) -> Iterator[str]:
    if isinstance(question, str):
        yield question
    elif isinstance(question, list):
        for turn in question:
            yield from _user_turns(turn)
    elif isinstance(question, dict) and question.get("role") == "user":
        yield str(question.get("content") or "")


def evaluation_index(paths: Iterable[Path]) -> EvaluationIndex:
    """The index of files; errors as in `read_queries`."""
    return EvaluationIndex.of((path.name, read_queries(path)) for path in paths)
