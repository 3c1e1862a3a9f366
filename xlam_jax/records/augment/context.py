"""What a transform may look at beside its record."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from xlam_jax.errors import unknown
from xlam_jax.format import CALL_FORMATS, LAYOUTS, Record
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.pool import ToolPool


@dataclass(frozen=True)
class Rewrite:
    """A verified text, or why there is none."""

    text: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Context:
    """Settings and material of one run; picklable.

    Attributes:
      pool: other tools, for distractors and irrelevance.
      rewrites: `(transform, global row index, copy number)` -> what the model made of the text.
      place: global row index and copy number of the copy being made.
    """

    config: AugmentConfig = field(default_factory=AugmentConfig)
    pool: ToolPool = field(default_factory=ToolPool)
    rewrites: Mapping[tuple[str, int, int], Rewrite] = field(default_factory=dict)
    place: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Raises InputError for layouts and call formats that are not known, with the nearest known one."""
        config = self.config
        _check_names("layout", [*config.layouts, config.base_layout], LAYOUTS)
        _check_names("call format", [*config.call_formats, config.base_call_format], CALL_FORMATS)


# The changed record, or a code that says why the transform is not applicable.
Transform = Callable[[Record, np.random.Generator, Context], Record | str]


def generator(seed: int, name: str, index: int, copy: int) -> np.random.Generator:
    """The source of randomness of one transform on one copy of one row, whatever ran before.

    Args:
      seed: of the run.
      name: the transform's.
      index: global index of the row.
      copy: number of the copy, from 1.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index, copy])


def drawn(context: Context, name: str, index: int, copy: int) -> np.random.Generator | None:
    """The transform's generator where the rate's draw fell on this copy, else None.

    Args:
      context: the run's seed and rates.
      name, index, copy: as in `generator`.
    """
    rate = getattr(context.config.rates, name)
    if not rate:
        return None
    # A hash draws: making a generator costs more than most transforms, and most draws say no.
    seed = context.config.seed
    digest = hashlib.blake2b(f"{seed}/{name}/{index}/{copy}".encode(), digest_size=8).digest()
    if int.from_bytes(digest, "big") >= rate * 2**64:
        return None
    return generator(seed, name, index, copy)


def _check_names(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown(what, name, known)
