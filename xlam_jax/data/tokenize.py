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

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.format.codec import Codec, Rendered
from xlam_jax.format.record import Record


class EncodeError(InputError):
    """A row that may not be trained on; `code` is the ledger's reason."""

    def __init__(self, code: str, what: str, *, where: str = "", hint: str = ""):
        super().__init__(what, where=where, hint=hint)
        self.code = code


@dataclass(frozen=True)
class Encoded:
    """`ids` int32 [n]; `weights` float32 [n], 1.0 exactly on the tokens of assistant spans."""

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
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


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


def special_token_in(record: Record, specials: tuple[str, ...]) -> str | None:
    """The first special token spelt out in the record's own text, or None.

    Fast tokenizers split on special tokens wherever they stand, so a substring search is exact.
    """
    bare = replace(record, id="x", source="", license="", lineage=())
    text = json.dumps(bare.to_json(), ensure_ascii=False)
    return next((s for s in specials if s in text), None)


def encode(
    rendered: Rendered, tokenizer: Any, *, bos: str = "", max_len: int | None = None, where: str = ""
) -> Encoded:
    """Tokenises `rendered.text` once and weighs each token: 1.0 inside "assistant" spans, 0.0 elsewhere.

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
    starts, ends = _cover(out["offset_mapping"])
    _check_bos(ids, tokenizer, bos, where)

    weights = np.zeros(len(ids), np.float32)
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
        prompt = tokenizer(text[: span.start], add_special_tokens=False)["input_ids"]
        if len(prompt) != trained[0] or not np.array_equal(prompt, ids[: trained[0]]):
            raise EncodeError(
                "prefix_mismatch",
                f"the prompt of turn {span.step} tokenises differently alone than in the whole row",
                where=where,
            )
        weights[inside] = 1.0

    if not weights.any():
        raise EncodeError(
            "no_label", "no token would be trained", where=where, hint="the record has no answer"
        )
    needed = int(np.flatnonzero(weights)[-1])
    if max_len is not None and needed > max_len:
        raise EncodeError(
            "too_long", f"needs {needed} positions, a row has {max_len}", where=where, hint="raise seq_len"
        )
    return Encoded(ids, weights)


def _cover(offsets: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets that leave no gap: byte-level tokenizers trim the leading blank off a token's offsets, and a
    blank that belongs to a token must count when borders are compared."""
    starts, ends, reached = [], [], 0
    for start, end in offsets:
        starts.append(min(start, reached))
        ends.append(max(end, starts[-1]))
        reached = max(reached, end)
    return np.asarray(starts, np.int64), np.asarray(ends, np.int64)


def _check_bos(ids: np.ndarray, tokenizer: Any, bos: str, where: str) -> None:
    if bos:
        bos_id = single_id(tokenizer, bos)
        if len(ids) == 0 or ids[0] != bos_id:
            raise EncodeError("missing_bos", f"the row does not begin with {bos!r}", where=where)
    else:
        bos_id = tokenizer.bos_token_id
    if bos_id is not None and len(ids) > 1 and ids[0] == bos_id and ids[1] == bos_id:
        raise EncodeError("double_bos", "the row begins with two BOS tokens", where=where)
