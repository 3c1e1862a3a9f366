"""Token ids of long texts, word by word: a word that stands in many prompts is tokenised once.

A tokenizer with a pre-tokenizer merges nothing across the borders of its own words, so a text may be cut where
a border is whatever stands around it. One place is tried, before a single blank between ASCII letters or
the marks of JSON and prose; it is used only with a tokenizer that is shown to have a border there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

# A blank is cut at between these.
_LEFT, _RIGHT = r"[a-zA-Z,:.\"\]})]", r"[a-zA-Z\"{\[(]"
# The blank is first in the pattern because Python looks for a fixed beginning fast; it is left out of the words.
_CUT = re.compile(f" (?<={_LEFT} )(?={_RIGHT})")
_INNER = re.compile(f"{_LEFT}\\Z")
_BEFORES = ("", " ", "\n", "\n ", "1", "'", '"', "-", "=", "é", "日", "\u0301", "x", "X", "\u00a0", "]\n\n")
_LEFTS = tuple(a + b for a in _BEFORES for b in ("a", "s", "Z")) + tuple(f"a{c}" for c in ',:."]})')
_RIGHTS = (*"asSdDmMtTlLvVrReEzZ", "name", "I'm", *'"{[(', '"a', '"\n', '{"', "{}", "[]", "(1")
_GROUP = 128  # words that are tokenised as one text: each text costs as much as several words
_LARGEST = 1 << 25  # bytes that are remembered
_ENTRY = 200  # bytes that a remembered word takes beside its text and ids


class Pieces:
    """Ids of texts by a tokenizer's backend, in int32 arrays that may not be written to.

    What is remembered starts anew when it has grown too large.
    """

    def __init__(self, backend: Any):
        self._backend = backend
        self._cuts = has_border(backend)
        self._beginnings: dict[str, bytes] = {}  # what no blank was cut off from
        self._words: dict[str, bytes] = {}  # without their blank
        self._size = 0

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, `[n]`: those that the backend gives for the whole of it."""
        if self._size > _LARGEST:
            self._beginnings.clear()
            self._words.clear()
            self._size = 0
        rows = [_CUT.split(text) if self._cuts else [text] for text in texts]
        self._learn(
            list(dict.fromkeys(row[0] for row in rows if row[0] not in self._beginnings)),
            list(dict.fromkeys(word for row in rows for word in row[1:] if word not in self._words)),
        )
        known = self._words.__getitem__
        joined = (self._beginnings[row[0]] + b"".join(map(known, row[1:])) for row in rows)
        return [np.frombuffer(ids, np.int32) for ids in joined]

    @property
    def distinct(self) -> Collection[str]:
        """What is remembered, as it stood in the texts."""
        return [*self._beginnings, *(f" {word}" for word in self._words)]

    def _learn(self, beginnings: Sequence[str], words: Sequence[str]) -> None:
        inner = [word for word in words if _INNER.search(word)]  # may stand before any other word
        last = [word for word in words if not _INNER.search(word)]
        groups = [inner[i : i + _GROUP] for i in range(0, len(inner), _GROUP)]
        alone = self._backend.encode_batch_fast(
            [*beginnings, *(f" {word}" for word in last)], add_special_tokens=False
        )
        for k, encoding in enumerate(alone):
            ids = np.asarray(encoding.ids, np.int32).tobytes()
            if k < len(beginnings):
                self._beginnings[beginnings[k]] = ids
            else:
                self._words[last[k - len(beginnings)]] = ids
            self._size += len(ids)
        texts = ["".join(f" {word}" for word in group) for group in groups]
        for group, encoding in zip(
            groups, self._backend.encode_batch(texts, add_special_tokens=False), strict=True
        ):
            ids = np.asarray(encoding.ids, np.int32).tobytes()
            starts = [start for start, _ in encoding.offsets]
            borders = [0, *accumulate(len(word) + 1 for word in group)]
            at = (4 * np.searchsorted(starts, borders)).tolist()
            for k, word in enumerate(group):
                self._words[word] = ids[at[k] : at[k + 1]]
            self._size += len(ids)
        self._size += sum(len(text) + _ENTRY for text in (*beginnings, *words))


def has_border(backend: Any) -> bool:
    """Whether the words of a text never reach over a place where it would be cut."""
    words = backend.pre_tokenizer
    # Without a pre-tokenizer the whole text is one word, and a normaliser may see more than a word at a time.
    # NFC does not: nothing that a cut-off piece begins with joins what stands before it.
    if words is None or not (backend.normalizer is None or _is_nfc(backend.normalizer)):
        return False
    for token in backend.get_added_tokens_decoder().values():
        # A token that takes the blank behind it, or has one inside.
        if _CUT.search(token.content + (" " if token.rstrip else "") + "a"):
            return False

    def split(text: str) -> list[str]:
        return [word for word, _ in words.pre_tokenize_str(text)]

    befores, afters = [split(left) for left in _LEFTS], [split(f" {right}") for right in _RIGHTS]
    return all(
        split(f"{left} {right}") == befores[i] + afters[j]
        for i, left in enumerate(_LEFTS)
        for j, right in enumerate(_RIGHTS)
    )


def _is_nfc(normalizer: Any) -> bool:
    kind = type(normalizer).__name__
    return kind == "NFC" or (kind == "Sequence" and all(map(_is_nfc, normalizer)))
