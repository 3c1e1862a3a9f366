"""Duplicates, exact and near, in one pass: memory is 1.5 kilobytes a kept row, whatever its length.

Rows with other tools or another policy, or of which one calls where the other speaks, are no duplicates however
alike their words are: the same question with its tool and without is what teaches a model to abstain. Where both
speak first, their answers must be alike, too, not the question alone: to ask, to answer and to refuse are three rows.
Of a dialogue and a longer one that goes on from it the longer stays.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from xlam_jax.extras import need
from xlam_jax.format.codec import TASK_INSTRUCTION
from xlam_jax.format.record import Record
from xlam_jax.format.values import Tool
from xlam_jax.records.augment.wordings import TASK_WORDINGS

# 10 bands of 6: a pair of similarity 0.85 shares a band with probability 0.99.
PERMUTATIONS, BANDS, BAND_ROWS = 64, 10, 6
# Of the words of an answer, which are compared only where all else is alike.
WORD_PERMUTATIONS = 16
SHINGLE_WORDS = 3
# A word with the signs that make it another one: -5, C++, C#, 5%, 2.50.
_OURS = frozenset((*TASK_WORDINGS, TASK_INSTRUCTION))
_WORD = re.compile(r"(?:(?<!\w)[-+$€£])?\w+(?:[.,:]\w+)*(?:[%+#]+(?!\w))?")


@dataclass(frozen=True)
class Fingerprint:
    """What the pass needs to know of a row.

    Attributes:
      exact: hash of the words of its query and calls, and of `kind`.
      kind: hash of the names of its tools, and of whether its first step calls.
      turns: a letter a step, `c` for one that calls and `w` for one that speaks.
      signature: MinHash of their shingles, uint32 [PERMUTATIONS]; None where near duplicates are no matter.
      words: MinHash of each answer in words, uint32 [answers, WORD_PERMUTATIONS], where the first step speaks.
    """

    exact: int
    kind: int
    turns: str
    signature: np.ndarray | None = None
    words: np.ndarray | None = None


def texts_of(record: Record) -> tuple[str, str]:
    """What rows are compared by, as words in lower case: what the user said, and the calls."""
    said = [record.query, *(step.user_input for step in record.steps)]
    calls = [
        f"{call.name} {json.dumps(call.arguments, sort_keys=True, ensure_ascii=False)}"
        for step in record.steps
        for call in step.tool_calls
    ]
    return _words(said), _words(calls)


def answers_of(record: Record) -> list[str]:
    """The words of each answer where the first step speaks, for then they are what is learned; else none."""
    if not record.steps or record.steps[0].tool_calls:
        return []
    return [_words([step.thought]) for step in record.steps if not step.tool_calls]


def _words(texts: list[str]) -> str:
    return " ".join(_WORD.findall(" ".join(texts).lower()))


def fingerprint(record: Record, near: bool) -> Fingerprint:
    """The fingerprint of a row; equal on every machine.

    Raises:
      InputError: near duplicates are asked for, and datasketch is not installed.
    """
    texts, answers = texts_of(record), answers_of(record)
    # A row that trains nothing makes none superfluous that does.
    turns = "".join(_TURN[bool(step.tool_calls), bool(step.weight)] for step in record.steps)
    # A policy of somebody's own makes another row of the same question; our wordings of the task do not.
    policy = "" if record.task_instruction in _OURS else record.task_instruction
    kind = _hash("\n".join([turns[:1], *sorted({_shape(tool) for tool in record.tools}), policy]))
    calls = [[call.name, call.arguments] for step in record.steps for call in step.tool_calls]
    spelled = json.dumps(calls, sort_keys=True, ensure_ascii=False)
    exact = _hash("\n".join((*texts, *answers, spelled, str(kind))))
    if not near:
        return Fingerprint(exact, kind, turns)
    words = np.stack([_signature((a,))[:WORD_PERMUTATIONS] for a in answers]) if answers else None
    return Fingerprint(exact, kind, turns, _signature(texts), words)


_TURN = {(True, True): "c", (False, True): "w", (True, False): "x", (False, False): "y"}


def _shape(tool: Tool) -> str:
    """A tool's name with the types of its parameters; its words may differ."""
    properties = tool.parameters.get("properties") or {}
    types = {
        name: schema.get("type") if isinstance(schema, dict) else schema
        for name, schema in properties.items()
    }
    return f"{tool.name} {json.dumps(types, sort_keys=True)}"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _signature(texts: tuple[str, ...]) -> np.ndarray:
    # No shingle spans both texts: a word of thanks would else change three.
    shingles = {shingle for text in texts for shingle in _shingles(text.split(" "))}
    # A copy, because making the permutations anew costs more than all the rest.
    made = _empty_signature().copy()
    made.update_batch(shingles)
    return made.hashvalues.astype(np.uint32)


