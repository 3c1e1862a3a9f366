"""What a file of Records, or a folder of packed shards, holds: lengths, calls, tools, sources, licences.

Rows are counted in chunks on any engine and the counts are added up, so memory does not grow with the rows:
it holds the distinct lengths (lengths from 10,000 on keep four digits), sources, licences and functions.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlam_jax.errors import InputError
from xlam_jax.format.codec import Codec, Rendered, get_codec
from xlam_jax.format.record import Record, parse_line, read_lines
from xlam_jax.records.engine import LocalEngine, RowEngine

if TYPE_CHECKING:
    from xlam_jax.shards.tokenize import Encoder

QUANTILES = (5, 50, 95, 99)
BINS = 12


@dataclass
class Counts:
    """Counters of a set of Records; `a.add(b)` makes `a` those of both.

    Attributes:
      refused: rows by the reason they could not be read, written or tokenised; see `shards/tokenize.py`.
      rows: totals: `rows, turns, turns_without_call, rows_with_thoughts, rows_without_call`.
      characters, tokens, trained: rows by length of the written text, in tokens, and of what is trained.
      styles: rows by `call format/layout`, as each will be written.
    """

    refused: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    characters: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    trained: Counter[int] = field(default_factory=Counter)
    tools: Counter[int] = field(default_factory=Counter)
    calls: Counter[int] = field(default_factory=Counter)
    steps: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    styles: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Adds the counts of other rows."""
        for f in fields(self):
            getattr(self, f.name).update(getattr(other, f.name))

    def summary(self, top: int = 20) -> dict[str, Any]:
        """As JSON: totals, distributions, and rows by name with the most frequent first.

        Args:
          top: how many functions to list.
        """
        lengths = {"characters": self.characters, "tokens": self.tokens, "trained tokens": self.trained}
        shapes = {"tools": self.tools, "calls": self.calls, "steps": self.steps}
        out: dict[str, Any] = {
            "rows": 0,
            "turns": 0,
            "turns_without_call": 0,
            "rows_without_call": 0,
            "rows_with_thoughts": 0,
            "functions": len(self.functions),
        }
        out |= self.rows
        out["refused"] = dict(self.refused.most_common())
        out["distributions"] = {
            name: distribution(counts) for name, counts in (lengths | shapes).items() if counts
        }
        out |= {name: dict(getattr(self, name).most_common()) for name in ("sources", "licences", "styles")}
        out["top_functions"] = dict(self.functions.most_common(top))
        return out


@dataclass(frozen=True)
class CountRecords:
    """A task: lines of a Records file -> `Counts`.

    Attributes:
      codec: what `get_codec` takes; a record's style goes before it.
      tokenizer: folder of the tokenizer, empty to count characters only.
    """

    codec: dict[str, Any]
    tokenizer: str = ""

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> Counts:
        counts, written = Counts(), []
        base = get_codec(**self.codec)
        for line, where in items:
            counts.rows["rows"] += 1
            try:
                record = Record.from_json(parse_line(line, where), where)
            except InputError:
                counts.refused["not_a_record"] += 1
                continue
            count_record(record, counts)
            try:
                codec = base.styled(record.style)
                rendered = codec.render(record)
            except InputError:
                counts.refused["cannot_be_written"] += 1
                continue
            counts.styles[f"{codec.call_format}/{codec.layout}"] += 1
            counts.characters[_rounded(len(rendered.text))] += 1
            written.append((record, rendered, codec, where))
        if self.tokenizer and written:
            _count_tokens(written, self.tokenizer, counts)
        return counts


def count_record(record: Record, counts: Counts) -> None:
    """Counts what can be told without writing the record."""
    calls = [call.name for step in record.steps for call in step.tool_calls]
    counts.functions.update(calls)
    counts.calls[len(calls)] += 1
    counts.tools[len(record.tools)] += 1
    counts.steps[len(record.steps)] += 1
    counts.sources[record.source or "unknown"] += 1
    counts.licences[record.license or "unknown"] += 1
    counts.rows["turns"] += len(record.steps)
    counts.rows["turns_without_call"] += sum(not step.tool_calls for step in record.steps)
    counts.rows["rows_without_call"] += not calls
    counts.rows["rows_with_thoughts"] += any(step.thought for step in record.steps)


