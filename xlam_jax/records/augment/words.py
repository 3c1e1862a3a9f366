"""Words of names and descriptions: what a tool is about, and what in a text is a name."""

from __future__ import annotations

import re

from xlam_jax.format.values import Tool

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_COMMON_WORDS = (
    "the and for from with this that given function functions return returns get gets set list data "
    "info information details detail based specific using use api tool tools provided all any which can "
    "are into not has have its value values parameter parameters retrieve retrieves fetch fetches a an "
    "of to in on is by or if as it be at name names number string item items type one two new user "
    "users you your what how calculate calculates compute find finds check checks create"
)
_COMMON = frozenset(_COMMON_WORDS.split())


def name_words(name: str) -> str:
    """An identifier as words: `checkInDate` and `check_in_date` give `check in date`."""
    return " ".join(word if word.isupper() else word.lower() for word in _WORD.findall(name))


def topics(text: str) -> frozenset[str]:
    """The words that say what a text is about, in a rough singular."""
    words = (word.lower() for word in _WORD.findall(text))
    return frozenset(w[:-1] if len(w) > 3 and w.endswith("s") else w for w in words if w not in _COMMON)


def tool_topics(tool: Tool) -> frozenset[str]:
    """The topics of a tool's name and description."""
    return topics(tool.name) | topics(tool.description)


def related(a: Tool, b: Tool) -> bool:
    """Whether two tools may do the same: their names share a topic, or all their words a quarter."""
    if a.name == b.name or topics(a.name) & topics(b.name):
        return True
    one, other = tool_topics(a), tool_topics(b)
    return len(one & other) * 4 > len(one | other)


def is_identifier(name: str) -> bool:
    """Whether a name cannot be an ordinary word, so that its mention in a text means the thing named."""
    return len(name) > 2 and bool(re.search(r"[_.0-9]|[a-z][A-Z]", name))


def mention(name: str) -> re.Pattern[str]:
    """Finds `name` where it is not part of a longer name."""
    return re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)")
