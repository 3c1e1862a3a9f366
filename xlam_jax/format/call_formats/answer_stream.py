"""An answer that arrives in chunks, read by a format's generator."""

from __future__ import annotations

from collections.abc import Callable

from xlam_jax.format.call_formats.base import Answer, Growing, ParseError
from xlam_jax.format.call_formats.reading import Reading, TextSource, check_call
from xlam_jax.format.call_formats.under_way import completed, under_way
from xlam_jax.format.values import ToolCall, check_json


class AnswerStream:
    """Reads one answer chunk by chunk; a `StreamParser`.

    Args:
      read: the format's reader.
      source: the text it reads, still empty.
    """

    def __init__(self, read: Callable[[TextSource], Reading], source: TextSource) -> None:
        self._source = source
        self._reading: Reading | None = read(source)
        self._calls: list[ToolCall] = []
        self._whole: list[Growing] = []
        self._words: list[str] = []
        self._said: list[str] = []
        self._given = 0
        self._thought = ""
        self._error: ParseError | None = None

    def feed(self, chunk: str) -> list[ToolCall]:
        """The calls that this chunk completes; a broken answer is reported by `close`."""
        self._source.push(chunk)
        return self._run()

    @property
    def broken(self) -> bool:
        """Whether what came so far can be no answer."""
        return self._error is not None

    def words(self) -> str:
        """What has become certain of the thought since the last time."""
        words, self._words = "".join(self._words), []
        self._given += len(words)
        return words

    def growing(self) -> list[Growing]:
        """The calls that were completed since the last time, and what is known of the one under way."""
        grown, self._whole = self._whole, []
        source = self._source
        if self._reading and source.ahead is not None and (begun := under_way(source)):
            grown.append(begun)
        return grown

    def close(self) -> Answer:
        """The whole answer; read leniently, the calls that were whole when the text broke off.

        Raises:
          ParseError: the text is no answer in this format.
        """
        self._source.end()
        self._run()
        if self._error and (self._source.strict or not self._calls):
            raise self._error
        return Answer("".join(self._said) if self._error else self._thought, tuple(self._calls))

    def _run(self) -> list[ToolCall]:
        done: list[ToolCall] = []
        try:
            while self._reading:
                item = next(self._reading)
                if item is None:
                    break
                if isinstance(item, str):
                    self._words.append(item)
                    self._said.append(item)
                    continue
                check_call(self._source, item)
                self._whole.append(completed(self._source, item))
                done.append(item)
        except StopIteration as end:
            self._reading, self._thought = None, end.value
            self._words = [self._thought[self._given :]]
            try:
                check_json(self._thought)
            except ValueError as e:
                self._error = ParseError(str(e), where=f"answer {self._source.head!r}")
        except ParseError as e:
            self._reading, self._error = None, e
        self._calls += done
        return done


class Streamed:
    """A call format that reads by its generator `_read`.

    Attributes:
      cut: see `TextSource`.
    """

    cut = True

    def _read(self, source: TextSource) -> Reading:
        raise NotImplementedError

    def stream(self, stop: str, strict: bool = True, words: bool = True) -> AnswerStream:
        return AnswerStream(self._read, TextSource(stop, self.cut, strict, words))

    def parse(self, text: str, stop: str, strict: bool = True, words: bool = True) -> Answer:
        stream = self.stream(stop, strict, words)
        stream.feed(text)
        return stream.close()