def record_stats(
    paths: Iterable[str | Path],
    codec: Codec,
    tokenizer: str = "",
    engine: RowEngine = LocalEngine(),
    progress: Callable[[int], None] | None = None,
) -> Counts:
    """Counts the Records of these files; rows that are none are counted as refused.

    Args:
      codec: writes the records whose lengths are counted.
      tokenizer: folder of a tokenizer, for lengths in tokens.
      progress: called with the rows counted so far.

    Raises:
      InputError: a missing file, or a tokenizer that lacks the codec's stop token.
    """
    if tokenizer:
        from xlam_jax.shards.tokenize import check_tokenizer, load_tokenizer

        check_tokenizer(load_tokenizer(tokenizer), codec, where=tokenizer)
    total = Counts()
    for path in paths:
        for counts in engine.run(CountRecords(codec.settings, tokenizer), read_lines(path)):
            total.add(counts)
            if progress:
                progress(total.rows["rows"])
    return total


def shard_stats(folder: str | Path) -> dict[str, Any]:
    """A data folder's manifest, and the distributions of its packed rows and documents, as JSON.

    Raises:
      InputError: no data folder, or a damaged one.
    """
    from xlam_jax.shards.loader import PackedSource

    source = PackedSource(folder)
    lengths: Counter[int] = Counter()
    trained: Counter[int] = Counter()
    documents: Counter[int] = Counter()
    filled: Counter[int] = Counter()
    for k in range(len(source)):
        row, ids = source[k]
        documents[len(ids)] += 1
        filled[int((row.segment_ids > 0).sum())] += 1
        for segment in range(1, len(ids) + 1):
            here = row.segment_ids == segment
            lengths[int(here.sum())] += 1
            trained[int((row.loss_weights[here] != 0).sum())] += 1
    counted = {
        "tokens of a document": lengths,
        "trained tokens of a document": trained,
        "documents of a row": documents,
        "tokens of a row": filled,
    }
    kept = {k: v for k, v in source.manifest.items() if k not in ("version", "shards")}
    return {
        "path": str(folder),
        **kept,
        "shards": len(source.manifest["shards"]),
        "distributions": {name: distribution(counts) for name, counts in counted.items()},
    }


def distribution(counts: Counter[int]) -> dict[str, Any]:
    """`{mean, min, p5, p50, p95, p99, max, histogram}` of rows counted by value.

    A quantile is the smallest value that at least that share of the rows do not exceed.
    """
    values, total = sorted(counts), sum(counts.values())
    out: dict[str, Any] = {"mean": sum(v * n for v, n in counts.items()) / total, "min": values[0]}
    for q in QUANTILES:
        reached = 0
        for value in values:
            reached += counts[value]
            if 100 * reached >= q * total:
                out[f"p{q}"] = value
                break
    return out | {"max": values[-1], "histogram": histogram(counts, out["p99"])}


def histogram(counts: Counter[int], high: int) -> list[dict[str, int]]:
    """At most `BINS` + 1 bins `{from, to, rows}` of equal, round width; the last one takes all from `high`
    on, so that a few giants do not squeeze the rest into one bin."""
    low = min(counts)
    width = next(w for w in _round_widths() if (high - low) // w < BINS)
    low -= low % width
    bins: Counter[int] = Counter()
    last = (high - low) // width
    for value, n in counts.items():
        bins[min((value - low) // width, last)] += n
    most = max(counts)
    return [
        {"from": low + k * width, "to": most if k == last else low + (k + 1) * width - 1, "rows": bins[k]}
        for k in range(last + 1)
    ]


def _round_widths() -> Iterable[int]:
    scale = 1
    while True:
        yield from (scale, 2 * scale, 5 * scale)
        scale *= 10


def _rounded(length: int) -> int:
    """Four significant digits."""
    return length if length < 10_000 else length - length % 10 ** (len(str(length)) - 4)


def _count_tokens(written: list[tuple[Record, Rendered, Codec, str]], tokenizer: str, counts: Counts) -> None:
    """Counts the tokens of rows that `xlam data build` would keep, and why it would drop the others."""
    from xlam_jax.shards.tokenize import EncodeError, special_token_in

    encoder, specials = _encoder(tokenizer)
    for (record, *_), encoded in zip(written, encoder([row[1:] for row in written]), strict=True):
        if special_token_in(record, specials):
            counts.refused["special_token_in_text"] += 1
        elif isinstance(encoded, EncodeError):
            counts.refused[encoded.code] += 1
        else:
            counts.tokens[_rounded(len(encoded.ids))] += 1
            counts.trained[_rounded(int((encoded.weights != 0).sum()))] += 1


@functools.lru_cache(maxsize=1)
def _encoder(folder: str) -> tuple[Encoder, tuple[str, ...]]:
    """Once a process: loading a tokenizer takes a second."""
    from xlam_jax.shards.tokenize import Encoder, load_tokenizer, special_tokens

    tokenizer = load_tokenizer(folder)
    return Encoder(tokenizer, where=folder), special_tokens(tokenizer)
