"""Low-quality reasoning, as far as rules can tell; a judge does the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from xlam_jax.format.record import Record

_PLACEHOLDER = re.compile(r"\W*(?:n/?a|none|null|nil|todo|tbd|thoughts?:?|thinking|undefined)?\W*", re.I)
_REFUSAL = re.compile(
    r"\bas an ai (?:language )?(?:model|assistant)\b|\bi(?:'m| am) (?:just|only) an ai\b", re.I
)
_NO_CALL = re.compile(
    r"\b(?:none of the (?:\w+ )?(?:tools|functions|apis)|no (?:tool|function|api)s?(?: calls?)?) "
    r"(?:is|are|was|can|needs?|should|would|will|apply|applies|match|fits?)\b"
    r"|\b(?:will|should|need|do|can) ?not (?:need to )?(?:call|use|invoke) any\b"
    r"|\b(?:don't|won't|can't|cannot|needn't) (?:need to )?(?:call|use|invoke) any\b",
    re.I,
)
_NAME = re.compile(r"[A-Za-z_][\w.]*[\w]")
_CALLED = re.compile(r"\b(?:call|use|invoke|(?:function|tool|api)(?: here)? is) (?:the )?\W?([\w.]*\w)", re.I)
MIN_WORDS = 3


def thought_faults(record: Record, required: bool = False) -> Iterator[tuple[int, str]]:
    """`(step, what)` of thoughts before calls that say nothing, go in circles, or contradict the calls.

    Args:
      required: every step with calls needs a thought; else an empty one is no fault, since chat APIs leave it
        empty before most calls.
    """
    calling = [i for i, step in enumerate(record.steps) if step.tool_calls]
    offered = {tool.name for tool in record.tools}
    seen: dict[str, int] = {}
    for i in calling:
        step, thought = record.steps[i], record.steps[i].thought.strip()
        if not thought and not required:
            continue
        if _PLACEHOLDER.fullmatch(thought):
            yield i, f"empty: {thought!r}" if thought else "empty"
            continue
        words = thought.lower().split()
        # Languages without blanks between words say much in one.
        if len(words) < MIN_WORDS and thought.isascii():
            yield i, f"too short: {thought!r}"
        elif _circles(words):
            yield i, f"repeats itself: {thought[:60]!r}"
        elif _REFUSAL.search(thought):
            yield i, f"refuses, and calls: {thought[:60]!r}"
        elif _NO_CALL.search(thought):
            yield i, f"says that no call is needed: {thought[:60]!r}"
        elif (named := _names(thought, offered)) and not named & {call.name for call in step.tool_calls}:
            yield i, f"names {sorted(named)[0]}, calls {step.tool_calls[0].name}"
        elif record.steps[first := seen.setdefault(thought, i)].tool_calls != step.tool_calls:
            yield i, f"the same as in step {first + 1}"


def _circles(words: list[str]) -> bool:
    """A run of three words three times or more, and in all at least a third of the text."""
    if len(words) < 9:
        return False
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    _, times = runs.most_common(1)[0]
    return times >= 3 and 3 * times * 3 >= len(words)


def _names(thought: str, offered: set[str]) -> set[str]:
    """Offered functions that a thought names; a plain word such as `search` is one only after `call`."""
    called = {match[1] for match in _CALLED.finditer(thought)}
    return {
        word
        for word in _NAME.findall(thought)
        if word in offered and (word in called or "_" in word or "." in word or not word.islower())
    }
