"""`xlam data verify`: rules, contamination, duplicates and a judge, in one streaming pass."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.format.record import Record, parse_line, read_lines, write_lines
from xlam_jax.ledger import Entry, Ledger
from xlam_jax.records.engine import CHUNK_ROWS, LocalEngine, RowEngine
from xlam_jax.records.quality.contamination import EvaluationIndex, evaluation_index
from xlam_jax.records.quality.duplicates import Duplicate, Fingerprint, Seen, fingerprint
from xlam_jax.records.quality.judge import JudgeConfig, judge, judge_entry
from xlam_jax.records.quality.rules import STAGE, RuleConfig, Rules, noted

STAGES = (STAGE, "contamination", "duplicates", "judge")


class VerifyConfig(Config):
    """What is checked, and what becomes of a row.

    Attributes:
      rules: actions and thresholds; the actions on contamination and duplicates belong to later stages.
      near_threshold: estimated Jaccard similarity of word shingles from which rows are near duplicates.
      against: files of evaluation sets (Records, or BFCL's question rows).
      judge: an endpoint that judges what is left; none without it.
    """

    rules: RuleConfig = RuleConfig()
    near_threshold: float = 0.8
    against: tuple[str, ...] = ()
    judge: JudgeConfig | None = None


@dataclass
class Verified:
    """A row after the row-wise stages: its line is None when it was dropped."""

    id: str
    source: str
    line: str | None
    entries: list[Entry] = field(default_factory=list)
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True)
class VerifyTask:
    """The row-wise stages as a task on lines: rules, contamination, and what duplicates are found by."""

    config: VerifyConfig
    index: EvaluationIndex | None = None

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> list[Verified]:
        rules = Rules(self.config.rules)
        return [self._verify(line, where, rules) for line, where in items]

    def _verify(self, line: bytes, where: str, rules: Rules) -> Verified:
        try:
            record = Record.from_json(parse_line(line, where), where)
        except InputError as e:
            return Verified(where, "", None, [Entry(where, "", STAGE, "dropped", "not_a_record", e.what)])
        kept, entry = rules.apply(record, len(line))
        row = Verified(record.id, record.source, None, [entry])
        actions = self.config.rules.actions
        if kept and self.index and actions.contaminated != "off":
            overlap = self.index.find(kept)
            code, detail = ("contaminated", f"{overlap[0]}: {overlap[1]}"[:200]) if overlap else ("", "")
            drop = bool(overlap) and actions.contaminated == "drop"
            row.entries.append(_entry(row, "contamination", code, detail, drop))
            kept = None if drop else noted(kept, [f"flagged:{code}"] if overlap else [])
        if kept:
            row.line = json.dumps(kept.to_json(), ensure_ascii=False, allow_nan=False)
            if actions.duplicate != "off" or actions.near_duplicate != "off":
                row.fingerprint = fingerprint(kept, actions.near_duplicate != "off")
        return row


def _entry(row: Verified, stage: str, code: str, detail: str, drop: bool) -> Entry:
    return Entry(row.id, row.source, stage, "dropped" if drop else "pass", code, detail)


def verify(
    path: Path,
    out: Path,
    config: VerifyConfig = VerifyConfig(),
    engine: RowEngine = LocalEngine(),
    ledger_path: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Verifies Records JSONL; every row goes on to `out` or is dropped for one reason, in the ledger.

    Args:
      progress: called with the number of rows read and of rows kept so far.

    Returns:
      `rows, out, yields` (the ledger's table), and `flagged{code: n}`; rows = out + dropped.

    Raises:
      InputError: a missing or broken file. WorkError: the judge's endpoint is down.
    """
    index = evaluation_index(Path(p) for p in config.against) if config.against else None
    flagged: dict[str, int] = {}
    totals = {"rows": 0, "out": 0}
    with Ledger(ledger_path or out.with_name(out.name + ".ledger.jsonl")) as ledger:

        def counted(chunks: Iterable[list[Verified]]) -> Iterator[str]:
            for chunk in chunks:
                for row in chunk:
                    totals["rows"] += 1
                    for entry in row.entries:
                        ledger.add_entry(entry)
                        if entry.verdict == "pass" and entry.reason:
                            flagged[entry.reason] = flagged.get(entry.reason, 0) + 1
                    if row.line is not None:
                        totals["out"] += 1
                        yield row.line
                if progress:
                    progress(totals["rows"], totals["out"])

        chunks: Iterable[list[Verified]] = engine.run(VerifyTask(config, index), read_lines(path), CHUNK_ROWS)
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent) as spool:
            chunks = _Duplicates(config).passed(chunks, spool)
            if config.judge:
                chunks = map(_Judge(config.judge), chunks)
            write_lines(out, counted(chunks))
        table = ledger.table()
    return {**totals, "yields": table, "flagged": flagged}


class _Duplicates:
    """The stage that needs to see all rows: a later one may be the longer dialogue of two, which stays."""

    def __init__(self, config: VerifyConfig):
        self.actions = config.rules.actions
        self.on = self.actions.duplicate != "off" or self.actions.near_duplicate != "off"
        self.seen = Seen(config.near_threshold)

    def passed(self, chunks: Iterable[list[Verified]], spool: IO[bytes]) -> Iterator[list[Verified]]:
        """The chunks again with the fates of their rows; meanwhile they wait in `spool`, not in memory."""
        if not self.on:
            yield from chunks
            return
        fates: dict[int, Duplicate] = {}
        numbers, written = itertools.count(), 0
        for chunk in chunks:
            for row in chunk:
                number = next(numbers)
                if row.fingerprint and (duplicate := self.seen.check(row.id, row.fingerprint, number)):
                    fates[duplicate.loser] = duplicate
            pickle.dump(chunk, spool, pickle.HIGHEST_PROTOCOL)
            written += 1
        spool.seek(0)
        numbers = itertools.count()
        for _ in range(written):
            chunk = pickle.load(spool)
            yield [self._told(row, fates.get(next(numbers))) for row in chunk]

    def _told(self, row: Verified, found: Duplicate | None) -> Verified:
        if row.line is None or row.fingerprint is None:
            return row
        action = getattr(self.actions, found.code) if found else "off"
        code, of = (found.code, f"of {found.of}") if found and action != "off" else ("", "")
        row.entries.append(_entry(row, "duplicates", code, of, action == "drop"))
        if code:
            row.line = None if action == "drop" else _noted_line(row.line, f"flagged:{code}")
        return row


class _Judge:
    def __init__(self, config: JudgeConfig):
        self.config = config
        self.llm = config.client()

    def __call__(self, chunk: list[Verified]) -> list[Verified]:
        rows = [row for row in chunk if row.line is not None]
        records = [Record.from_json(json.loads(row.line)) for row in rows if row.line is not None]
        judgements = judge(records, self.llm, self.config.scope)
        for row, record, judgement in zip(rows, records, judgements, strict=True):
            entry = judge_entry(record, judgement, self.config)
            row.entries.append(entry)
            if entry.verdict == "dropped":
                row.line = None
            elif entry.reason and row.line is not None:
                row.line = _noted_line(row.line, f"flagged:{entry.reason}")
        return chunk


def _noted_line(line: str, note: str) -> str:
    record = noted(Record.from_json(json.loads(line)), [note])
    return json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
