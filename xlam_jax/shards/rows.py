"""Lines of Records or Pairs -> tokenised rows: the work of `shards.build` that runs on an engine."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xlam_jax.format.codec import Codec, Rendered
from xlam_jax.format.instructions import contradiction
from xlam_jax.format.opening import is_plain_chat
from xlam_jax.format.pair import Pair
from xlam_jax.format.record import Record, Step, parse_line
from xlam_jax.format.thinking import spoken, untagged
from xlam_jax.ledger import Entry
from xlam_jax.shards.mixture import Holdout
from xlam_jax.shards.pack import Document, document
from xlam_jax.shards.preference import PairDocument, pair_document
from xlam_jax.shards.tokenize import EncodeError, Encoder, load_tokenizer, special_token_in, special_tokens

if TYPE_CHECKING:
    from xlam_jax.shards.build import BuildConfig

STAGE = "tokenise"
CONTRADICTION = "contradictory_instruction"
THOUGHT_LEFT_OUT = "thought_left_out"


@dataclass(frozen=True)
class TokenisedRow:
    """A tokenised record, or pair with its chosen record, on its way to a spool.

    Attributes:
      again: a further text of the record before, see `Codec.texts`.
    """

    part: str
    record: Record
    document: Document | PairDocument
    pair: Pair | None = None
    again: bool = False

    def to_json(self) -> dict[str, Any]:
        """The line it would be in a file of its kind."""
        return (self.pair or self.record).to_json()


@dataclass
class TokenisedChunk:
    """What became of a chunk: its tokenised rows and its ledger entries."""

    rows: list[TokenisedRow] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class _Tokenise:
    """What both kinds share: which rows are refused before they are tokenised."""

    config: BuildConfig
    holdout: Holdout
    license: str = ""  # of rows that name none

    def _admit(self, record: Record, result: TokenisedChunk, line: bytes) -> tuple[str, Record] | None:
        """(part, record without held-out tools), or None after an entry in the ledger."""
        licence = record.license or self.license
        if any(fnmatch.fnmatch(licence, pattern) for pattern in self.config.deny_licences):
            result.entries.append(_dropped(record, "licence_denied", licence))
            return None
        part, kept = self.holdout.assign(record)
        if part == "straddles":
            result.entries.append(
                _dropped(record, "straddles_validation", "calls both kinds, or no other tool is left")
            )
            return None
        _, specials = _encoder(self.config.tokenizer)
        if token := special_token_in(kept, specials, line):
            detail = f"the text spells the control token {token!r}"
            result.entries.append(_dropped(record, "special_token_in_text", detail))
            return None
        return part, kept


@dataclass(frozen=True)
class TokeniseRecords(_Tokenise):
    """A task: lines of a Records file -> `TokenisedChunk`."""

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> TokenisedChunk:
        config, result = self.config, TokenisedChunk()
        codec = config.codec.make()
        rendered, admitted = [], []
        for line, where in items:
            record = Record.from_json(parse_line(line, where), where)
            if (admission := self._admit(record, result, line)) is None:
                continue
            part, kept = admission
            styled = codec.styled(kept.style)
            if said := contradiction(kept, styled):
                result.entries.append(_dropped(record, CONTRADICTION, said))
                continue
            texts = [
                t for t in styled.texts(kept) if any(s.kind == "assistant" and s.weight for s in t.spans)
            ]
            texts = texts or [styled.render(kept)]
            rendered += [(text, styled, f"record {kept.id}") for text in texts]
            admitted.append((part, kept, _repairs(record, kept, styled), len(texts)))
        encoded = iter(_encoder(config.tokenizer)[0](rendered, config.seq_len))
        for part, record, repairs, count in admitted:
            rows = [next(encoded) for _ in range(count)]
            refused = [row for row in rows if isinstance(row, EncodeError)]
            if len(refused) == count:
                result.entries.append(_dropped(record, refused[0].code, refused[0].what))
                continue
            kept = [document(row) for row in rows if not isinstance(row, EncodeError)]
            result.rows += [TokenisedRow(part, record, made, again=i > 0) for i, made in enumerate(kept)]
            if refused:
                detail = f"{len(refused)} of {count} steps: {refused[0].what}"
                repairs = [(refused[0].code, detail), *repairs]
            result.entries.append(_passed(record, repairs))
        return result


@dataclass(frozen=True)
class TokenisePairs(_Tokenise):
    """A task: lines of a Pairs file -> `TokenisedChunk`."""

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> TokenisedChunk:
        config, result = self.config, TokenisedChunk()
        codec = config.codec.make()
        rendered, admitted = [], []
        for line, where in items:
            pair = Pair.from_json(parse_line(line, where), where)
            # One record that calls what either answer calls, so that both stand on one side of the split.
            both = replace(pair.chosen, steps=(*pair.chosen.steps, pair.rejected))
            if (admission := self._admit(both, result, line)) is None:
                continue
            part, kept = admission
            styled = codec.styled(pair.chosen.style)
            repairs = _repairs(both, kept, styled)
            shown = replace(pair.chosen, tools=kept.tools, few_shot_examples=kept.few_shot_examples)
            pair = replace(pair, chosen=shown)
            if said := contradiction(pair.chosen, styled):
                result.entries.append(_dropped(pair.chosen, CONTRADICTION, said))
                continue
            rendered.append(_rendered(pair.chosen, codec, "chosen of pair"))
            rendered.append(_rendered(pair.rejected_record, codec, "rejected of pair"))
            admitted.append((part, pair, repairs))
        encoded = _encoder(config.tokenizer)[0](rendered, config.seq_len)
        for k, (part, pair, repairs) in enumerate(admitted):
            record, chosen, rejected = pair.chosen, encoded[2 * k], encoded[2 * k + 1]
            try:
                made = pair_document(
                    _raised(chosen), _raised(rejected), config.pair_layout, max_len=config.seq_len
                )
            except EncodeError as e:
                result.entries.append(_dropped(record, e.code, e.what))
                continue
            result.rows.append(TokenisedRow(part, record, made, pair))
            result.entries.append(_passed(record, repairs))
        return result


def tokenise(config: BuildConfig, holdout: Holdout) -> TokeniseRecords | TokenisePairs:
    """The task of a build."""
    return (TokenisePairs if config.kind == "preference" else TokeniseRecords)(config, holdout)


def document_kind(config: BuildConfig) -> type[Any]:
    """The class of the documents that `tokenise` makes."""
    return PairDocument if config.kind == "preference" else Document


@functools.lru_cache(maxsize=2)
def _encoder(folder: str) -> tuple[Encoder, tuple[str, ...]]:
    """Once a process: loading a tokenizer takes a second."""
    tokenizer = load_tokenizer(folder)
    return Encoder(tokenizer, where=folder), special_tokens(tokenizer)


def _rendered(record: Record, codec: Codec, what: str) -> tuple[Rendered, Codec, str]:
    styled = codec.styled(record.style)
    return styled.render(record), styled, f"{what} {record.id}"


def _raised(encoded: Any) -> Any:
    if isinstance(encoded, EncodeError):
        raise encoded
    return encoded


def _repairs(record: Record, kept: Record, codec: Codec) -> list[tuple[str, str]]:
    """(code, detail) of what a record loses: tools and examples to the validation set, thoughts to the codec."""
    out = []
    before, after = (len(r.tools) + len(r.few_shot_examples) for r in (record, kept))
    if before > after:
        detail = f"{before - after} tools or examples kept for validation were taken away"
        out.append(("held_out_tool", detail))
    plain = is_plain_chat(kept)
    left = 0 if codec.thought else sum(_has_thought(step, plain) for step in kept.steps)
    if left:
        detail = f"{left} of {len(kept.steps)} steps have a thought that the codec (thought=false) leaves out"
        out.append((THOUGHT_LEFT_OUT, detail))
    return out


def _has_thought(step: Step, plain: bool) -> bool:
    """Whether a step says more than a codec without thoughts writes."""
    if step.tool_calls:
        return bool(untagged(step.thought).strip())
    return not plain and untagged(step.thought).strip() != spoken(step.thought).strip()


def _passed(record: Record, repairs: Sequence[tuple[str, str]]) -> Entry:
    """One entry a row, so that yields add up: the first repair gives the reason, the detail tells all."""
    if not repairs:
        return Entry(record.id, record.source, STAGE, "pass")
    detail = "; ".join(detail for _, detail in repairs)
    return Entry(record.id, record.source, STAGE, "repaired", repairs[0][0], detail)


def _dropped(record: Record, reason: str, detail: str) -> Entry:
    return Entry(record.id, record.source, STAGE, "dropped", reason, detail)
