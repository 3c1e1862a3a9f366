"""Words around the answers of formats that have no place for them, and plain words in place of an answer.

Words before, between and after calls are the thought; thinking in `<think>` tags at the head of an answer is
words whatever marks it names. Words that begin with a backslash are words to their end.
"""

from __future__ import annotations

import re

from xlam_jax.format.call_formats.answer_stream import Streamed
from xlam_jax.format.call_formats.base import LEADS, Plain
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait

THINK = ("<think>", "</think>")
_FENCE = re.compile(r"```[A-Za-z_]*$")
_TICKS = re.compile(r"`{1,3}[A-Za-z_]*$")
_CALLED = re.compile(r"[^\s()\[\]{}<\"'=,:;#`\\]")
_WHITE = " \t\r\n"
# What may still become the beginning of an answer: brackets, and the beginning of a key or a tag.
_HEAD = re.compile(r"[\[{\s]*(\"\w*|<\w*)?")


class Worded(Streamed):
    """A format that reads one answer by `_answer`, amid words.

    Attributes:
      plain: how plain words are told from an answer.
      opening: matches what begins an answer amid words, with a key of JSON where it begins with a bracket.
      speaks: words are answers of the format itself.
    """

    plain: Plain
    opening: re.Pattern[str] | None = None
    speaks = False

    @property
    def words(self) -> Plain | None:
        """See `CallFormat`."""
        return self.plain

    def _answer(self, source: TextSource, fenced: bool) -> Reading:
        """Yields the calls of an answer that begins here, in a fence or not; returns its thought."""
        raise NotImplementedError

    def _read(self, source: TextSource) -> Reading:
        blank = yield from source.take(SPACE)
        if not source.plain and not self.speaks:
            return (yield from self._alone(source))
        if not blank and (yield from source.accept("\\")):
            return (yield from literal_words(source))
        thought = yield from thinking(source, blank)
        if thought:
            blank = yield from source.take(SPACE)
        begins = yield from self._starts(source)
        fenced = begins and (yield from source.open_fence())
        said = [thought] if thought else []
        count = 0
        while True:
            if not begins:
                text, fenced, begins = yield from self._words(
                    source, "" if count else blank, bool(count and said)
                )
                if not count:
                    said = [thought + text] if thought + text else []
                elif text:
                    said.append(text)
                if not begins:
                    break
            inner = yield from _shown(self._answer(source, fenced), bool(said))
            said += [inner] if inner else []
            count += 1
            yield from source.take(SPACE)
            if fenced and (yield from source.accept("```")):
                yield from source.take(SPACE)
            if (yield from source.ended()):
                break
            begins = fenced = False
        if not count and not "".join(said).strip(_WHITE):
            source.fail("no answer")
        return "\n".join(said)

    def _alone(self, source: TextSource) -> Reading:
        """An answer with nothing around it but whitespace and a fence."""
        fenced = yield from source.open_fence()
        if (yield from source.follows(THINK[:1])):
            source.fail("thinking before an answer")
        thought = yield from self._answer(source, fenced)
        yield from source.finish(fenced)
        return thought

    def _starts(self, source: TextSource) -> Wait:
        """Whether an answer begins here, at the head of the text."""
        if (yield from source.follows(LEADS)):
            return False
        starts = yield from source.follows(self.plain.starts)
        if not starts and not (self.plain.calls and (yield from is_call(source))):
            return False
        return (yield from source.shaped(self._fenced_shape))

    def _fenced_shape(self, source: TextSource) -> Wait:
        yield from source.open_fence()
        return (yield from self._shape(source))

    def _shape(self, source: TextSource) -> Wait:
        """Whether an answer comes next, for `TextSource.shaped`, of what begins like one."""
        return True
        yield

    def _opens(self, source: TextSource, line: bool) -> Wait:
        """Whether an answer begins here, amid words."""
        if line:
            opens = yield from source.follows(self.plain.lines)
            if opens or (self.plain.calls and (yield from is_call(source))):
                return (yield from source.shaped(self._shape))
        if self.opening is None:
            return False
        for count in range(1, 80):
            text = yield from source.peek(count)
            if self.opening.match(text):
                return (yield from source.shaped(self._shape))
            if len(text) < count or not _HEAD.fullmatch(text):
                break
        return False

    def _words(self, source: TextSource, blank: str, more: bool) -> Reading:
        """Words up to an answer or the end: `(words, a fence was opened, an answer begins)`.

        Args:
          blank: whitespace that has been taken.
          more: words have been shown before, of which these are a line of their own.
        """
        shown: list[str] = []
        held, line, begins = blank, True, False
        gap = "\n" if more else ""
        while not (yield from source.ended()):
            if (yield from source.peek(1)) in self._signs or line:
                begins = yield from self._opens(source, line)
                if begins:
                    break
            mark = yield from source.peek(1)
            if mark in ("<", "[") and (lead := (yield from _lead(source))):
                held, line = held + lead, True
            else:
                source.skip(1)
                held += mark
                if mark not in ("\n", " ", "\t", "\r", "`"):
                    held += source.some(source.words)
                line = mark == "\n" or (line and mark in (" ", "\t", "\r"))
            body = held.rstrip(_WHITE)
            if not body or _TICKS.search(body[-24:]):
                continue
            yield gap + body
            shown.append(body)
            held, gap = held[len(body) :], ""
        fence = _FENCE.search(held.rstrip(_WHITE)) if begins else None
        if fence:
            held = held[: fence.start()]
        if begins or more:
            held = held.rstrip(_WHITE)
        if begins and held:
            yield gap + held
        return "".join(shown) + held, bool(fence), begins

    @property
    def _signs(self) -> str:
        return "{[<" if self.opening else ""


def _lead(source: TextSource) -> Wait:
    """The mark that comes next, of those which an answer follows on the same line; taken."""
    for mark in LEADS:
        if (yield from source.accept(mark)):
            return mark
    return ""


def thinking(source: TextSource, blank: str = "") -> Reading:
    """The block of `<think>` that comes next, tags included; all the text where it never ends.

    Args:
      blank: whitespace before it, which has been taken.
    """
    if not (yield from source.accept(THINK[0])):
        return ""
    taken = [blank + THINK[0]]
    yield taken[0]
    while taken[-1] != THINK[1] and not (yield from source.ended()):
        piece = source.some(source.words)
        if not piece and (yield from source.accept(THINK[1])):
            piece = THINK[1]
        elif not piece:
            piece = yield from source.peek(1)
            source.skip(1)
        taken.append(piece)
        yield piece
    return "".join(taken)


def literal_words(source: TextSource) -> Reading:
    """Words to their end."""
    taken = []
    while not (yield from source.ended()):
        more = yield from source.peek(1)
        source.skip(1)
        taken.append(more + source.some(source.words))
        yield taken[-1]
    return "".join(taken)


def is_call(source: TextSource) -> Wait:
    """Whether `name(` comes next, or Python's `pass`."""
    head = yield from source.glimpse(_CALLED, 80)
    if head[:4] == "pass" and len(head) <= 5:
        return head[4:] in ("", "\n", "\r", " ", "\t", "#", "`")
    return len(head) > 1 and head[-1] == "("


def _shown(reading: Reading, more: bool) -> Reading:
    """What a reader yields, with a line feed before its words where there were words before."""
    while True:
        try:
            item = next(reading)
        except StopIteration as end:
            return end.value
        if isinstance(item, str) and item and more:
            yield "\n"
            more = False
        yield item
