"""One JSON file's items, one at a time: values are exactly what `json.loads` makes of them.

Event parsers in C stop at integers beyond 64 bits, and the one in Python is too slow for a million rows.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

_BLANK = re.compile(r"[ \t\r\n]*")
# A word or an escape that the buffer's end cuts is at most this long.
_CUT = 16


def stream_items(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """`("", item)` of a top-level list, `(name, value)` of a top-level object, nothing of any other value.

    Memory holds a buffer and one item.

    Raises:
      ValueError: no valid JSON, or no UTF-8, from here on.
    """
    text = _Text(file)
    closing = {"[": "]", "{": "}"}.get(text.peek(), "")
    if not closing:
        return
    text.at += 1
    if text.peek() != closing:
        while True:
            name = text.name() if closing == "}" else ""
            yield name, text.value()
            if text.peek() != ",":
                break
            text.at += 1
    if text.peek() != closing:
        raise ValueError(f"no comma or {closing} but {text.peek()!r}")
    text.at += 1
    if text.peek():
        raise ValueError(f"something follows the end: {text.peek()!r}")


class _Text:
    """Text that is read as it is needed."""

    def __init__(self, file: BinaryIO):
        self.at = 0
        self._file, self._size, self._buffer = file, 1 << 16, ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            blank = _BLANK.match(self._buffer, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self._buffer):
                return self._buffer[self.at]
            if not self._more():
                return ""

    def name(self) -> str:
        if self.peek() != '"':
            raise ValueError(f"no name but {self.peek()!r}")
        name = self.value()
        if self.peek() != ":":
            raise ValueError(f"no colon but {self.peek()!r}")
        self.at += 1
        return name

    def value(self) -> Any:
        self.peek()
        size = self._size
        try:
            while True:
                try:
                    value, end = self._json.raw_decode(self._buffer, self.at)
                except json.JSONDecodeError as e:
                    cut = e.msg.startswith("Unterminated string") or e.pos > len(self._buffer) - _CUT
                    if not (cut and self._more()):
                        raise
                except RecursionError:
                    raise ValueError("values nested too deeply") from None
                else:
                    # A number at the buffer's end may go on behind it.
                    if end < len(self._buffer) or not self._more():
                        self.at = end
                        return value
                self._size *= 2  # a long value is read again from its start: each time twice as much
        finally:
            self._size = size

    def _more(self) -> bool:
        data = self._file.read(self._size)
        self._buffer = self._buffer[self.at :] + self._utf8.decode(data, final=not data)
        self.at = 0
        return bool(data)
