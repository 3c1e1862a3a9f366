"""The augment stage: Records in, originals and copies out, one ledger entry a row, counts a transform."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.data.augment.config import AugmentConfig
from xlam_jax.data.augment.pool import ToolPool, collect_pool
from xlam_jax.data.augment.rephrase import read_rewrites
from xlam_jax.data.augment.transforms import APPLIED, NOT_APPLICABLE, Augmenter, make_transforms
from xlam_jax.data.engine import Engine, RecordTask, run_to_file
from xlam_jax.format.record import Record, read_lines
from xlam_jax.ledger import Entry, Ledger

STAGE = "augment"


@dataclass(frozen=True)
class AugmentWork:
    """`RecordTask.work`: one row to its original and copies; the entry's detail tells what was tried."""

    augmenter: Augmenter
    copies: int
    keep_original: bool

    def __call__(self, index: int, record: Record) -> tuple[list[Record], list[Entry]]:
        out = [record] if self.keep_original else []
        tried: dict[str, dict[str, str]] = {}
        for number in range(1, self.copies + 1):
            copy, fates = self.augmenter.copy(record, index, number)
            if copy is not None:
                out.append(copy)
            tried[f"aug{number}"] = fates
        detail = json.dumps(tried)
        if out:
            return out, [Entry(record.id, record.source, STAGE, "pass", "", detail)]
        return out, [Entry(record.id, record.source, STAGE, "dropped", "nothing_applied", detail)]


class TallyLedger(Ledger):
    """A ledger that hands every entry to `look` before it is written, for counts beyond verdicts."""

    def __init__(self, path: str | Path | None, look: Callable[[Entry], None]):
        super().__init__(path)
        self._look = look

    def add_entry(self, entry: Entry) -> None:
        self._look(entry)
        super().add_entry(entry)


def augment_file(
    source: Path,
    out: Path,
    config: AugmentConfig,
    engine: Engine,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Augments a Records file; the same bytes on every engine.

    Args:
      source: JSONL, gzip when named `.gz`; read twice where the pool of tools is needed.
      out: JSONL likewise; the ledger is written beside it as `<out>.ledger.jsonl`.
      progress: called with the number of rows written so far.

    Returns:
      `yields` (the ledger's table), `rows_in`, `rows_out`, `copies`, `pool`, and `transforms`: for each its
      rate, how often it was applied and how often not applicable.

    Raises:
      InputError: missing input, unknown names in the config, a bad file of rewrites.
    """
    needs_pool = config.copies and (config.rates.add_distractors or config.rates.irrelevance)
    pool = collect_pool(read_lines(source), config.pool_size, config.seed) if needs_pool else ToolPool()
    rewrites = read_rewrites(config.rewrites) if config.rewrites else None
    transforms = make_transforms(config, pool, rewrites)
    rates = config.rates.model_dump()
    work = AugmentWork(Augmenter(config.seed, rates, transforms), config.copies, config.keep_original)
    fates: Counter[tuple[str, str]] = Counter()

    def look(entry: Entry) -> None:
        if entry.reason != "not_a_record":
            for tried in json.loads(entry.detail).values():
                fates.update(tried.items())

    with TallyLedger(Path(f"{out}.ledger.jsonl"), look) as ledger:
        written = run_to_file(engine, RecordTask(work, STAGE), read_lines(source), out, ledger, progress)
    table = ledger.table()
    originals = table[0]["out"] if table and config.keep_original else 0
    return {
        "yields": table,
        "rows_in": table[0]["in"] if table else 0,
        "rows_out": written,
        "copies": written - originals,
        "pool": len(pool.tools),
        "transforms": [
            {
                "transform": name,
                "rate": rates[name],
                "applied": fates[name, APPLIED],
                "not_applicable": fates[name, NOT_APPLICABLE],
            }
            for name in transforms
        ],
    }
