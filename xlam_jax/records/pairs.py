"""Preference pairs: the record's own answer against a worse one, kept only where the scorer agrees.

Worse answers come from a weaker model or from typed corruptions. A rejected call may be as good as the chosen
one (another order of arguments, an optional default, other punctuation); such pairs teach noise, so the
scorer must pass the chosen answer and fail the rejected one.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError, unknown
from xlam_jax.format import CALL_FORMATS, Pair, ParseError, Record, Step, ToolCall
from xlam_jax.format.record import parse_line, read_json_lines, read_lines
from xlam_jax.ledger import Entry, Ledger
from xlam_jax.records.decisions import DECISIONS
from xlam_jax.records.engine import CHUNK_ROWS, ChunkResult, LocalEngine, RecordTask, RowEngine, run_to_file
from xlam_jax.records.quality.corrupt import CORRUPTIONS, Corruption, Pool
from xlam_jax.records.quality.schema_check import check_call
from xlam_jax.scoring.gold import score_against

STAGE, NEGATIVES_STAGE = "pairs", "negatives"
# Only errors inside an answer make a pair; those of queries and neighbours change the prompt.
NEGATIVES: Mapping[str, Corruption] = {**{n: c for n, c in CORRUPTIONS.items() if c.calls}, **DECISIONS}

KEPT = "kept"
OUTCOMES = (
    KEPT, "same", "rejected_passes", "chosen_fails", "unparsable_negative", "no_such_step",
    "prompt_changed", "not_applicable",
)  # fmt: skip
# Records from which corruptions borrow values.
_POOL_ROWS = 20_000


@dataclass(frozen=True)
class Negative:
    """An answer of a weaker model.

    Attributes:
      calls: None where its text does not parse.
      step: the step it answers, counted from 1.
    """

    calls: tuple[ToolCall, ...] | None
    text: str = ""
    step: int = 1


@dataclass(frozen=True)
class PairTask:
    """A task on the lines of a Records file: each row's pairs; counts `NEGATIVE/OUTCOME`."""

    answers: Mapping[str, tuple[Negative, ...]]
    model: str
    corruptions: tuple[str, ...]
    pool: Pool
    per_row: int = 1
    keep_unparsable: bool = False
    seed: int = 0

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> ChunkResult:
        counts: Counter[str] = Counter()

        def work(index: int, record: Record) -> tuple[Iterable[Any], list[Entry]]:
            return self._row(index, record, counts)

        result = RecordTask(work, STAGE)(start, items)
        result.counts = counts
        return result

    def _row(self, index: int, record: Record, counts: Counter[str]) -> tuple[list[Pair], list[Entry]]:
        pairs: list[Pair] = []
        tried: list[tuple[str, str]] = []
        for name, made in self._candidates(index, record):
            pair, outcome = (made, KEPT) if isinstance(made, Pair) else (None, made)
            counts[f"{name}/{outcome}"] += 1
            tried.append((name, outcome))
            if pair is not None:
                number = len(pairs) + 1
                chosen = pair.chosen
                lineage = (*chosen.lineage, f"pairs:{name}")
                pairs.append(
                    replace(pair, chosen=replace(chosen, id=f"{record.id}#pair{number}", lineage=lineage))
                )
                if number == self.per_row:
                    break
        detail = json.dumps([f"{name}: {outcome}" for name, outcome in tried])
        if pairs:
            return pairs, [Entry(record.id, record.source, STAGE, "pass", "", detail)]
        # The most telling reason: an answer that was judged before one that could not be made.
        reasons = sorted((outcome for _, outcome in tried), key=OUTCOMES.index)
        reason = reasons[0] if reasons else "no_negative"
        return [], [Entry(record.id, record.source, STAGE, "dropped", reason, detail)]

    def _candidates(self, index: int, record: Record) -> Iterator[tuple[str, Pair | str]]:
        """(name, pair or why there is none): the model's answers first, then corruptions in seeded order."""
        for negative in self.answers.get(record.id, ()):
            yield self.model, self._of_model(record, negative)
        order = np.random.default_rng([self.seed, zlib.crc32(b"pairs"), index]).permutation(
            len(self.corruptions)
        )
        for name in (self.corruptions[int(i)] for i in order):
            corruption = NEGATIVES[name]
            rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), index])
            spoilt = corruption.apply(record, rng, self.pool)
            yield (
                name,
                "not_applicable" if spoilt is None else from_corruption(record, spoilt, corruption.code),
            )

    def _of_model(self, record: Record, negative: Negative) -> Pair | str:
        if not 1 <= negative.step <= len(record.steps):
            return "no_such_step"
        if negative.calls is None and not self.keep_unparsable:
            return "unparsable_negative"
        rejected = Step(thought=negative.text, tool_calls=negative.calls or ())
        return judge(record, negative.step - 1, rejected, self.model)


