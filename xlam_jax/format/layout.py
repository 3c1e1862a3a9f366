"""Layouts: which sections a prompt has, in which order, and the markers around each.

The order is that of the xLAM client, with few-shot examples between format instruction and query.
"""

from __future__ import annotations

from dataclasses import dataclass

SECTIONS = (
    "TASK INSTRUCTION",
    "AVAILABLE TOOLS",
    "FORMAT INSTRUCTION",
    "FEW-SHOT EXAMPLES",
    "QUERY",
    "OBSERVATION",
)


@dataclass(frozen=True)
class Layout:
    """Markers per section; sections are joined by `joint`, and empty ones leave no trace.

    Markers and special tokens inside a section's own text are kept as they are: escaping them would
    change the user's words. Refusing text that tokenises into special tokens is the tokeniser stage's task.
    """

    name: str
    marks: dict[str, tuple[str, str]]
    joint: str = "\n\n"

    def section(self, title: str, body: str) -> str:
        """One section with its markers."""
        begin, end = self.marks[title]
        return begin + body + end

    def join(self, bodies: dict[str, str]) -> str:
        """The sections that have a body, in the order of `SECTIONS`."""
        return self.joint.join(self.section(t, bodies[t]) for t in SECTIONS if bodies.get(t))


LAYOUTS = {
    layout.name: layout
    for layout in (Layout("brackets", {t: (f"[BEGIN OF {t}]\n", f"\n[END OF {t}]") for t in SECTIONS}),)
}
