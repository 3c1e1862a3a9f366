"""Unified Format 2.0 trajectories (ActionStudio): read as the format's own spelling, without loss."""

from __future__ import annotations

from dataclasses import replace

from xlam_jax.format.record import Record
from xlam_jax.format.spellings import from_unified_v2
from xlam_jax.records.sources.base import Refused, Row, Source


def convert(row: Row) -> Record:
    """The trajectory's own id, source and licence are kept where it has them.

    Raises:
      Refused: `no_user_turn`, `no_answer`; InputError for what is no trajectory.
    """
    record = from_unified_v2(row.obj)
    if not record.query:
        raise Refused("no_user_turn")
    if not record.steps:
        raise Refused("no_answer")
    return replace(record, source=record.source or SOURCE.name)


SOURCE = Source(
    name="unified-v2",
    summary="Unified Format 2.0 trajectories (ActionStudio)",
    license="",
    url="https://github.com/SalesforceAIResearch/xLAM",
    convert=convert,
)
