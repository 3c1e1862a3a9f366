"""Many small cases in one test: as ids of their own they would cost more in collecting than in running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def case(name: object) -> Iterator[None]:
    """Adds the case's name to whatever fails inside."""
    try:
        yield
    except BaseException as e:
        e.add_note(f"in the case {name!r:.300}")
        raise
