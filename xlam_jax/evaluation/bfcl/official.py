"""BFCL's own result and score files, both ways: `bfcl evaluate` reads ours, and we read what `bfcl generate` wrote.

Layout of bfcl-eval (version 4): `result/MODEL/GROUP/BFCL_v4_CATEGORY_result.json`, `{"id", "result"}` a row;
`score/MODEL/GROUP/BFCL_v4_CATEGORY_score.json`, a line `{"accuracy", "correct_count", "total_count"}`, then a line
a wrong row. MODEL names the handler that decodes; ours are written for one that reads a JSON array of calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl.aggregate import Count
from xlam_jax.evaluation.bfcl.categories import CATEGORIES, NOT_RUN, Category
from xlam_jax.evaluation.bfcl.categories import category as category_named
from xlam_jax.evaluation.bfcl.data import read_rows
from xlam_jax.evaluation.harness import CaseResult, Raw
from xlam_jax.files import write_text
from xlam_jax.format import Codec, ParseError, get_codec

# A model of the leaderboard's own list whose handler takes `[{"name": ..., "arguments": {...}}]`.
MODEL = "Salesforce_xLAM-2-1b-fc-r"
_UNSCORED = ("format_sensitivity", "sql", "chatable", "multi_turn_composite")
_NAME = re.compile(r"BFCL_(v\d)_(\w+)_(result|score)\.json")


def write_official(rows: Sequence[CaseResult], folder: Path, codec: Codec) -> int:
    """Writes result and score files below `folder`; returns how many rows are left out.

    Rows that were not put to the model are left out: BFCL would take their silence for a refusal.
    """
    left = 0
    for category in CATEGORIES.values():
        own = [row for row in rows if row.style == category.name]
        if not own:
            continue
        run = [row for row in own if row.outcome != "not_run"]
        left += len(own) - len(run)
        name = f"{category.group}/BFCL_v4_{category.v4_name}"
        _write(
            folder / "result" / MODEL / f"{name}_result.json", [_result(row, category, codec) for row in run]
        )
        head = _head(sum(row.lenient for row in run), len(run))
        wrong = (_wrong(row, category) for row in run if not row.lenient)
        _write(folder / "score" / MODEL / f"{name}_score.json", [head, *wrong])
    return left


def read_results(folder: Path) -> Iterator[tuple[Category, dict[str, dict[str, Any]]]]:
    """Yields each category below a folder, of those that are run here, with its lines by id.

    Raises:
      InputError: no result files, results of several models, a broken line, or an id twice.
    """
    for category, path in _files(folder, "result"):
        lines: dict[str, dict[str, Any]] = {}
        for where, line in read_rows(path, ("id", "result")):
            if line["id"] in lines:
                raise InputError(f"the id {line['id']!r} stands there twice", where=where)
            lines[line["id"]] = line
        if isinstance(category, Category):
            yield category, lines


def read_scores(folder: Path) -> tuple[str, dict[str, Count]]:
    """The version, and right rows a category, of the score files below a folder.

    Raises:
      InputError: no score files, scores of several models or versions, or a file without counts.
    """
    counts: dict[str, Count] = {}
    versions = set()
    for category, path in _files(folder, "score"):
        versions.add(path.name.split("_")[1])
        where, head = next(read_rows(path, ("correct_count", "total_count")), ("", {}))
        right, n = head.get("correct_count"), head.get("total_count")
        if not (isinstance(right, int) and isinstance(n, int) and 0 <= right <= n):
            raise InputError(f"no possible counts: {right} of {n}", where=where or str(path))
        counts[category.name if isinstance(category, Category) else category] = Count(right, n)
    if len(versions) > 1:
        raise InputError(
            f"scores of versions {' and '.join(sorted(versions))}", where=str(folder), hint="name one"
        )
    return versions.pop(), counts


def decoded(line: dict[str, Any], category: Category) -> tuple[Raw, Codec] | None:
    """The answer of a result line and the codec that reads it; None where only BFCL's own parsers can.

    A list is calls of a function-calling endpoint, `{name: arguments}` each; text is a JSON array of calls, or calls as
    Python writes them. In multi-turn rows there is one a step of each turn.
    """
    result = line["result"]
    if category.kind == "multi_turn":
        turns = result if isinstance(result, list) else []
        texts = [[_as_json(step) for step in turn] if isinstance(turn, list) else [] for turn in turns]
        return _raw(json.dumps(texts), line), get_codec(call_format="json-array")
    text, form = _written(result)
    if form == "python-list" and category.language != "python" and re.match(r"\[\s*[\w.]+\(", text):
        return None
    return _raw(text, line), get_codec(call_format=form)


def _written(result: Any) -> tuple[str, str]:
    """An answer's text and its call format."""
    if isinstance(result, list):
        return _endpoint_calls(result), "json-array"
    text = str(result).strip("`\n ")
    if re.match(r"\[\s*(\{|\])|\{", text):
        return text, "json-array"
    return text if text.startswith("[") else f"[{text}]", "python-list"


