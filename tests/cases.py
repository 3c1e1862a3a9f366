"""Many small cases in one test: as ids of their own they would cost more in collecting than in running."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def case(name: object) -> Iterator[None]:
    """Adds the case's name to whatever fails inside."""
    try:
        yield
    except BaseException as e:
        e.add_note(f"in the case {name!r:.300}")
        raise


def long_but(quick: Collection[Any], values: Collection[Any]) -> list[Any]:
    """Parameters of a test: those of `quick` as they are, the others marked slow, for the long proofs."""
    assert all(v in values for v in quick), quick
    return [
        v if v in quick else pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow)
        for v in values
    ]
