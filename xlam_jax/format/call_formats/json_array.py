"""A bare list of calls, and words before it."""

from __future__ import annotations

import re

from xlam_jax.format.call_formats.json_reading import (
    looks_like_call,
    looks_like_calls,
    read_call,
    read_calls,
    read_items,
)
from xlam_jax.format.call_formats.prose_formats import BLANKS, Prose
from xlam_jax.format.call_formats.reading import SPACE, Reading, TextSource, Wait
from xlam_jax.format.call_formats.under_way import JsonCall

_FOREIGN = ("[TOOL_CALLS]", "<tool_call>")  # marks that vLLM's parser of bare lists takes for its own
_INTO_LIST = re.compile(r"[\[{\s]")
_LIST_HEAD = re.compile(r'\[\s*\{\s*"')


def _foreign(source: TextSource) -> Wait:
    """Whether a mark of another format comes next, and calls behind it."""
    return (yield from source.follows(_FOREIGN)) and (yield from source.shaped(_foreign_shape))


def _foreign_shape(source: TextSource) -> Wait:
    for mark in _FOREIGN:
        yield from source.accept(mark)
    yield from source.take(SPACE)
    return (yield from looks_like_calls(source))


def _items_shape(source: TextSource) -> Wait:
    """Whether calls come behind the bracket that opened a list, or its end."""
    return (yield from source.accept("]")) or (yield from looks_like_call(source))


class JsonArray(Prose):
    """A bare list `[{"name": ..., "arguments": {...}}]`; without calls the reply alone, or `[]`.

    Words that begin like a list, a fence or with a backslash get a backslash before them, and so do words that hold
    a mark of another format or a list with blanks inside. Read as well: such lists, and calls in a fence, after
    `[TOOL_CALLS]`, in `<tool_call>` tags, as vLLM's parser does.
    """

    name = "json-array"
    mark, split, joint = '[{"', 1, "\n"
    opening, closing = "[", "]"
    none = "[]"
    signs = "<"
    _first_letter = r"[^\[`\\\s]"
    _no_words = r"\[\s+\{|<tool_call>|\[TOOL_CALLS\]"

    def _escape(self, words: str) -> str:
        listed = any(mark in words for mark in _FOREIGN) or bool(re.search(r"\[[ \t\r\n]+\{", words))
        words = super()._escape(words)
        start = words.lstrip(BLANKS + "`").removeprefix("json").lstrip(BLANKS)
        listed = listed or (start[:1] == "[" and start[1:].lstrip(BLANKS)[:1] in ("", "{", "]"))
        return "\\" + words if not start or listed or words[0] == "\\" else words

    def _read(self, source: TextSource) -> Reading:
        thought, before = yield from self._head(source)
        fenced = yield from source.accept("```")
        if fenced:
            before += "```" + ("json" if (yield from source.accept("json")) else "")
            before += yield from source.take(SPACE)
        if (yield from _foreign(source)):
            yield from self._read_marked(source)
            return (yield from self._after(source, thought))
        if (yield from source.accept("[")):
            blank = yield from source.take(SPACE)
            if (yield from source.peek(1)) in ("{", "]") and (yield from source.shaped(_items_shape)):
                yield from read_items(source)
                yield from self._close(source, fenced)
                return (yield from self._after(source, thought))
            before += "[" + blank
        plain = not before and not thought and (yield from source.accept("\\"))
        words = thought + (yield from self._words(source, before, others=not plain))
        if (yield from source.peek(1)):
            yield from self._read_marked(source)
        return (yield from self._after(source, words))

    def _shape(self, source: TextSource) -> Wait:
        return (yield from looks_like_calls(source))

    def _calls_otherwise(self, source: TextSource) -> Wait:
        if (yield from _foreign(source)):
            return True
        head = yield from source.glimpse(_INTO_LIST, 64)
        if not _LIST_HEAD.fullmatch(head):
            return False
        return (yield from source.peek(len(head) + 5))[len(head) - 1 :] == '"name"'

    def _read_marked(self, source: TextSource) -> Reading:
        if (yield from source.follows(("<tool_call>",))):
            yield from self._read_tags(source)
        elif (yield from source.accept("[TOOL_CALLS]")):
            yield from source.take(SPACE)
            if (yield from source.peek(1)) == "{":
                yield from source.attempt(read_call(source), sketch=JsonCall)
            else:
                yield from read_calls(source)
        else:
            yield from read_calls(source)
            yield from self._close(source, True)

    def _close(self, source: TextSource, fenced: bool) -> Wait:
        """Takes what closes a list that another format's marks opened."""
        yield from source.take(SPACE)
        if not (yield from source.accept("</tool_call>")) and fenced:
            yield from source.accept("```")

    def instructions(self, with_thought: bool) -> tuple[str, ...]:
        why = "why\n" if with_thought else ""
        first = " Say why in a line before it." if with_thought else ""
        form = f'{why}[{{"name": "tool", "arguments": {{"key": value}}}}]'
        return (
            f"Reply with a JSON list of calls, or with words if no tool fits:\n{form}",
            f"If tools fit, answer with one JSON array of calls, each with name and arguments.{first} "
            f"Otherwise answer in plain text.\n{form}",
            f"Make all calls in a single JSON array, in this form:\n{form}\nWhen no call is needed, write to "
            f"the user instead.",
        )
