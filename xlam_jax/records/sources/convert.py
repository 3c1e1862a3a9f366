"""Rows of a source -> Records: one row in is one line out, or one refusal in the ledger."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, XlamError
from xlam_jax.format.pair import Pair
from xlam_jax.format.record import Record, tool_notes
from xlam_jax.format.values import check_json
from xlam_jax.ledger import Entry, Ledger
from xlam_jax.records.engine import ChunkResult, LocalEngine, RowEngine, run_to_file
from xlam_jax.records.quality.schema_check import check_call
from xlam_jax.records.quality.unread_calls import unread_calls
from xlam_jax.records.sources import get_source
from xlam_jax.records.sources.padding import unpadded
from xlam_jax.records.sources.values import Refused, Row

STAGE = "convert"


@dataclass(frozen=True)
class ConvertTask:
    """A task: rows of the source of that name -> lines, ledger entries, and counts of calls."""

    source: str

    def __call__(self, start: int, items: Sequence[Row]) -> ChunkResult:
        source, result = get_source(self.source), ChunkResult()
        for row in items:
            try:
                made = with_notes(unpadded(source.convert(row), row.typed))
                if source.calls:
                    _refuse_unread(made)
                # Written here, so that what cannot travel as JSON is refused with the row it came from.
                value = made if isinstance(made, dict) else made.to_json()
                line = _line(value)
                name = value.get("id") or value["name"]
                if not isinstance(made, dict):
                    result.counts.update(count_calls(made.chosen if isinstance(made, Pair) else made))
            except Refused as e:
                reason, detail = e.code, e.detail
            except InputError as e:
                reason, detail = "bad_record", e.what
            except (XlamError, OSError, MemoryError, ImportError):
                raise
            except Exception as e:
                # A shape the converter did not foresee: the row is refused by name, and the run goes on.
                reason, detail = "unexpected_shape", f"{type(e).__name__}: {e}"
            else:
                result.lines.append(line)
                result.entries.append(Entry(name, source.name, STAGE, "pass"))
                continue
            where, detail = _printable(row.where), _printable(detail[:300])
            result.entries.append(Entry(where, source.name, STAGE, "dropped", reason, detail))
        return result


def _refuse_unread(made: Any) -> None:
    """Refuses what would become a chat about calls: this source has calls, and there are some not read."""
    record = made.chosen if isinstance(made, Pair) else made
    if isinstance(record, Record) and (unread := next(unread_calls(record), None)):
        raise Refused("bad_call", f"step {unread[0] + 1} means a call, in words: {unread[1]!r}")


def with_notes(made: Record | Pair | dict[str, Any]) -> Record | Pair | dict[str, Any]:
    """The row with what the readers of its tools did not understand in its lineage."""
    if isinstance(made, Pair):
        return replace(made, chosen=_noted(made.chosen))
    return _noted(made) if isinstance(made, Record) else made


def _noted(record: Record) -> Record:
    lineage = tool_notes(record.tools, record.lineage)
    return record if lineage == record.lineage else replace(record, lineage=lineage)


def _printable(text: str) -> str:
    """What the ledger, which is UTF-8, can hold: a detail may quote the very text that is wrong."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _line(value: Any) -> str:
    try:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
        if line.count("{") + line.count("[") > 64:  # fewer brackets cannot be nested deeper
            check_json(value)
    except (ValueError, RecursionError) as e:
        raise Refused("not_json", str(e)) from None
    return line


def count_calls(record: Record) -> Counter[str]:
    """`calls`, `valid calls` (against the record's own tools), and the faults of the others."""
    offered = {tool.name: tool for tool in record.tools}
    counts: Counter[str] = Counter()
    for step in record.steps:
        for call in step.tool_calls:
            faults = check_call(call, offered)
            counts["calls"] += 1
            counts["valid"] += not faults
            counts.update({fault.code for fault in faults})
    return counts


def convert(
    name: str,
    path: Path,
    out: Path,
    ledger_path: Path | None = None,
    engine: RowEngine = LocalEngine(),
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Converts a file or folder to Records JSONL (gzip by name) with its ledger beside it.

    Args:
      name: of the source, or the file of one (`get_source`).

    Returns:
      `source, rows, out, refused, reasons{code: n}, calls, valid, faults{code: n}`; rows = out + refused.

    Raises:
      InputError: unknown source, nothing to read, or a file that is broken as a whole.
    """
    source = get_source(name)
    counts: Counter[str] = Counter()
    with Ledger(ledger_path or out.with_name(out.name + ".ledger.jsonl")) as ledger:
        task = ConvertTask(name)
        run_to_file(engine, task, source.rows(path), out, ledger, progress, counts=counts)
        table = ledger.table()
    fates = table[0] if table else {"in": 0, "out": 0, "dropped": 0, "reasons": {}}
    calls, valid = counts.pop("calls", 0), counts.pop("valid", 0)
    return {
        "source": source.name,
        "rows": fates["in"],
        "out": fates["out"],
        "refused": fates["dropped"],
        "reasons": fates["reasons"],
        "calls": calls,
        "valid": valid,
        "faults": dict(counts.most_common()),
    }
