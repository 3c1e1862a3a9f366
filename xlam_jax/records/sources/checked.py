"""The last look at a Record that a converter made of rows it did not look at everywhere."""

from __future__ import annotations

from xlam_jax.format.record import Record


def checked(record: Record) -> Record:
    """The record, if it is one by the schema of Records.

    Raises:
      InputError: names the field, such as a query that is a list.
    """
    Record.from_json(record.to_json())
    return record
