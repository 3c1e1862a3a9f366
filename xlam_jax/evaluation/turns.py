"""Conversations that a model plays: a prompt out, an answer in, until each is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xlam_jax.evaluation.harness import Case, Generates, Raw, ask
from xlam_jax.format import Codec, ParseError, Record, Step, Tool, ToolCall

Say = Callable[[Sequence[Case]], list[Raw]]


def own_engine(engine: Generates, codec: Codec, unsaid: list[str], **how: Any) -> Say:
    """A model of our own engine, as one that is asked.

    Args:
      unsaid: takes what the tools' schemas say that the grammars do not.
      how: of `harness.ask`.
    """

    def say(cases: Sequence[Case]) -> list[Raw]:
        raws, more = ask(engine, cases, codec, **how)
        unsaid.extend(line for line in more if line not in unsaid)
        return raws

    return say


class Game:
    """One conversation; what an answer leads to is said by `act` of a subclass.

    Attributes:
      case: its id and group, for reports and journals.
      record: what was said so far.
      texts: the model's answers, in the shape that is kept.
    """

    def __init__(self, case: Case, record: Record):
        self.case, self.record, self.over = case, record, False
        self.texts: list[Any] = []
        self._raws: list[Raw] = []

    def act(self, text: str, codec: Codec) -> None:
        """Takes an answer in: adds it to `texts` and what it led to to `record`, or ends the game."""
        raise NotImplementedError

    def outgrown(self) -> None:
        """The conversation is longer than the model reads: the game is over."""
        self.over = True

    def hear(self, raw: Raw, codec: Codec) -> None:
        """An answer, or none where the prompt was too long."""
        self._raws.append(raw)
        if raw.new_tokens:
            self.act(raw.text, codec)
        else:
            self.outgrown()

    def remember(self, step: Step, tools: tuple[Tool, ...] | None = None) -> None:
        """Adds a step to the record; from now on `tools` are offered, where they are given."""
        now = self.record.tools if tools is None else tools
        self.record = replace(self.record, steps=(*self.record.steps, step), tools=now)

    def question(self, codec: Codec) -> Case:
        """What the model is asked next."""
        prompt = codec.prompt(self.record, len(self.record.steps))
        return replace(self.case, prompt=prompt, tools=self.record.tools, record=self.record)

    def raw(self) -> Raw:
        """All answers as one: the text is `texts` as JSON, tokens and seconds are sums."""
        last = self._raws[-1]
        if len(self._raws) == 1 and not last.new_tokens:  # not even the first prompt was answered
            return last
        return Raw(
            json.dumps(self.texts, ensure_ascii=False),
            last.finish_reason,
            sum(r.prompt_tokens for r in self._raws),
            sum(r.new_tokens for r in self._raws),
            sum(r.seconds for r in self._raws),
        )


def play_games(games: Sequence[Game], say: Say, codec: Codec) -> list[Raw]:
    """What a model says in each game, all games a step at a time."""
    while active := [game for game in games if not game.over]:
        raws = say([game.question(codec) for game in active])
        for game, raw in zip(active, raws, strict=True):
            game.hear(raw, codec)
    return [game.raw() for game in games]


def read_answer(text: str, codec: Codec) -> tuple[tuple[ToolCall, ...], str, str]:
    """Calls and words of an answer, and why it cannot be read; neither calls nor words where it cannot."""
    try:
        answer = codec.parse(text, words=False)
    except ParseError as e:
        return (), "", e.what
    return answer.tool_calls, answer.thought, ""
