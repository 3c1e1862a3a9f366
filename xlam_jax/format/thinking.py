"""Thinking that stands in tags at the head of what the assistant says.

In `<think>` or `<thinking>`, in several blocks, and without the opening tag where that stood in the prompt.
`jinja/chat.jinja` reads it in the same way.
"""

from __future__ import annotations

THINKING_TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"))
_BLANKS = " \t\r\n"


def parted(words: str) -> tuple[list[str], str]:
    """The thoughts, a block each, and the words after them.

    Example:
      >>> parted("It asks for Oslo.</think>\\n\\nIt is 3 C.")
      (['It asks for Oslo.'], 'It is 3 C.')
    """
    thoughts: list[str] = []
    while block := _block(words, not thoughts):
        thought, words = block
        thoughts.append(thought)
    return thoughts, words


def _block(words: str, first: bool) -> tuple[str, str] | None:
    """The thought that comes next, and what comes after it."""
    start = words.lstrip(_BLANKS)
    for opening, closing in THINKING_TAGS:
        before, closed, after = start.partition(closing)
        if closed and (before.startswith(opening) or (first and opening not in before)):
            return before.removeprefix(opening).strip(), after.lstrip(_BLANKS)
    return None


def spoken(words: str) -> str:
    """The words without the thinking before them."""
    return parted(words)[1]


def untagged(words: str) -> str:
    """Thinking and the words after it, without the tags."""
    thoughts, said = parted(words)
    return "\n".join(filter(None, (*thoughts, said))) if thoughts else words


def in_one_block(words: str) -> str:
    """The words with all their thinking in one block of `<think>`; as they are where it is one already."""
    thoughts, said = parted(words)
    if not thoughts or (len(thoughts) == 1 and words.lstrip(_BLANKS).startswith("<think>")):
        return words
    return with_thinking("\n".join(filter(None, thoughts)), said)


def with_thinking(thinking: str, words: str) -> str:
    """Words behind their thinking in `<think>`, where there is any."""
    return f"<think>\n{thinking}\n</think>\n{words}" if thinking else words
