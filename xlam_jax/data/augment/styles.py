"""How a record is written: marker styles, section orders, tool-field orders, call formats, task wordings.

These transforms set `Record.style` and the instructions. Ordinary chats (no tools) are left alone: their
sections are the turns of a conversation, and their system text is somebody's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from xlam_jax.data.augment.shuffles import new_order
from xlam_jax.errors import InputError
from xlam_jax.format import CALL_FORMATS, LAYOUTS, TASK_INSTRUCTION, Record, Style
from xlam_jax.format import layout as layouts_module

TOOL_FIELDS = ("name", "description", "parameters")


def choose_layout(
    record: Record, rng: np.random.Generator, *, weights: Mapping[str, float], base: str
) -> Record | None:
    """Another marker style; an order of sections set for the old one goes."""
    style = record.style or Style()
    name = _choose(rng, weights or marker_styles(), without=style.layout or base)
    return _styled(record, layout=name, sections=()) if name else None


def shuffle_sections(record: Record, rng: np.random.Generator, *, base: str) -> Record | None:
    """Another legal order of the prompt's sections; the layout is written out, since legality hangs on it."""
    style = record.style or Style()
    layout = style.layout or base
    orders = section_orders(layout)
    current = style.sections or orders[0]
    others = [order for order in orders if order != current]
    if not others:
        return None
    return _styled(record, layout=layout, sections=others[int(rng.integers(len(others)))])


def shuffle_tool_fields(record: Record, rng: np.random.Generator) -> Record | None:
    """Another order of name, description and parameters in the tools shown.

    Carried by `Style.tool_fields`; not applicable while styles have no such field.
    """
    if "tool_fields" not in {f.name for f in fields(Style)}:
        return None
    order = new_order(rng, len(TOOL_FIELDS))
    return _styled(record, tool_fields=tuple(TOOL_FIELDS[i] for i in order))


def choose_call_format(
    record: Record, rng: np.random.Generator, *, weights: Mapping[str, float], thought: bool
) -> Record | None:
    """A call format with one of its instructions; another wording counts as a change, too.

    Few-shot examples show answers in the format they were written in, so such records keep theirs.
    """
    if record.few_shot_examples or not record.tools:
        return None
    name = _choose(rng, weights or dict.fromkeys(CALL_FORMATS, 1.0))
    wordings = format_instructions(name, thought)
    text = wordings[int(rng.integers(len(wordings)))]
    current = (record.style or Style()).call_format
    if current == name and record.format_instruction == text:
        return None
    style = replace(record.style or Style(), call_format=name)
    return replace(record, style=style, format_instruction=text)


def choose_task_instruction(
    record: Record, rng: np.random.Generator, *, rewrites: Mapping[str, Sequence[str]]
) -> Record | None:
    """Another wording of a task instruction that is in `rewrites`; a record's own policy is never touched."""
    if not record.tools:
        return None
    known = rewrites.get(record.task_instruction or TASK_INSTRUCTION, ())
    others = [text for text in known if text != record.task_instruction]
    return replace(record, task_instruction=others[int(rng.integers(len(others)))]) if others else None


def format_instructions(name: str, thought: bool) -> tuple[str, ...]:
    """The wordings of a call format's instruction."""
    call_format: Any = CALL_FORMATS[name]
    if hasattr(call_format, "instructions"):
        return tuple(call_format.instructions(thought))
    return (call_format.instruction(thought),)


def marker_styles() -> dict[str, float]:
    """The layouts to choose from by default: those made for variety, not those of released checkpoints."""
    return dict.fromkeys(getattr(layouts_module, "MARKER_STYLES", tuple(LAYOUTS)), 1.0)


def section_orders(layout: str) -> tuple[tuple[str, ...], ...]:
    """The orders a layout can write, its own first."""
    legal = getattr(layouts_module, "legal_orders", None)
    if legal:
        return legal(layout)
    return tuple(itertools.permutations(t for t in layouts_module.SECTIONS if t != "OBSERVATION"))


def check_names(what: str, names: Mapping[str, float] | Sequence[str], known: Mapping[str, Any]) -> None:
    """InputError for a name that is not known."""
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}", hint="one of " + ", ".join(known))


def _choose(rng: np.random.Generator, weights: Mapping[str, float], without: str = "") -> str:
    names = [name for name in weights if name != without]
    if not names:
        return ""
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _styled(record: Record, **changes: Any) -> Record | None:
    if not record.tools:
        return None
    return replace(record, style=replace(record.style or Style(), **changes))