def judge(record: Record, index: int, rejected: Step, reason: str) -> Pair | str:
    """The pair of a record's step and a worse answer to the same prompt, or the reason why it is none.

    Args:
      index: of the step, from 0.
      rejected: the worse answer.
      reason: where that comes from, `model:NAME` or a corruption's code; the pair keeps it.

    Returns:
      `same` where the calls are the same, `chosen_fails` and `rejected_passes` by
      `scoring.gold.score_against` with the record's calls as gold; chosen calls must keep their schema, too.
    """
    gold = record.steps[index].tool_calls
    if _written(rejected) == _written(record.steps[index]):
        return "same"
    # The scorer takes the gold calls at their word, wrong types included; the schema does not.
    offered = {tool.name: tool for tool in record.tools}
    if not score_against(record.tools, gold, gold).valid or any(check_call(c, offered) for c in gold):
        return "chosen_fails"
    if score_against(record.tools, gold, rejected.tool_calls).valid:
        return "rejected_passes"
    # What came after the chosen answer is no part of the comparison.
    last = replace(record.steps[index], next_observation="", user_input="")
    chosen = replace(record, steps=(*record.steps[:index], last))
    return Pair(chosen, replace(rejected, next_observation="", user_input=""), reason)


def from_corruption(record: Record, spoilt: Record, code: str) -> Pair | str:
    """`judge` for the first step whose calls a corruption changed.

    A corruption may say more about a parameter (bounds, choices); the tools of both answers are then those.
    """
    before = replace(record, tools=spoilt.tools)
    if replace(spoilt, steps=record.steps) != before or len(spoilt.steps) != len(record.steps):
        return "prompt_changed"
    for index, (old, new) in enumerate(zip(record.steps, spoilt.steps, strict=True)):
        if _written(old) != _written(new):
            return judge(before, index, new, code)
        if old != new:
            return "prompt_changed"
    return "same"


def _written(step: Step) -> str:
    """The calls as JSON whatever the order of arguments: Python holds 5 and 5.0, True and 1 for equal."""
    return json.dumps([[c.name, c.arguments] for c in step.tool_calls], sort_keys=True)


def read_negatives(
    path: Path, call_format: str = "xlam-json"
) -> Iterator[tuple[str, Negative | InputError, str]]:
    """Yields `(id, negative or what is wrong with the line, "path:line")` of a model's answers.

    A line is `{"id": ..., "answer": text}` or `{"id": ..., "calls": [{"name", "arguments"}]}`, with `step`
    (from 1) where it answers a later one than the first; or a line of the `generations.jsonl` that
    `xlam eval records --out` writes.

    Raises:
      InputError: no such file, broken JSON, or an unknown call format.
    """
    if call_format not in CALL_FORMATS:
        hint = "one of " + ", ".join(CALL_FORMATS)
        raise InputError(f"unknown call format {call_format!r}", hint=hint)
    for obj, where in read_json_lines(path):
        try:
            yield *_negative(obj, call_format), where
        except InputError as e:
            yield "", e, where


