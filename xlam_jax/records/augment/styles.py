"""How a record is written: marker styles, section orders, call formats, task wordings.

These transforms set `Record.style` and the instructions. Ordinary chats (no tools) are left alone: their
sections are the turns of a conversation, and their system text is somebody's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from xlam_jax.format import CALL_FORMATS, MARKER_STYLES, TASK_INSTRUCTION, Record, Style, legal_orders
from xlam_jax.records.augment.context import Context
from xlam_jax.records.augment.wordings import TASK_WORDINGS


def choose_layout(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another marker style; an order of sections set for the old one goes."""
    if not record.tools:
        return "no_tools"
    style = record.style or Style()
    weights = context.config.layouts or dict.fromkeys(MARKER_STYLES, 1.0)
    name = _choose(rng, weights, without=style.layout or context.config.base_layout)
    return replace(record, style=replace(style, layout=name, sections=())) if name else "no_other_layout"


def shuffle_sections(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another legal order of the prompt's sections; the layout is written out, since legality hangs on it."""
    if not record.tools:
        return "no_tools"
    style = record.style or Style()
    layout = style.layout or context.config.base_layout
    orders = legal_orders(layout)
    others = [order for order in orders if order != (style.sections or orders[0])]
    if not others:
        return "one_order"
    sections = others[int(rng.integers(len(others)))]
    return replace(record, style=replace(style, layout=layout, sections=sections))


def choose_call_format(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """A call format with one of its instructions; another wording counts as a change, too.

    Few-shot examples show answers in the format they were written in, so such records keep theirs.
    """
    if not record.tools:
        return "no_tools"
    if record.few_shot_examples:
        return "few_shot_examples"
    config, style = context.config, record.style or Style()
    name = _choose(rng, config.call_formats or dict.fromkeys(CALL_FORMATS, 1.0))
    wordings = format_instructions(name, config.thought)
    text = wordings[int(rng.integers(len(wordings)))]
    if (style.call_format or config.base_call_format) == name and record.format_instruction == text:
        return "same_format"
    return replace(record, style=replace(style, call_format=name), format_instruction=text)


def choose_task_instruction(record: Record, rng: np.random.Generator, context: Context) -> Record | str:
    """Another of the wordings that ship, for a record that has one of them; a policy of its own stays."""
    if not record.tools:
        return "no_tools"
    if record.task_instruction not in ("", TASK_INSTRUCTION, *TASK_WORDINGS):
        return "own_task_instruction"
    others = [text for text in TASK_WORDINGS if text != (record.task_instruction or TASK_INSTRUCTION)]
    return replace(record, task_instruction=others[int(rng.integers(len(others)))])


def format_instructions(name: str, thought: bool) -> tuple[str, ...]:
    """The wordings of a call format's instruction."""
    return CALL_FORMATS[name].instructions(thought)


def _choose(rng: np.random.Generator, weights: Mapping[str, float], without: str = "") -> str:
    names = [name for name in weights if name != without]
    if not names:
        return ""
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]
