"""A conversation as text, and where in it the parts of answers stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Characters `[start, end)` of the text.

    `kind` is `assistant` (all that the model writes in a turn, stop token included) or a part of it:
    `content` (the answer), `thought`, `name`, `arguments` (inside the answer), `stop`. Text inside JSON
    strings is in its escaped form; a plain reply is `content` and `thought` alike. `step` counts from 0.
    `weight` is what the loss of an `assistant` span counts.
    """

    start: int
    end: int
    kind: str
    step: int
    weight: float = 1.0


@dataclass(frozen=True)
class Rendered:
    """A conversation as text; spans ordered by start, outer before inner."""

    text: str
    spans: tuple[Span, ...]
