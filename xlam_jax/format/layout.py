"""Layouts: which sections a prompt has, in which order, and the markers around each.

The default order is that of the xLAM client, with few-shot examples between format instruction and query.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from xlam_jax.errors import InputError
from xlam_jax.format.tool_views import ToolList

PROMPT_SECTIONS = (
    "TASK INSTRUCTION",
    "AVAILABLE TOOLS",
    "FORMAT INSTRUCTION",
    "FEW-SHOT EXAMPLES",
    "QUERY",
)
SECTIONS = (*PROMPT_SECTIONS, "OBSERVATION")
_ONE_LIST = ToolList()
_SYSTEM_ORDER = ("TASK INSTRUCTION", "FORMAT INSTRUCTION", "AVAILABLE TOOLS", "FEW-SHOT EXAMPLES", "QUERY")


@dataclass(frozen=True)
class Layout:
    """Markers per section; sections are joined by `joint`, and empty ones leave no trace.

    Markers and special tokens inside a section's own text are kept as they are: escaping them would
    change the user's words. Refusing text that tokenises into special tokens is the tokeniser stage's task.

    Attributes:
      marks: texts before and after each section of `SECTIONS`.
      tail: text after the last section.
      order: the sections of the prompt, `PROMPT_SECTIONS` in the layout's order.
      tools: how the tools are written.
      system: all sections but the query stand in the system turn; the query is the bare user turn.
      default_system: the default instructions are a default system message, which a record's own task
        instruction replaces as a whole, and which plain chats carry too.
      trim: whitespace around system text, users' words and plain replies is cut off.
    """

    name: str
    marks: dict[str, tuple[str, str]]
    joint: str = "\n\n"
    tail: str = ""
    order: tuple[str, ...] = PROMPT_SECTIONS
    tools: ToolList = _ONE_LIST
    system: bool = False
    default_system: bool = False
    trim: bool = False

    def section(self, title: str, body: str) -> str:
        """One section with its markers."""
        begin, end = self.marks[title]
        return begin + body + end

    def join(self, bodies: dict[str, str]) -> str:
        """The sections that have a body, in this layout's order."""
        return self.joint.join(self.section(t, bodies[t]) for t in self.order if bodies.get(t)) + self.tail

    def words(self, text: str) -> str:
        """What users and plain replies say, as this layout writes it."""
        return text.strip() if self.trim else text

    def ordered(self, sections: tuple[str, ...]) -> Layout:
        """This layout with another order; the empty tuple means its own.

        Raises:
          InputError: no order of the five sections, or one this layout cannot write.
        """
        if not sections:
            return self
        if sections not in legal_orders(self.name):
            raise InputError(
                f"layout {self.name!r} cannot write the sections in the order {', '.join(sections)}",
                hint="an order of all of " + ", ".join(PROMPT_SECTIONS) + self._order_rule(),
            )
        return replace(self, order=sections)

    def _order_rule(self) -> str:
        if self.default_system:
            return ": only " + ", ".join(self.order)
        return " with QUERY last" if self.system else ""


def legal_orders(layout: str) -> tuple[tuple[str, ...], ...]:
    """The orders of sections that a layout can write, its own first.

    The query of a layout that fills the system turn comes last, because the user turn does; the layout of
    the xLAM-2 checkpoints has its one order.
    """
    made = LAYOUTS[layout]
    if made.default_system:
        return (made.order,)
    orders = itertools.permutations(made.order)
    return tuple(o for o in orders if not made.system or o[-1] == "QUERY")


def _marked(begin: str, end: str, write: str = "upper") -> dict[str, tuple[str, str]]:
    """Markers with `{}` for the section's title."""
    titles = {
        "upper": lambda t: t,
        "tag": lambda t: t.lower().replace(" ", "_").replace("-", "_"),
        "label": lambda t: t.capitalize(),
    }
    return {t: (begin.format(titles[write](t)), end.format(titles[write](t))) for t in SECTIONS}


_BRACKETS = _marked("[BEGIN OF {}]\n", "\n[END OF {}]")
_BARE = dict.fromkeys(SECTIONS, ("", ""))
_PRETTY = ToolList(view="openai", begin="", between="\n\n", end="", indent=4)

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("brackets", _BRACKETS),
        Layout("start-end", _marked("[START OF {}]\n", "\n[END OF {}]")),
        Layout("xml", _marked("<{}>\n", "\n</{}>", "tag")),
        Layout("markdown", _marked("## {}\n", "", "label")),
        Layout("plain", _marked("{}:\n", "", "label")),
        Layout(
            "system",
            _BARE
            | {
                "AVAILABLE TOOLS": ("Available tools:\n\n", ""),
                "FEW-SHOT EXAMPLES": ("Examples:\n\n", ""),
                "OBSERVATION": ("Observation:\n", ""),
            },
            order=_SYSTEM_ORDER,
            tools=_PRETTY,
            system=True,
        ),
        # What the released checkpoints were trained on: see presets.py.
        Layout("xlam-1", _BRACKETS, tail="\n\n", tools=ToolList(view="lifted", ascii=True)),
        Layout(
            "xlam-2",
            {t: ("", "\n" if t == "TASK INSTRUCTION" else "\n\n") for t in PROMPT_SECTIONS}
            | {"OBSERVATION": ("Observation:\n", "")},
            joint="",
            order=_SYSTEM_ORDER,
            tools=_PRETTY,
            system=True,
            default_system=True,
            trim=True,
        ),
    )
}
MARKER_STYLES = ("brackets", "start-end", "xml", "markdown", "plain", "system")