def _shingles(words: list[str]) -> Iterator[bytes]:
    for i in range(max(1, len(words) - SHINGLE_WORDS + 1)):
        yield " ".join(words[i : i + SHINGLE_WORDS]).encode()


@functools.cache
def _empty_signature() -> Any:
    need("datasketch", "data", where="near_duplicate", instead="rules.actions.near_duplicate=off")
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, hashfunc=_hash32)


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")


class Duplicate(NamedTuple):
    """A row that another one makes superfluous.

    Attributes:
      code: `duplicate` or `near_duplicate`.
      of: id of the row that stays, and for near ones how alike they are.
      loser: number of the row that goes: the one just checked, or an earlier, shorter one.
    """

    code: str
    of: str
    loser: int


@dataclass
class Seen:
    """The rows kept so far.

    datasketch's own index keeps sets of keys for each band, several kilobytes a row; here a band is one entry
    of a dictionary, and the signature tells whether a candidate is near.

    Attributes:
      threshold: estimated Jaccard similarity from which rows are near duplicates.
    """

    threshold: float
    _ids: list[str] = field(default_factory=list)
    _numbers: array = field(default_factory=lambda: array("q"))
    _kinds: array = field(default_factory=lambda: array("Q"))
    _turns: list[str] = field(default_factory=list)
    _exact: dict[int, int] = field(default_factory=dict)
    _bands: dict[int, int] = field(default_factory=dict)
    _signatures: array = field(default_factory=lambda: array("I"))
    _answers: dict[int, np.ndarray] = field(default_factory=dict)

    def check(self, row_id: str, print_: Fingerprint, number: int = 0) -> Duplicate | None:
        """Which of two rows goes; None for a new row. A row that stays is remembered.

        Args:
          number: the row's own, for `Duplicate.loser`.
        """
        signature = print_.signature
        keys = [] if signature is None else list(_band_keys(print_))
        duplicate = self._first_like(print_, keys)
        if duplicate is None:
            row = len(self._ids)
            self._ids.append(row_id)
            self._numbers.append(number)
            self._kinds.append(print_.kind)
            self._turns.append(sys.intern(print_.turns))
            if signature is not None:
                self._signatures.frombytes(signature.tobytes())
        else:
            row, similarity = duplicate
            code, near = ("near_duplicate", f" ({similarity:.2f})") if similarity else ("duplicate", "")
            if len(print_.turns) <= len(self._turns[row]):
                return Duplicate(code, self._ids[row] + near, number)
            duplicate = Duplicate(code, row_id + near, self._numbers[row])
            self._ids[row], self._numbers[row] = row_id, number
            self._turns[row] = sys.intern(print_.turns)
            if signature is not None:
                at = PERMUTATIONS * row
                self._signatures[at : at + PERMUTATIONS] = array("I", signature.tobytes())
        if print_.words is not None:
            self._answers[row] = print_.words
        self._exact.setdefault(print_.exact, row)
        for key in keys:
            self._bands.setdefault(key, row)
        return duplicate

    def _first_like(self, print_: Fingerprint, keys: list[int]) -> tuple[int, float] | None:
        """`(row, estimated similarity)` of the first that is alike; of an exact one the similarity is 0."""
        if (first := self._exact.get(print_.exact)) is not None and self._goes_on(first, print_):
            return first, 0.0
        for row in sorted({self._bands[key] for key in keys if key in self._bands}):
            if self._kinds[row] != print_.kind or not self._goes_on(row, print_):
                continue
            other = np.frombuffer(self._signatures, np.uint32, PERMUTATIONS, 4 * PERMUTATIONS * row)
            similarity = float((other == print_.signature).mean())
            del other  # a buffer in use cannot grow
            if (words := self._answers.get(row)) is not None and print_.words is not None:
                # As far as the shorter dialogue goes.
                pairs = zip(words, print_.words, strict=False)
                similarity = min(similarity, *(float((a == b).mean()) for a, b in pairs))
            if similarity >= self.threshold:
                return row, similarity
        return None

    def _goes_on(self, row: int, print_: Fingerprint) -> bool:
        """Whether one of the two dialogues calls and speaks like the other, as far as that goes."""
        return self._turns[row].startswith(print_.turns) or print_.turns.startswith(self._turns[row])


def _band_keys(print_: Fingerprint) -> Iterable[int]:
    """A key a band; a value of the answers in each, so that rows of one question are found by what they answer."""
    assert print_.signature is not None
    for band in range(BANDS):
        rows = print_.signature[band * BAND_ROWS : (band + 1) * BAND_ROWS].tobytes()
        answer = None if print_.words is None else int(print_.words[0, band])
        yield hash((print_.kind, band, rows, answer))
