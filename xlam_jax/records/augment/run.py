"""The augment stage: Records in, originals and copies out, one ledger entry a row, counts a transform."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, read_lines
from xlam_jax.ledger import Entry, Ledger
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.context import Context, Rewrite
from xlam_jax.records.augment.pool import ToolPool, collect_pool, file_values, record_values
from xlam_jax.records.augment.rephrase import Client, rewrite_file
from xlam_jax.records.augment.transforms import APPLIED, TRANSFORMS, make_copy
from xlam_jax.records.engine import CHUNK_ROWS, ChunkResult, LocalEngine, RecordTask, RowEngine, run_to_file

STAGE = "augment"


@dataclass(frozen=True)
class AugmentTask:
    """A task on the lines of a Records file: each row's original and copies.

    Counts: `drawn/NAME`, `fate/NAME/applied` or `fate/NAME/<reason>`, `rows/NAME`, `copies`,
    `refused/<reason>`, `nothing_applied`.
    """

    context: Context

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> ChunkResult:
        counts: Counter[str] = Counter()

        def work(index: int, record: Record) -> tuple[list[Record], list[Entry]]:
            return self._row(index, record, counts)

        result = RecordTask(work, STAGE)(start, items)
        result.counts = counts
        return result

    def _row(self, index: int, record: Record, counts: Counter[str]) -> tuple[list[Record], list[Entry]]:
        config = self.context.config
        out = [record] if config.keep_original else []
        tried: dict[str, Any] = {}
        for number in range(1, config.copies + 1):
            copy = make_copy(record, index, number, self.context)
            counts.update(f"drawn/{name}" for name in copy.fates)
            counts.update(f"fate/{name}/{fate}" for name, fate in copy.fates.items())
            tried[f"aug{number}"] = copy.fates | ({"refused": copy.refused} if copy.refused else {})
            if copy.record is not None:
                out.append(copy.record)
                counts["copies"] += 1
                counts.update(f"rows/{name}" for name, fate in copy.fates.items() if fate == APPLIED)
            else:
                counts[f"refused/{copy.refused}" if copy.refused else "nothing_applied"] += 1
        if not out:
            return out, [Entry(record.id, record.source, STAGE, "dropped", "no_copy", json.dumps(tried))]
        return out, [Entry(record.id, record.source, STAGE, "pass", "", json.dumps(tried))]


def augment_file(
    source: Path,
    out: Path,
    config: AugmentConfig,
    engine: RowEngine = LocalEngine(),
    progress: Callable[[int], None] | None = None,
    *,
    writer: Client | None = None,
    answerer: Client | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> dict[str, Any]:
    """Augments a Records file; the same bytes on every engine, for every chunk size.

    Args:
      source: JSONL, gzip when named `.gz`; read twice where the pool of tools is needed.
      out: JSONL likewise; the ledger is written beside it as `<out>.ledger.jsonl`.
      progress: called with the number of rows written so far.
      writer, answerer: models that rewrite and that answer, for the `rephrase_` transforms.

    Returns:
      `yields` (the ledger's table), `rows_in`, `rows_out`, `copies`, `refused`, `nothing_applied`, `pool`,
      and `transforms`: `transform, rate, drawn, applied, not_applicable, rows_out, reasons{code: n}`.

    Raises:
      InputError: missing input, unknown names in the config, a rate of rephrasing without a model.
    """
    rates: dict[str, float] = config.rates.model_dump()
    Context(config)  # names in the config are checked before anything is read
    needs_pool = config.copies and (rates["add_distractors"] or rates["irrelevance"])
    values = itertools.chain(record_values(read_lines(source)), file_values(config.pool))
    pool = collect_pool(values, config.pool_size, config.seed) if needs_pool else ToolPool()
    ledger_path = Path(f"{out}.ledger.jsonl")
    counts: Counter[str] = Counter()
    with Ledger(ledger_path) as ledger:
        rewrites: Mapping[tuple[str, int, int], Rewrite] = {}
        if config.copies and (rates["rephrase_query"] or rates["rephrase_task"]):
            if writer is None or answerer is None:
                raise InputError(
                    "the rephrase_ transforms need a model",
                    where="rates",
                    hint="a section rephrase: {base_url: ..., model: ...}",
                )
            rewrites = rewrite_file(source, config, writer, answerer)
        task = AugmentTask(Context(config, pool, rewrites))
        items = read_lines(source)
        written = run_to_file(engine, task, items, out, ledger, progress, chunk_rows, counts)
    table = ledger.table()
    return {
        "yields": table,
        "rows_in": table[0]["in"] if table else 0,
        "rows_out": written,
        "copies": counts["copies"],
        "refused": _under(counts, "refused/"),
        "nothing_applied": counts["nothing_applied"],
        "pool": len(pool.tools),
        "transforms": [_fates(name, rates[name], counts) for name in TRANSFORMS],
    }


def _fates(name: str, rate: float, counts: Counter[str]) -> dict[str, Any]:
    reasons = _under(counts, f"fate/{name}/")
    applied = reasons.pop(APPLIED, 0)
    return {
        "transform": name,
        "rate": rate,
        "drawn": counts[f"drawn/{name}"],
        "applied": applied,
        "not_applicable": sum(reasons.values()),
        "rows_out": counts[f"rows/{name}"],
        "reasons": reasons,
    }


def _under(counts: Counter[str], prefix: str) -> dict[str, int]:
    tally = Counter({key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix)})
    return dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))
