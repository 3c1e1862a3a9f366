"""Text with spans -> token ids with loss weights, tokenised once.

Tokenising the prompt and the answer apart merges differently at the seam than the whole text does, so the
whole conversation is tokenised in one call and the trained tokens are found by character offsets.
Every refusal is an `EncodeError` with a code that goes into the ledger:

| code | meaning |
|---|---|
| `no_label` | no token would be trained |
| `no_stop_token` | an assistant turn does not end with the codec's stop token |
| `double_bos`, `missing_bos` | the row does not begin with exactly one BOS where the template writes one |
| `special_token_in_text` | a field of the record spells a special token, which would become a control token |
| `seam` | a token straddles the border of an assistant span |
| `prefix_mismatch` | the ids of the generation prompt are not a prefix of the row's ids |
| `too_long` | more positions than a packed row has; rows are never cut |
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.files import sha256_of
from xlam_jax.format.codec import Codec, Rendered
from xlam_jax.format.record import Record
from xlam_jax.shards.pieces import Pieces


class EncodeError(InputError):
    """A row that may not be trained on; `code` is the ledger's reason."""

    def __init__(self, code: str, what: str, *, where: str = "", hint: str = ""):
        super().__init__(what, where=where, hint=hint)
        self.code = code


@dataclass(frozen=True)
class Encoded:
    """`ids` int32 [n]; `weights` float32 [n], each step's weight (1.0) on the tokens of its assistant span, 0.0
    elsewhere."""

    ids: np.ndarray
    weights: np.ndarray


def load_tokenizer(folder: str | Path) -> Any:
    """The fast tokenizer of a model folder (offsets need the fast kind)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("tokenizer folder not found", where=str(folder), hint="give the folder of a model")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as e:  # transformers raises many kinds for a folder without a tokenizer
        first = (str(e).splitlines() or [type(e).__name__])[0]
        raise InputError(
            f"no readable tokenizer: {first}", where=str(folder), hint="the folder needs tokenizer.json"
        ) from e
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "the tokenizer gives no character offsets", where=str(folder), hint="add tokenizer.json"
        )
    return tokenizer


def tokenizer_hash(folder: str | Path) -> str:
    """sha256 of the folder's tokenizer.json ("" without one): two folders with it equal tokenise alike."""
    path = Path(folder) / "tokenizer.json"
    return sha256_of(path) if path.is_file() else ""


