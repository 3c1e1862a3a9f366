"""An answer as a server sends it while it is written: more words, new calls, and more of their arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xlam_jax.format.call_formats.base import ParseError, StreamParser


@dataclass(frozen=True)
class CallDelta:
    """More of the call at `index`.

    Attributes:
      name: where the call begins, None later.
      arguments: more of the JSON text of its arguments.
    """

    index: int
    name: str | None
    arguments: str


@dataclass
class Sent:
    """What has been sent of a call: its arguments are whole or, where the text breaks off in it, a beginning."""

    name: str
    arguments: str = ""


class DeltaStream:
    """Turns chunks of text into deltas. Their sum does not depend on where the text is cut into chunks.

    That holds but for malformed calls: one that comes in several chunks is sent up to where it breaks, one that comes
    in a single chunk is left out, as `parse` leaves it out. Text that is no answer in the format, or says nothing, and
    holds no call, is sent as words, from where it was last shown: clients take no empty message.

    Attributes:
      calls: all that has been sent of calls.
    """

    def __init__(self, stream: StreamParser) -> None:
        self._stream = stream
        self._text = ""
        self._words = ""
        self._numbers: list[int] = []
        self._broken = self._closed = False
        self.calls: list[Sent] = []

    def feed(self, chunk: str) -> tuple[str, list[CallDelta]]:
        """Words and calls that have become certain."""
        if self._broken:
            return ("" if self.calls else self._said(chunk)), []
        self._text += chunk
        self._stream.feed(chunk)
        words, calls = self._stream.words(), self._grown()
        if self._stream.broken:
            words += self._rest(words)
        return self._said(words), calls

    def close(self) -> tuple[str, list[CallDelta]]:
        """What was held back: the text has ended. A second time, nothing."""
        if self._broken or self._closed:
            return "", []
        self._closed = True
        try:
            self._stream.close()
        except ParseError:
            return self._said(self._rest("")), []
        calls = self._grown()
        words = self._stream.words()
        nothing = not (words or self._words or self.calls)
        return self._said(self._text if nothing else words), calls

    def _grown(self) -> list[CallDelta]:
        deltas = []
        for call in self._stream.growing():
            new = call.number not in self._numbers
            if new:
                self._numbers.append(call.number)
                self.calls.append(Sent(call.name))
            index = self._numbers.index(call.number)
            sent = self.calls[index]
            more = call.arguments[len(sent.arguments) :] if call.arguments.startswith(sent.arguments) else ""
            sent.arguments += more
            if new or more:
                deltas.append(CallDelta(index, call.name if new else None, more))
        return deltas

    def _rest(self, words: str) -> str:
        """The text behind what has been said, where nothing else of it can be sent."""
        self._broken = True
        said = self._words + words
        # Readers put a line feed between words that come from two places.
        match = re.search(r"\s*".join(map(re.escape, said.split("\n"))), self._text)
        return "" if self.calls or not match else self._text[match.end() :]

    def _said(self, words: str) -> str:
        self._words += words
        return words.encode("utf-8", "replace").decode()  # half a character would break the server's answer
