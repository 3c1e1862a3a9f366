"""How likely given answers are: log-probabilities of whole answers to a prompt, none of them generated.

All answers to one prompt stand in one row behind it and see it, but not each other (`branches` of
`models.attention.attend`), so the prompt is computed once. A sliding window counts positions of the row; in rows that
are longer than it each answer gets a row of its own.

Shape legend: B rows, S positions, T predicted tokens of a row, D hidden.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.inference.engine import Engine
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.decoder import forward, head_matrix
from xlam_jax.models.logprobs import token_logprobs
from xlam_jax.models.params import Params

_POSITIONS = 4096  # of one program at most, which bounds its attention scores
_STEP = 128  # lengths are rounded up to these, so that few programs are compiled


@dataclass(frozen=True)
class Likelihood:
    """Of one answer: the sum of its tokens' log-probabilities (natural), and how many they are."""

    logprob: float
    tokens: int


@dataclass(frozen=True)
class _Row:
    """Answers behind one prompt; `places` are where their sums go: (question, answer)."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        return len(self.prompt) + self.predicted

    @property
    def predicted(self) -> int:
        return sum(map(len, self.answers))


def answer_likelihoods(
    engine: Engine,
    questions: Sequence[tuple[str, Sequence[str]]],
    progress: Callable[[int], None] | None = None,
) -> list[list[Likelihood] | None]:
    """Likelihoods of the answers to each question.

    Args:
      questions: (prompt, answers), as text; a stop token that belongs to an answer is part of it.
      progress: called with the number of rows that are done.

    Returns:
      a list for each question; None where prompt and one answer are longer than the engine's `max_len`.

    Raises:
      InputError: an empty prompt, or an empty answer.
    """
    sums: list[list[Likelihood] | None] = []
    rows: list[_Row] = []
    for number, (prompt, answers) in enumerate(questions):
        ids, each = tuple(engine.encode(prompt)), [tuple(engine.encode(a)) for a in answers]
        if not ids or not all(each):
            raise InputError("an empty prompt or answer has no likelihood", where=f"question {number}")
        if len(ids) + max(map(len, each)) > engine.max_len:
            sums.append(None)
            continue
        sums.append([Likelihood(0.0, len(answer)) for answer in each])
        rows += _rows(ids, each, number, engine)
    alike: dict[tuple[int, bool], list[_Row]] = defaultdict(list)
    for row in rows:
        alike[_rounded(row.length), len(row.answers) > 1].append(row)
    done = 0
    for length, forked in sorted(alike):
        size = max(1, min(engine.batch_size, _POSITIONS // length))
        here = alike[length, forked]
        for part in (here[start : start + size] for start in range(0, len(here), size)):
            for row, values in zip(part, _values(engine, part, length, size), strict=True):
                for (question, answer), value in zip(row.places, values, strict=True):
                    likelihoods = sums[question]
                    assert likelihoods is not None
                    likelihoods[answer] = Likelihood(value, likelihoods[answer].tokens)
            done += len(part)
            if progress:
                progress(done)
    return sums


def _rows(ids: tuple[int, ...], answers: list[tuple[int, ...]], number: int, engine: Engine) -> list[_Row]:
    whole = _Row(ids, tuple(answers), tuple((number, i) for i in range(len(answers))))
    window = engine.cfg.sliding_window
    if window is None or _rounded(whole.length) <= window:
        return [whole]
    return [_Row(ids, (answer,), ((number, i),)) for i, answer in enumerate(answers)]


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def _values(engine: Engine, part: list[_Row], length: int, size: int) -> list[list[float]]:
    predicted = _rounded(max(row.predicted for row in part))
    tokens, positions, segments, branches = (np.zeros((size, length), np.int32) for _ in range(4))
    before, targets = (np.zeros((size, predicted), np.int32) for _ in range(2))
    for i, row in enumerate(part):
        end = at = len(row.prompt)
        tokens[i, :at], positions[i, :at] = row.prompt, range(at)
        segments[i, : row.length] = 1
        done = 0
        for branch, answer in enumerate(row.answers, 1):
            n = len(answer)
            tokens[i, at : at + n], branches[i, at : at + n] = answer, branch
            positions[i, at : at + n] = range(end, end + n)
            # The first token of every answer follows the prompt.
            before[i, done : done + n] = [end - 1, *range(at, at + n - 1)]
            targets[i, done : done + n] = answer
            at, done = at + n, done + n
    forks = branches if len(part[0].answers) > 1 else None
    logprobs = np.asarray(
        _logprobs(engine.params, tokens, positions, segments, forks, before, targets, engine.cfg)
    )
    values = []
    for i, row in enumerate(part):
        ends = np.cumsum([len(answer) for answer in row.answers])
        pieces = np.split(logprobs[i, : row.predicted].astype(np.float64), ends[:-1])
        values.append([float(piece.sum()) for piece in pieces])
    return values


@functools.partial(jax.jit, static_argnames=("cfg",))
def _logprobs(
    params: Params,
    tokens: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    branches: jax.Array | None,
    before_BT: jax.Array,
    targets_BT: jax.Array,
    cfg: ModelConfig,
) -> jax.Array:
    hidden_BSD, _ = forward(params, tokens, positions, segments, cfg, branches_BS=branches)
    hidden_BTD = jnp.take_along_axis(hidden_BSD, before_BT[..., None], axis=1)
    return token_logprobs(hidden_BTD, head_matrix(params), targets_BT)
