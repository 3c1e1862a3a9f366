"""Token ids of long texts, piece by piece: what many prompts share (tools, instructions) is tokenised once.

A tokenizer with a pre-tokenizer merges nothing across the borders of its words, so a text may be cut where a
border is whatever stands around it. Two places are tried, between the objects of a JSON list and before a
section's marker; each is used only with a tokenizer that is shown to have a border there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

# (what ends a piece, what begins the next).
_BORDERS = (("},", ' {"'), ("]", "\n"), ("]\n\n", "["))
_LEFTS = (
    "",
    "}",
    '"',
    "a",
    "1",
    " ",
    "\n",
    "\n\n",
    ".",
    "]",
    "é",
    "日",
    "'",
    "\u00a0",
    "\t",
    "-",
    "'s",
    '"}]',
    "A\n ",
)
_RIGHTS = ("", "name", "BEGIN OF", "{", " ", "1", '"', "\n", "x]\n", "'s", "é", "日", "]", "\u00a0")
_LONGEST = 1 << 22  # tokens that are remembered: 16 MiB


class Pieces:
    """Ids of texts by a tokenizer's backend, in int32 arrays.

    Attributes:
      remembered: a dictionary of pieces; it starts anew when it has grown too large.
    """

    def __init__(self, backend: Any):
        self._backend = backend
        borders = [pair for pair in _BORDERS if has_border(backend, *pair)]
        cuts = "|".join(f"(?<={re.escape(left)})(?={re.escape(right)})" for left, right in borders)
        self._cut = re.compile(cuts) if cuts else None
        self.remembered: dict[str, np.ndarray] = {}
        self._size = 0

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, `[n]`: those that the backend gives for the whole of it."""
        if self._size > _LONGEST:
            self.remembered.clear()
            self._size = 0
        pieces = [self._cut.split(text) if self._cut else [text] for text in texts]
        new = [p for p in dict.fromkeys(p for row in pieces for p in row) if p not in self.remembered]
        for piece, encoding in zip(
            new, self._backend.encode_batch_fast(new, add_special_tokens=False), strict=True
        ):
            self.remembered[piece] = np.asarray(encoding.ids, np.int32)
            self._size += len(encoding.ids)
        return [
            self.remembered[row[0]] if len(row) == 1 else np.concatenate([self.remembered[p] for p in row])
            for row in pieces
        ]


def has_border(backend: Any, left: str, right: str) -> bool:
    """Whether the words of a text never reach over a place between `left` and `right`."""
    words = backend.pre_tokenizer
    # A normaliser may see more than a word at a time, and without a pre-tokenizer the whole text is one.
    if words is None or backend.normalizer is not None:
        return False

    def split(text: str) -> list[str]:
        return [word for word, _ in words.pre_tokenize_str(text)]

    befores = [split(before + left) for before in _LEFTS]
    afters = [split(right + after) for after in _RIGHTS]
    return all(
        split(before + left + right + after) == befores[i] + afters[j]
        for i, before in enumerate(_LEFTS)
        for j, after in enumerate(_RIGHTS)
    )
