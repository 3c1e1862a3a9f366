"""How varied and how derived the rows of a run are: what one looks at before training on them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from xlam_jax.apigen.api import Api
from xlam_jax.apigen.offline.askable import Askable, askable
from xlam_jax.apigen.offline.provenance import trace_call
from xlam_jax.apigen.offline.requests import REGISTERS, ask, sentence
from xlam_jax.errors import InputError
from xlam_jax.extras import need

_KEYWORDS = re.compile(
    r"(?:q|query|search|keywords?|term|search_?(?:term|query|text)|topics?)$", re.IGNORECASE
)
_PERMUTATIONS, _SHINGLE, _NEAR = 64, 3, 0.8


def measure(
    folder: str | os.PathLike[str], progress: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Numbers of a run's training rows.

    Returns:
      `rows, apis, categories, styles, abstentions`; `near_duplicates_pct` and `near_duplicates_blanked_pct` (share of
      queries that are like an earlier one by MinHash at 0.8, as they are and with their values blanked);
      `leaves`, `derived_pct` (argument leaves that stand in the query in other words than in the call, or need no
      ground), `keyword_pct` (leaves that are bare search words).

    Raises:
      InputError: the folder holds no run of a library without a model.
    """
    folder = Path(folder)
    counts: Counter[str] = Counter()
    apis: set[str] = set()
    kinds: dict[str, Counter[str]] = {k: Counter() for k in ("category", "style", "abstain", "register")}
    plain, blanked = _Seen(), _Seen()
    for row, spans in _rows(folder):
        counts["rows"] += 1
        for mark in row["lineage"]:
            kind, _, value = mark.partition(":")
            if kind in kinds:
                kinds[kind][value] += 1
        for call, call_spans in zip(row["steps"][0]["tool_calls"], spans, strict=True):
            apis.add(call["name"])
            _count_leaves(call, call_spans, row["query"], counts)
        counts["near"] += plain.seen(row["query"])
        counts["near_blanked"] += blanked.seen(blank(row["query"], [s for of_call in spans for s in of_call]))
        if counts["rows"] % 1000 == 0:
            progress(counts["rows"])
    n, leaves = counts["rows"], max(1, counts["leaves"])
    if not n:
        raise InputError(
            "no rows", where=str(folder / "train.jsonl"), hint="report.json says why none passed"
        )
    return {
        "rows": n,
        "called_names": len(apis),
        "categories": len(kinds["category"]),
        "styles": dict(kinds["style"].most_common()),
        "abstentions": dict(kinds["abstain"].most_common()),
        "registers": dict(kinds["register"].most_common()),
        "near_duplicates_pct": round(100 * counts["near"] / n, 2),
        "near_duplicates_blanked_pct": round(100 * counts["near_blanked"] / n, 2),
        "leaves": counts["leaves"],
        "derived_pct": round(100 * counts["derived"] / leaves, 2),
        "keyword_pct": round(100 * counts["keywords"] / leaves, 2),
    }


def skeletons(apis: Sequence[Api], draws: int = 200) -> dict[str, int]:
    """How many sentences an API can be asked in, values blanked, in so many draws; by id."""
    counts = {}
    for api in apis:
        made = askable(api)
        if not isinstance(made, Askable):
            counts[api.id] = 0
            continue
        r, shapes = Random(api.id), set()
        for _ in range(draws):
            asked = ask(made, made.world(r), r)
            text = sentence(asked, r.choice(REGISTERS), r)
            spans, _ = trace_call(asked.call, api.tool, text)
            shapes.add(blank(text, [{"start": s.start, "end": s.end} for s in spans]))
        counts[api.id] = len(shapes)
    return counts


def blank(query: str, spans: Sequence[dict[str, Any]]) -> str:
    """The query with its values left out."""
    text, end = "", 0
    for span in sorted(spans, key=lambda s: s["start"]):
        if span["start"] >= end:
            text += query[end : span["start"]] + "_"
            end = span["end"]
    return text + query[end:]


def _count_leaves(
    call: dict[str, Any], spans: Sequence[dict[str, Any]], query: str, counts: Counter[str]
) -> None:
    at = {span["path"]: span for span in spans}
    for path, value in _leaves(call["arguments"]):
        counts["leaves"] += 1
        span = at.get(path)
        said = query[span["start"] : span["end"]] if span else ""
        counts["derived"] += said != (value if isinstance(value, str) else json.dumps(value))
        counts["keywords"] += bool(_KEYWORDS.match(path.partition(".")[0]))


def _leaves(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        items = (
            [(f"{name}.{i}", v) for i, v in enumerate(value)] if isinstance(value, list) else [(name, value)]
        )
        for path, item in items:
            if isinstance(item, dict):
                yield from ((f"{path}.{k}", v) for k, v in _leaves(item))
            else:
                yield path, item


def _rows(folder: Path) -> Iterator[tuple[dict[str, Any], list[list[dict[str, Any]]]]]:
    rows, spans = folder / "train.jsonl", folder / "provenance.jsonl"
    if not (rows.is_file() and spans.is_file()):
        raise InputError(
            "no rows with their provenance", where=str(folder),
            hint="xlam apigen run CONFIG, with a library folder and without ask:",
        )  # fmt: skip
    with rows.open(encoding="utf-8") as first, spans.open(encoding="utf-8") as second:
        for number, line in enumerate(first, 1):
            try:
                row, provenance = json.loads(line), json.loads(next(second))
                if row["id"] != provenance["id"] or len(row["steps"][0]["tool_calls"]) != len(
                    provenance["calls"]
                ):
                    raise ValueError("rows and provenance do not belong together")
                if missing := {"query", "lineage"} - row.keys():
                    raise KeyError(*missing)
            except (ValueError, KeyError, TypeError, StopIteration, IndexError) as e:
                raise InputError(f"not a row with its provenance: {e}", where=f"{rows}:{number}") from e
            yield row, provenance["calls"]


class _Seen:
    """Texts met so far, by MinHash."""

    def __init__(self) -> None:
        need("datasketch", "apigen", where="near duplicates")
        from datasketch import MinHash, MinHashLSH

        self._empty = MinHash(_PERMUTATIONS)
        self._index = MinHashLSH(_NEAR, _PERMUTATIONS)
        self._signatures: dict[Any, Any] = {}

    def seen(self, text: str) -> bool:
        """Whether an earlier text is like this one; it is remembered if not."""
        words = re.findall(r"\w+", text.lower())
        made = self._empty.copy()
        made.update_batch(
            {" ".join(words[i : i + _SHINGLE]).encode() for i in range(max(1, len(words) - _SHINGLE + 1))}
        )
        if any(self._signatures[k].jaccard(made) >= _NEAR for k in self._index.query(made)):
            return True
        key = len(self._signatures)
        self._signatures[key] = made
        self._index.insert(key, made)
        return False
