"""An answer in its turn: without what a chat template has the model write around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlam_jax.format.call_formats.base import Answer, Growing, StreamParser
from xlam_jax.format.call_formats.reading import overlap
from xlam_jax.format.values import ToolCall

if TYPE_CHECKING:
    from xlam_jax.format.templates import ChatTemplate


class TurnStream:
    """A `StreamParser` that drops the template's lead, and its text before the stop token or the end.

    Args:
      answer: reads what is left.
    """

    def __init__(self, answer: StreamParser, chat: ChatTemplate) -> None:
        self._answer = answer
        self._lead, self._before, self._stop = chat.lead, chat.before_stop, chat.stop
        self._held = ""

    def feed(self, chunk: str) -> list[ToolCall]:
        text = self._held + chunk
        if self._lead:
            if len(text) < len(self._lead) and self._lead.startswith(text):
                self._held = text
                return []
            text, self._lead = text.removeprefix(self._lead), ""
        if self._before:
            end = self._before + self._stop
            text = text.replace(end, self._stop)
            kept = overlap(text, end)
            self._held, text = text[len(text) - kept :], text[: len(text) - kept]
        else:
            self._held = ""
        return self._answer.feed(text)

    @property
    def broken(self) -> bool:
        return self._answer.broken

    def words(self) -> str:
        return self._answer.words()

    def growing(self) -> list[Growing]:
        return self._answer.growing()

    def close(self) -> Answer:
        self._answer.feed(self._held.removesuffix(self._before))
        self._held = ""
        return self._answer.close()
