"""The registry of transforms, and one augmented copy of one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from xlam_jax.format import Record
from xlam_jax.records.augment import masking, negatives, rephrase, shuffles, styles
from xlam_jax.records.augment.context import Context, Transform, drawn
from xlam_jax.records.augment.origin import origin_notes
from xlam_jax.records.quality.schema_check import check_call

# By name, in the order in which a copy tries them: what the model rewrote and checked comes before what
# changes the label, that before what renames, and that before what only writes differently.
TRANSFORMS: Mapping[str, Transform] = {
    "rephrase_query": rephrase.rephrase_query,
    "rephrase_task": rephrase.rephrase_task,
    "add_distractors": negatives.add_distractors,
    "irrelevance": negatives.irrelevance,
    "remove_tool": negatives.remove_tool,
    "remove_argument": negatives.remove_argument,
    "mask_functions": masking.mask_functions,
    "mask_parameters": masking.mask_parameters,
    "move_defaults": masking.move_defaults,
    "shuffle_tools": shuffles.shuffle_tools,
    "shuffle_parameters": shuffles.shuffle_parameters,
    "shuffle_tool_fields": shuffles.shuffle_tool_fields,
    "shuffle_tool_calls": shuffles.shuffle_tool_calls,
    "layout": styles.choose_layout,
    "shuffle_sections": styles.shuffle_sections,
    "call_format": styles.choose_call_format,
    "task_instruction": styles.choose_task_instruction,
}

APPLIED = "applied"
BROKEN = "calls_became_invalid"


@dataclass(frozen=True)
class Copy:
    """One attempt at a copy.

    Attributes:
      record: None where nothing was applied, or where the result was refused.
      fates: transform -> `applied`, or the code that says why it was not; only those that were drawn.
      refused: why the result was thrown away.
    """

    record: Record | None
    fates: dict[str, str]
    refused: str = ""


def make_copy(record: Record, index: int, copy: int, context: Context) -> Copy:
    """One augmented copy of a row.

    Its id is `<id>#aug<copy>`, its lineage grows by `augment:<transform>` for each one applied, and by what
    tells which functions it is about (`origin`). A copy whose calls are not valid against its own tools,
    where those of the record are, is refused.

    Args:
      index: global index of the row.
      copy: number of the copy, from 1.
      context: of the run; its `place` is set here.
    """
    place = replace(context, place=(index, copy))
    current, fates = record, {}
    for name, transform in TRANSFORMS.items():
        rng = drawn(context, name, index, copy)
        if rng is None:
            continue
        changed = transform(current, rng, place)
        fates[name] = changed if isinstance(changed, str) else APPLIED
        current = current if isinstance(changed, str) else changed
    applied = tuple(f"augment:{name}" for name, fate in fates.items() if fate == APPLIED)
    if not applied:
        return Copy(None, fates)
    if calls_valid(record) and not calls_valid(current):
        return Copy(None, fates, BROKEN)
    lineage = (*current.lineage, *applied, *origin_notes(record, current))
    return Copy(replace(current, id=f"{record.id}#aug{copy}", lineage=lineage), fates)


def calls_valid(record: Record) -> bool:
    """Whether every call keeps to its tool's schema."""
    offered = {tool.name: tool for tool in record.tools}
    return not any(check_call(call, offered) for step in record.steps for call in step.tool_calls)