def _as_json(result: Any) -> str:
    text, form = _written(result)
    if form == "json-array":
        return text
    try:
        calls = get_codec(call_format=form).parse(text, words=False).tool_calls
    except ParseError:
        return str(result)
    return _array([{"name": c.name, "arguments": c.arguments} for c in calls])


def _raw(text: str, line: dict[str, Any]) -> Raw:
    tokens, seconds = line.get("output_token_count"), line.get("latency")
    return Raw(
        text,
        "stop",
        new_tokens=max(1, tokens) if isinstance(tokens, int) else 1,
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
    )


def _endpoint_calls(result: list[Any]) -> str:
    calls = []
    for item in result:
        for name, arguments in item.items() if isinstance(item, dict) else ():
            try:
                given = json.loads(arguments) if isinstance(arguments, str) else arguments
            except ValueError:
                return json.dumps(result)  # the decoder says what is wrong with it
            calls.append({"name": name, "arguments": given})
    return _array(calls)


def _array(calls: Any) -> str:
    return json.dumps(calls, ensure_ascii=False)


def _files(folder: Path, what: str) -> list[tuple[Category | str, Path]]:
    files = {
        path: m for path in sorted(folder.rglob(f"BFCL_v*_{what}.json")) if (m := _NAME.fullmatch(path.name))
    }
    if not files:
        raise InputError(
            f"no BFCL {what} files", where=str(folder), hint=f"a folder with BFCL_v4_..._{what}.json"
        )
    models = sorted(
        {str(path.parent.parent) for path in files if path.parent.name in ("non_live", "live", "multi_turn")}
    )
    if len(models) > 1:
        raise InputError(
            f"{what} files of {len(models)} models", where=str(folder), hint=f"one of them: {models[0]}"
        )
    named: list[tuple[Category | str, Path]] = []
    for path, match in files.items():
        known = match[2] in NOT_RUN.get(match[1], {})
        if match[2] not in _UNSCORED:
            named.append((match[2] if known else category_named(match[2]), path))
    return named


def _result(row: CaseResult, category: Category, codec: Codec) -> dict[str, Any]:
    """Tokens and seconds of a multi-turn row stand in a list, as sums, for BFCL wants lists of lists there."""
    if category.kind == "multi_turn":
        answer: Any = [[_step(text, codec) for text in turn] for turn in json.loads(row.text)]
        numbers: list[Any] = [[[value]] for value in (row.prompt_tokens, row.new_tokens, row.seconds)]
    else:
        answer = row.text if row.calls is None else _array(row.calls)
        numbers = [row.prompt_tokens, row.new_tokens, row.seconds]
    names = ("input_token_count", "output_token_count", "latency")
    return {"id": row.id, "result": answer, **dict(zip(names, numbers, strict=True)), "raw": row.text}


def _step(text: str, codec: Codec) -> str:
    try:
        calls = codec.parse(text, words=False).tool_calls
    except ParseError:
        return text
    return _array([{"name": c.name, "arguments": c.arguments} for c in calls])


def _head(right: int, n: int) -> dict[str, Any]:
    return {"accuracy": right / n if n else 0.0, "correct_count": right, "total_count": n}


def _wrong(row: CaseResult, category: Category) -> dict[str, Any]:
    return {
        "id": row.id,
        "model_name": MODEL,
        "test_category": category.v4_name,
        "valid": False,
        "error": [row.detail],
        "error_type": row.error,
        "model_result_raw": row.text,
        "model_result_decoded": None
        if row.calls is None
        else [{c["name"]: c["arguments"]} for c in row.calls],
    }


def _write(path: Path, lines: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