def _negative(obj: Any, call_format: str) -> tuple[str, Negative]:
    if not isinstance(obj, dict) or not isinstance(obj.get("id"), str):
        raise InputError("an answer needs an id")
    step, text, calls = obj.get("step", 1), obj.get("answer"), obj.get("calls")
    if not isinstance(step, int) or isinstance(step, bool):
        raise InputError(f"step {step!r} is no number")
    if text is None and "finish_reason" in obj:  # a generation, whose steps count from 0
        text, step = obj.get("text"), step + 1
    if isinstance(text, str):
        try:
            answer = CALL_FORMATS[call_format].parse(text, "")
        except ParseError:
            return obj["id"], Negative(None, text, step)
        return obj["id"], Negative(answer.tool_calls, answer.thought, step)
    if not isinstance(calls, list):
        raise InputError("an answer needs `answer` (text) or `calls` (a list)")
    read = Record.from_json({"id": "x", "query": "", "steps": [{"tool_calls": calls}]})
    return obj["id"], Negative(read.steps[0].tool_calls, "", step)


def build_pairs(
    source: Path,
    out: Path,
    *,
    negatives: Path | None = None,
    model: str = "",
    call_format: str = "xlam-json",
    corruptions: Sequence[str] = (),
    per_row: int = 1,
    keep_unparsable: bool = False,
    seed: int = 0,
    engine: RowEngine = LocalEngine(),
    progress: Callable[[int], None] | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> dict[str, Any]:
    """Pairs of a Records file, as Pair JSONL; the same bytes on every engine, for every chunk size.

    Args:
      negatives: a model's answers (`read_negatives`), held in memory; tried before corruptions.
      model: its name, for the pairs' reason `model:NAME`; empty for the file's.
      corruptions: keys of `NEGATIVES`, tried in an order drawn for each row.
      per_row: at most so many pairs a row.
      keep_unparsable: text that does not parse is a rejected answer where calls are due.

    Returns:
      `yields` (the ledger's table), `pairs`, and `negatives`: for each how often it was tried and with what
      outcome, of `OUTCOMES`.

    Raises:
      InputError: missing input, unknown names, neither negatives nor corruptions.
    """
    for name in corruptions:
        if name not in NEGATIVES:
            raise unknown("corruption", name, NEGATIVES)
    if negatives is None and not corruptions:
        raise InputError("nothing to make worse answers of", hint="--negatives FILE or --corruptions all")
    name = f"model:{model or negatives.name.split('.')[0]}" if negatives else ""
    answers: dict[str, list[Negative]] = {}
    counts: Counter[str] = Counter()
    with Ledger(Path(f"{out}.ledger.jsonl")) as ledger:
        read = [] if negatives is None else list(read_negatives(negatives, call_format))
        pool, known = _survey(source, {id for id, _, _ in read})
        for id, made, where in read:
            if isinstance(made, InputError):
                ledger.add(where, name, NEGATIVES_STAGE, "dropped", "bad_negative", made.what)
            elif id not in known:
                ledger.add(where, name, NEGATIVES_STAGE, "dropped", "unknown_id", id)
            else:
                ledger.add(where, name, NEGATIVES_STAGE, "pass")
                answers.setdefault(id, []).append(made)
        task = PairTask(
            {id: tuple(worse) for id, worse in answers.items()},
            name, tuple(corruptions), pool, per_row, keep_unparsable, seed,
        )  # fmt: skip
        items = read_lines(source)
        pairs = run_to_file(engine, task, items, out, ledger, progress, chunk_rows, counts)
    names = [*([name] if name else []), *corruptions]
    return {"yields": ledger.table(), "pairs": pairs, "negatives": [_outcomes(n, counts) for n in names]}


def _survey(source: Path, wanted: set[str]) -> tuple[Pool, set[str]]:
    """What corruptions borrow, and which of the wanted ids the file holds."""
    known: set[str] = set()

    def records() -> Iterator[Record]:
        for line, where in read_lines(source):
            try:
                record = Record.from_json(parse_line(line, where), where)
            except InputError:
                continue  # the pairs' pass puts it into the ledger
            if record.id in wanted:
                known.add(record.id)
            yield record

    stream = records()
    pool = Pool.of(itertools.islice(stream, _POOL_ROWS))
    if wanted:
        for _ in stream:
            if len(known) == len(wanted):
                break
    return pool, known


def _outcomes(name: str, counts: Counter[str]) -> dict[str, Any]:
    row = {outcome: counts[f"{name}/{outcome}"] for outcome in OUTCOMES}
    return {"negative": name, "tried": sum(row.values()), **row}