def single_id(tokenizer: Any, text: str) -> int | None:
    """The id of `text` when the tokenizer knows it as one token, else None."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 else None


def check_tokenizer(tokenizer: Any, codec: Codec, where: str = "") -> None:
    """Raises InputError unless the codec's stop text, and its BOS if it writes one, are one token each."""
    for role, text in (("stop token", codec.stop), ("BOS", codec.bos)):
        if text and single_id(tokenizer, text) is None:
            raise InputError(
                f"the tokenizer has no single token for {text!r}, the {role} of template {codec.template!r}",
                where=where,
                hint="choose the template that the model was trained with (codec.template)",
            )


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that the tokenizer turns into control tokens wherever they stand."""
    added = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    return tuple(sorted(added | set(tokenizer.all_special_tokens)))


def special_token_in(record: Record, specials: tuple[str, ...], line: bytes | None = None) -> str | None:
    """The first special token spelt out in the record's own text, or None.

    Fast tokenizers split on special tokens wherever they stand, so a substring search is exact.

    Args:
      line: the JSON that the record was read from, where the caller has it: what does not stand there does
        not stand in the record.
    """
    # What JSON escapes is written otherwise there.
    told = (
        line is not None and b"\\u" not in line and b"\\/" not in line and not any(map(_is_escaped, specials))
    )
    if told and line is not None and not any(s.encode() in line for s in specials):
        return None
    bare = replace(record, id="x", source="", license="", lineage=())
    text = json.dumps(bare.to_json(), ensure_ascii=False)
    return next((s for s in specials if s in text), None)


@functools.cache
def _is_escaped(text: str) -> bool:
    return json.dumps(text, ensure_ascii=False) != f'"{text}"'


def encode(
    rendered: Rendered, tokenizer: Any, *, bos: str = "", max_len: int | None = None, where: str = ""
) -> Encoded:
    """Tokenises `rendered.text` once and weighs each token: its step's weight inside "assistant" spans, 0 elsewhere.

    The text already holds every special token, BOS too, so the tokenizer adds none.

    Args:
      rendered: text with spans; each "assistant" span ends with its nested "stop" span.
      tokenizer: a fast transformers tokenizer.
      bos: the BOS text that the template writes at the start, "" when it writes none.
      max_len: refuse a row whose last trained token stands later than this many inputs can predict.
      where: named in errors, for example the record id.

    Raises:
      EncodeError: see the codes at the head of this module.
    """
    text = rendered.text
    out = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = np.asarray(out["input_ids"], np.int32)
    starts, ends = _cover(np.asarray(out["offset_mapping"], np.int64).reshape(-1, 2))
    _check_bos(ids, tokenizer.bos_token_id, single_id(tokenizer, bos) if bos else None, bos, where)
    weights, turns = _weigh(rendered, ids, starts, ends, where)
    for step, start, first in turns:
        prompt = tokenizer(text[:start], add_special_tokens=False)["input_ids"]
        _check_prefix(prompt, ids[:first], step, where)
    return _fitting(Encoded(ids, weights), max_len, where)


@dataclass
class Encoder:
    """`encode` for many rows at once, on all cores, with what their prompts share tokenised once.

    Tokenizers cut the text at special tokens first, so what stands before one cannot change the ids after it.
    A row is cut at the last one before its first answer: of the long part before it only ids are needed
    (`Pieces`), of the rest offsets too. And what `encode` does with the whole prompt of each turn, this does
    with what follows the last special token before the turn.

    Raises:
      InputError: as `check_tokenizer`, for each codec when it is first used.
    """

    tokenizer: Any
    where: str = ""

    def __post_init__(self) -> None:
        self._backend = self.tokenizer.backend_tokenizer
        self._pieces = Pieces(self._backend)
        added = {i: t for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        self._is_special = np.zeros(max(added, default=0) + 2, np.bool_)  # the last for all ids beyond
        self._is_special[list(added)] = True
        # Those that take no blank from what stands before them, and are no part of a longer one.
        texts = [t.content for t in added.values()]
        self._cuts = [
            t.content
            for t in added.values()
            if not t.lstrip and not t.single_word and sum(t.content in text for text in texts) == 1
        ]
        self._bos: dict[str, int | None] = {}
        self._cuts_of: dict[str, list[str]] = {}

    def __call__(
        self, rows: Sequence[tuple[Rendered, Codec, str]], max_len: int | None = None
    ) -> list[Encoded | EncodeError]:
        """Args: `rows`, (rendered, its codec, where) each. A refused row's place holds its error."""
        # Not at the start: the tokenizer is the caller's, and transformers sets both again at every call.
        self._backend.no_truncation()
        self._backend.no_padding()
        cuts = [self._cut(rendered, codec) for rendered, codec, _ in rows]
        texts = [rendered.text for rendered, _, _ in rows]
        heads = self._pieces([text[:cut] for text, cut in zip(texts, cuts, strict=True)])
        ends_of = [text[cut:] for text, cut in zip(texts, cuts, strict=True)]
        encodings = self._backend.encode_batch(ends_of, add_special_tokens=False)
        results: list[Encoded | EncodeError] = []
        tails: list[str] = []
        owners: list[tuple[int, int, np.ndarray]] = []
        for i, ((rendered, codec, where), encoding) in enumerate(zip(rows, encodings, strict=True)):
            ids = np.asarray(encoding.ids, np.int32)
            starts, ends = (
                x + cuts[i] for x in _cover(np.asarray(encoding.offsets, np.int64).reshape(-1, 2))
            )
            whole = np.concatenate([heads[i], ids])
            try:
                _check_bos(whole, self.tokenizer.bos_token_id, self._bos_of(codec), codec.bos, where)
                weights, turns = _weigh(rendered, ids, starts, ends, where)
                weights = np.concatenate([np.zeros(len(heads[i]), np.float32), weights])
                results.append(_fitting(Encoded(whole, weights), max_len, where))
            except EncodeError as e:
                results.append(e)
                continue
            for step, start, first in turns:
                special = np.flatnonzero(self._is_special.take(ids[:first], mode="clip"))
                at = int(special[-1]) if len(special) else 0
                tails.append(rendered.text[int(starts[at]) if len(special) else cuts[i] : start])
                owners.append((i, step, ids[at:first]))
        for (i, step, wanted), prompt in zip(owners, self._pieces(tails), strict=True):
            try:
                _check_prefix(prompt, wanted, step, rows[i][2])
            except EncodeError as e:
                results[i] = e
        return results

    @property
    def distinct(self) -> Collection[str]:
        """The pieces of prompts that were tokenised and are remembered."""
        return self._pieces.distinct

    def _cut(self, rendered: Rendered, codec: Codec) -> int:
        """Where the last special token before the first answer begins; 0 where there is none."""
        if codec.template not in self._cuts_of:
            chat = codec.chat
            written = "".join(
                (chat.preamble, *chat.system, *chat.user, *chat.tool, chat.assistant, chat.after)
            )
            self._cuts_of[codec.template] = [text for text in self._cuts if text in written]
        first = min((span.start for span in rendered.spans if span.kind == "assistant"), default=0)
        places = (rendered.text.rfind(text, 0, first) for text in self._cuts_of[codec.template])
        return max(0, max(places, default=0))

    def _bos_of(self, codec: Codec) -> int | None:
        if codec.template not in self._bos:
            check_tokenizer(self.tokenizer, codec, self.where)
            self._bos[codec.template] = single_id(self.tokenizer, codec.bos) if codec.bos else None
        return self._bos[codec.template]


