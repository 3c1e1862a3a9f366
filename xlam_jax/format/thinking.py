"""Thinking that stands in `<think>` tags at the head of what the assistant says."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


def spoken(words: str) -> str:
    """The words without the thinking before them."""
    thinks = words.lstrip(" \t\r\n").startswith("<think>") and "</think>" in words
    return words.split("</think>", 1)[1].lstrip(" \t\r\n") if thinks else words


def untagged(words: str) -> str:
    """Thinking and the words after it, without the tags."""
    found = _BLOCK.match(words)
    return "\n".join(filter(None, (found[1].strip(), words[found.end() :]))) if found else words
