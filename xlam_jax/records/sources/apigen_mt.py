"""`Salesforce/APIGen-MT-5k`: ShareGPT dialogues with a domain policy as system text."""

from __future__ import annotations

from xlam_jax.format.record import Record
from xlam_jax.records.sources import sharegpt
from xlam_jax.records.sources.base import Row, Source


def convert(row: Row) -> Record:
    """The policy is the task instruction."""
    return sharegpt.record(row, SOURCE)


SOURCE = Source(
    name="apigen-mt",
    summary="multi-turn agent dialogues with a domain policy (APIGen-MT-5k)",
    license="CC-BY-NC-4.0",
    url="https://huggingface.co/datasets/Salesforce/APIGen-MT-5k",
    convert=convert,
)