def one_row_per_turn(encoded: Encoded) -> list[Encoded]:
    """The rows that training one assistant turn at a time would need: a turn's row ends with that turn, and
    what the model said before is context without loss. Together they train what `encoded` trains."""
    edges = np.flatnonzero(np.diff(encoded.weights != 0, prepend=False, append=False)).reshape(-1, 2)
    rows = []
    for start, end in edges:
        weights = np.zeros(end, np.float32)
        weights[start:] = encoded.weights[start:end]
        rows.append(Encoded(encoded.ids[:end], weights))
    return rows


def _weigh(
    rendered: Rendered, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, where: str
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Weights `[n]`, and of each trained turn (step, first character, first token)."""
    text = rendered.text
    weights = np.zeros(len(ids), np.float32)
    turns = []
    stops = [s for s in rendered.spans if s.kind == "stop"]
    for span in (s for s in rendered.spans if s.kind == "assistant"):
        empty = starts == ends
        inside = (starts >= span.start) & (ends <= span.end) & (~empty | (starts < span.end))
        touching = (starts < span.end) & (ends > span.start)
        if np.any(touching & ~inside):
            k = int(np.flatnonzero(touching & ~inside)[0])
            raise EncodeError(
                "seam",
                f"token {text[starts[k] : ends[k]]!r} straddles the border of the assistant turn",
                where=where,
                hint="a template must end the prompt and the answer on token borders",
            )
        trained = np.flatnonzero(inside)
        if len(trained) == 0:
            continue
        stop = next((s for s in stops if span.start <= s.start and s.end == span.end), None)
        last = trained[-1]
        if stop is None or starts[last] != stop.start or ends[last] != stop.end:
            raise EncodeError(
                "no_stop_token", f"assistant turn {span.step} does not end with the stop token", where=where
            )
        if not span.weight:
            continue
        weights[inside] = span.weight
        turns.append((span.step, span.start, int(trained[0])))
    if not turns:
        raise EncodeError(
            "no_label", "no token would be trained", where=where, hint="the record has no answer"
        )
    return weights, turns


def _check_prefix(prompt: Sequence[int] | np.ndarray, wanted: np.ndarray, step: int, where: str) -> None:
    if len(prompt) != len(wanted) or not np.array_equal(prompt, wanted):
        raise EncodeError(
            "prefix_mismatch",
            f"the prompt of turn {step} tokenises differently alone than in the whole row",
            where=where,
        )


def _fitting(encoded: Encoded, max_len: int | None, where: str) -> Encoded:
    needed = int(np.flatnonzero(encoded.weights)[-1])
    if max_len is not None and needed > max_len:
        raise EncodeError(
            "too_long", f"needs {needed} positions, a row has {max_len}", where=where, hint="raise seq_len"
        )
    return encoded


def _cover(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets that leave no gap: byte-level tokenizers trim the leading blank off a token's offsets, and a
    blank that belongs to a token must count when borders are compared."""
    reached = np.maximum.accumulate(offsets[:, 1])
    starts = np.minimum(offsets[:, 0], np.concatenate([[0], reached[:-1]])) if len(offsets) else reached
    return starts, np.maximum(offsets[:, 1], starts)


def _check_bos(ids: np.ndarray, tokenizer_bos: int | None, bos_id: int | None, bos: str, where: str) -> None:
    """`bos_id` is the id of the template's `bos`; without one the tokenizer's own may not stand twice."""
    if bos and (len(ids) == 0 or ids[0] != bos_id):
        raise EncodeError("missing_bos", f"the row does not begin with {bos!r}", where=where)
    twice = bos_id if bos else tokenizer_bos
    if twice is not None and len(ids) > 1 and ids[0] == twice and ids[1] == twice:
        raise EncodeError("double_bos", "the row begins with two BOS tokens", where=where)
