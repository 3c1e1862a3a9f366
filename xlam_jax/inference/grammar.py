"""Constrained decoding: grammar of an answer -> llguidance matcher -> bitmask of allowed tokens per row.

The call formats write their grammars so that constrained text is written the way the training text was; a
grammar unlike the training text costs accuracy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np

from xlam_jax.errors import InputError

# Several times the engine's own: what is compiled within them does not stop in the middle of an answer.
_LIMITS = llguidance.LLParserLimits(
    max_items_in_row=100_000,
    initial_lexer_fuel=20_000_000,
    step_lexer_fuel=20_000_000,
    step_max_items=2_000_000,
    max_lexer_states=1_000_000,
    max_grammar_size=5_000_000,
)


class Grammars:
    """Compiles each distinct grammar once for one tokenizer, and hands out matchers.

    Args:
      tokenizer: a fast Hugging Face tokenizer.
      vocab_size: width of the model's logits; ids the tokenizer does not have are never allowed.
      stop_id: the only token allowed once the text is complete.
      around: text before and after the answer (some chat templates have a space and a newline there).

    Raises:
      InputError: the tokenizer is not a fast one, or has more tokens than the model.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, stop_id: int, around: tuple[str, str] = ("", "")):
        if len(tokenizer) > vocab_size:
            raise InputError(
                f"the tokenizer has {len(tokenizer)} tokens, the model {vocab_size}",
                hint="use the tokenizer that belongs to the model",
            )
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocab_size, eos_token=stop_id)
        except ValueError as e:
            raise InputError(
                f"constrained decoding cannot read this tokenizer: {e}", hint="a folder with tokenizer.json"
            ) from e
        self.vocab_size = vocab_size
        self._around = around
        self.mask_seconds = 0.0
        self.masks = 0
        self._compiled: dict[str, llguidance.LLMatcher] = {}

    @property
    def compiled(self) -> int:
        """Number of distinct grammars compiled so far."""
        return len(self._compiled)

    def matcher(self, grammar: str) -> llguidance.LLMatcher:
        """A fresh matcher at the start of the text.

        Args:
          grammar: Lark fragment with the rule `answer`, as `Codec.grammar` gives it.

        Raises:
          InputError: llguidance refuses the grammar.
        """
        if grammar not in self._compiled:
            # The answer is one rule because a template may demand text before and after it.
            before, after = (json.dumps(t, ensure_ascii=False) if t else "" for t in self._around)
            try:
                text = f"start: {before} answer {after}\n{grammar}"
                matcher = llguidance.LLMatcher(self._tokenizer, text, limits=_LIMITS)
                reason = matcher.get_error() if matcher.is_error() else ""
            except ValueError as e:
                reason = str(e)
            if reason:
                raise InputError(f"no grammar from this text: {reason.strip()[:300]}", where=grammar[:200])
            self._compiled[grammar] = matcher
        return self._compiled[grammar].deep_copy()

    def fill(self, matchers: Iterable[llguidance.LLMatcher | None], mask_BW: np.ndarray) -> None:
        """Writes the allowed tokens of each row into `mask_BW`, int32 [B, ceil(V/32)]; None allows all.

        Raises:
          InputError: a limit of the engine, which it names.
        """
        begin = time.perf_counter()
        for row, matcher in enumerate(matchers):
            if matcher is None:
                mask_BW[row] = -1
            else:
                llguidance.numpy.fill_next_token_bitmask(matcher, mask_BW, row)
                if matcher.is_error():
                    raise InputError(f"the grammar cannot go on: {matcher.get_error().strip()[:300]}")
                self.masks += 1
        self.mask_seconds += time.perf_counter() - begin

    def allocate(self, rows: int) -> np.ndarray:
        """A bitmask int32 [rows, ceil(V/32)] that allows everything."""
        return llguidance.numpy.allocate_token_bitmask(rows, self.vocab_size)
