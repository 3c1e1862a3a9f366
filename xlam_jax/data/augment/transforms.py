"""The registry of transforms, and one augmented copy of one record.

A transform is a pure function `(Record, Generator) -> Record | None`; None says that it is not applicable.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from xlam_jax.data.augment import masking, negatives, shuffles, styles
from xlam_jax.data.augment.config import AugmentConfig, Rates
from xlam_jax.data.augment.pool import ToolPool
from xlam_jax.data.augment.wordings import TASK_WORDINGS
from xlam_jax.format import CALL_FORMATS, LAYOUTS, TASK_INSTRUCTION, Record

Transform = Callable[[Record, np.random.Generator], Record | None]

SHIPPED_REWRITES: dict[str, tuple[str, ...]] = dict.fromkeys((TASK_INSTRUCTION, *TASK_WORDINGS), TASK_WORDINGS)

APPLIED, NOT_APPLICABLE = "applied", "not_applicable"


def make_transforms(
    config: AugmentConfig, pool: ToolPool, rewrites: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Transform]:
    """All transforms by name, in the order in which a copy tries them.

    What changes the label comes before what renames, and that before what only writes differently.

    Args:
      pool: other tools, for distractors and irrelevance.
      rewrites: task instruction -> its wordings; None for those that ship.

    Raises:
      InputError: unknown names of layouts or call formats.
    """
    styles.check_names("layout", [*config.layouts, config.base_layout], LAYOUTS)
    styles.check_names("call format", [*config.call_formats, config.base_call_format], CALL_FORMATS)
    wordings = {k: tuple(v) for k, v in rewrites.items()} if rewrites is not None else SHIPPED_REWRITES
    transforms: dict[str, Transform] = {
        "add_distractors": partial(negatives.add_distractors, pool=pool, most=config.max_distractors),
        "irrelevance": partial(negatives.irrelevance, pool=pool),
        "remove_tool": negatives.remove_tool,
        "remove_argument": negatives.remove_argument,
        "mask_functions": masking.mask_functions,
        "mask_parameters": masking.mask_parameters,
        "move_defaults": masking.move_defaults,
        "shuffle_tools": shuffles.shuffle_tools,
        "shuffle_tool_fields": styles.shuffle_tool_fields,
        "shuffle_parameters": shuffles.shuffle_parameters,
        "shuffle_tool_calls": shuffles.shuffle_tool_calls,
        "layout": partial(styles.choose_layout, weights=config.layouts, base=config.base_layout),
        "shuffle_sections": partial(styles.shuffle_sections, base=config.base_layout),
        "call_format": partial(styles.choose_call_format, weights=config.call_formats, thought=config.thought),
        "task_instruction": partial(styles.choose_task_instruction, rewrites=wordings),
    }
    assert list(transforms) == list(Rates.model_fields)
    return transforms


def generator(seed: int, name: str, index: int, copy: int) -> np.random.Generator:
    """The source of randomness of one transform on one copy of one row, whatever ran before."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index, copy])


@dataclass(frozen=True)
class Augmenter:
    """Makes copies; picklable. Rates of 0 are not tried."""

    seed: int
    rates: dict[str, float]
    transforms: dict[str, Transform]

    def copy(self, record: Record, index: int, copy: int) -> tuple[Record | None, dict[str, str]]:
        """Copy number `copy` (from 1) of the row with this global index.

        Returns:
          The copy, its id `<id>#aug<copy>` and its lineage grown by `augment:<transform>` for each one
          applied, or None where nothing was; and what became of each transform that was tried.
        """
        current, fates = record, {}
        for name, transform in self.transforms.items():
            if not self.rates[name]:
                continue
            rng = generator(self.seed, name, index, copy)
            if rng.random() >= self.rates[name]:
                continue
            changed = transform(current, rng)
            fates[name] = NOT_APPLICABLE if changed is None else APPLIED
            current = current if changed is None else changed
        applied = tuple(f"augment:{name}" for name, fate in fates.items() if fate == APPLIED)
        if not applied:
            return None, fates
        return replace(current, id=f"{record.id}#aug{copy}", lineage=(*record.lineage, *applied)), fates
