"""Continuous batching: rows of a cache are given to the next prompts as soon as their sequences end.

The shapes that get compiled are few: one decode step per cache size, and at most three prompt lengths.
What a row generates is a function of its prompt, its number and the seed; which rows it shares a batch with,
and when it entered, does not matter.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from xlam_jax.format import StreamParser
from xlam_jax.inference.decode import decode, decode_and_draw, new_cache, pad_prompts, prefill, take_rows
from xlam_jax.inference.grammar import Grammars
from xlam_jax.inference.sampler import Drawing, Sampling, row_keys, sample
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params

_ROUND = 64  # prompt lengths and cache sizes are multiples of this
_PREFILL_TOKENS = 4096  # of one prefill at most, which bounds its attention scores
_PREFILL_ROWS = 8  # more rows are no faster on a CPU and make a freed row wait longer
_STEPS_PER_SYNC = 8  # free decoding looks at its tokens this often; in between the device runs ahead


@dataclass
class Watch:
    """Reads along with one sequence, and knows when its text can no longer become an answer.

    Attributes:
      decode: token ids to text.
      stream: reads the text, still at its beginning.
    """

    decode: Callable[[list[int]], str]
    stream: StreamParser
    text: str = ""

    def broken(self, tokens: list[int]) -> bool:
        """Whether nothing that may follow `tokens` makes them an answer."""
        text = self.decode(tokens)
        # The replacement character at the end is a character whose other bytes are still to come.
        if text.startswith(self.text) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self.stream.feed(text[len(self.text) :])
            self.text = text
        return self.stream.broken


@dataclass
class Request:
    """One sequence on its way. `number` seeds it; `budget` is how many tokens it may write."""

    number: int
    prompt: list[int]
    budget: int
    matcher: Any = None
    watch: Watch | None = None
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = ""
    started: float = 0.0
    seconds: float = 0.0

    def accept(self, token: int, stop_ids: frozenset[int]) -> bool:
        """Appends a token; True when the sequence has ended with it."""
        self.tokens.append(token)
        if self.matcher is not None:
            self.matcher.consume_token(token)
        if token in stop_ids or (self.matcher is not None and self.matcher.is_stopped()):
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.budget:
            self.finish_reason = "length"
        elif self.watch is not None and self.watch.broken(self.tokens):
            self.finish_reason = "broken"
        else:
            return False
        self.seconds = time.perf_counter() - self.started
        return True


@dataclass
class Stats:
    """Work done by an engine so far. Seconds are wall time and include compilation."""

    prefill_tokens: int = 0  # of prompts, padding not counted
    prefill_seconds: float = 0.0
    decode_tokens: int = 0  # kept tokens; the first token of a sequence belongs to its prefill
    decode_seconds: float = 0.0


def length_buckets(lengths: Sequence[int], limit: int = 3) -> list[int]:
    """At most `limit` padded lengths (multiples of 64, ascending), chosen for the least padding."""
    step = max(_ROUND, -(-max(lengths) // (16 * _ROUND)) * _ROUND)
    counts = Counter(-(-n // step) * step for n in lengths)
    sizes = sorted(counts)
    if len(sizes) <= limit:
        return sizes

    def padded(chosen: tuple[int, ...]) -> int:
        return sum(count * min(c for c in chosen if c >= size) for size, count in counts.items())

    choices = ((*c, sizes[-1]) for c in itertools.combinations(sizes[:-1], limit - 1))
    return list(min(choices, key=padded))


class DecodeBatch:
    """The rows of one cache and the sequences that live in them."""

    def __init__(
        self,
        params: Params,
        cfg: ModelConfig,
        requests: Sequence[Request],
        *,
        rows: int,
        stop_ids: frozenset[int],
        sampling: Sampling,
        seed: int,
        grammars: Grammars | None,
        stats: Stats,
        done: Callable[[Request], None],
    ):
        slots = max(len(r.prompt) + r.budget for r in requests)
        self.params, self.cfg, self.stop_ids, self.sampling = params, cfg, stop_ids, sampling
        self.stats, self.done, self.seed = stats, done, seed
        # Masks need the last token on the host before the next one is drawn: one sync a step.
        self.grammars = grammars if any(r.matcher is not None for r in requests) else None
        # Longest first: the sequences that remain at the end, alone in a wide batch, are the cheap ones.
        self.queue = deque(sorted(requests, key=lambda r: (-len(r.prompt), r.number)))
        self.buckets = length_buckets([len(r.prompt) for r in requests])
        self.slots = max(-(-slots // _ROUND) * _ROUND, self.buckets[-1])
        self.cache = new_cache(cfg, rows, self.slots, params.embed.dtype)
        self.rows: list[Request | None] = [None] * rows

    def run(self) -> None:
        """Until every sequence has ended."""
        while self.queue or self._active():
            self._refill()
            self._compact()
            if self._active():
                begin = time.perf_counter()
                if self.grammars is None:
                    self._decode_free()
                else:
                    self._decode_masked(self.grammars)
                self.stats.decode_seconds += time.perf_counter() - begin

    def _active(self) -> list[int]:
        return [i for i, r in enumerate(self.rows) if r is not None]

    def _refill(self) -> None:
        while self.queue:
            free = [i for i, r in enumerate(self.rows) if r is None]
            length = next(b for b in self.buckets if b >= len(self.queue[0].prompt))
            group = max(1, min(len(self.rows), _PREFILL_ROWS, _PREFILL_TOKENS // length))
            if len(free) < min(group, len(self.queue)):
                return
            begin = time.perf_counter()
            taken = [self.queue.popleft() for _ in range(min(group, len(self.queue)))]
            for request in taken:
                request.started = begin
            tokens, lengths = pad_prompts([r.prompt for r in taken], group, length)
            # A padding prompt goes to the row after the last, where nothing is written.
            rows = np.full(group, len(self.rows), np.int32)
            rows[: len(taken)] = free[: len(taken)]
            logits, self.cache = prefill(self.params, self.cache, tokens, lengths, rows, self.cfg)
            first = self._draw(logits, [*taken, *[None] * (group - len(taken))])
            for row, request, token in zip(free, taken, first, strict=False):
                self.rows[row] = request
                self._accept(row, int(token))
            self.stats.prefill_tokens += sum(len(r.prompt) for r in taken)
            self.stats.prefill_seconds += time.perf_counter() - begin

    def _compact(self) -> None:
        """Moves the last few sequences into a cache a quarter as wide: empty rows cost time too."""
        active, small = self._active(), len(self.rows) // 4
        if self.queue or not active or small < 2 or len(active) > small:
            return
        kept = active + [i for i in range(len(self.rows)) if i not in active][: small - len(active)]
        self.cache = take_rows(self.cache, np.asarray(kept, np.int32))
        self.rows = [self.rows[i] for i in kept]

    def _decode_free(self) -> None:
        active = self._active()
        left = max(r.budget - len(r.tokens) for r in self.rows if r is not None)
        tokens, positions, counts, keys = self._row_state(self.rows)
        drawing, drawn = Drawing.of(self.sampling), []
        for _ in range(min(_STEPS_PER_SYNC, left)):
            tokens, positions, counts, self.cache = decode_and_draw(
                self.params, self.cache, tokens, positions, counts, keys, self.sampling, self.cfg, drawing
            )
            drawn.append(tokens)
        for tokens_B in jax.device_get(drawn):
            for row in active:
                if self.rows[row] is not None:
                    self._accept(row, int(tokens_B[row]))
                    self.stats.decode_tokens += 1

    def _decode_masked(self, grammars: Grammars) -> None:
        tokens, positions, _, _ = self._row_state(self.rows)
        logits, self.cache = decode(self.params, self.cache, tokens, positions, self.cfg)
        # `decode` returns before the device is done; the masks are computed in its shade.
        tokens_B = self._draw(logits, self.rows)
        for row in self._active():
            self._accept(row, int(tokens_B[row]))
            self.stats.decode_tokens += 1

    def _draw(self, logits: jax.Array, requests: Sequence[Request | None]) -> np.ndarray:
        mask = None
        if self.grammars is not None:
            mask = self.grammars.allocate(len(requests))
            self.grammars.fill([r and r.matcher for r in requests], mask)
        _, _, counts, keys = self._row_state(requests)
        return np.asarray(sample(logits, keys, counts, self.sampling, mask))

    def _row_state(
        self, requests: Sequence[Request | None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, jax.Array]:
        """Last token, its position, number of tokens drawn, and key of each row."""
        tokens = [r.tokens[-1] if r and r.tokens else 0 for r in requests]
        positions = [len(r.prompt) + len(r.tokens) - 1 if r else self.slots for r in requests]
        counts = [len(r.tokens) if r else 0 for r in requests]
        numbers = [r.number if r else 0 for r in requests]
        as_int = lambda values: np.asarray(values, np.int32)  # noqa: E731
        return as_int(tokens), as_int(positions), as_int(counts), row_keys(self.seed, as_int(numbers))

    def _accept(self, row: int, token: int) -> None:
        request = self.rows[row]
        if request is not None and request.accept(token, self.stop_ids):
            self.rows[row] = None
            self.done(request)
