"""How many examples hypothesis draws: all of them in the long proofs, a quarter in the quick suite."""

from __future__ import annotations

import os

from hypothesis import settings


def examples(count: int) -> settings:
    """Settings of a test that deserves `count` examples.

    `make test-slow` sets XLAM_TEST_EXAMPLES=all and runs every test of hypothesis again. The quick suite draws a
    quarter, but new ones in every run.
    """
    whole = os.environ.get("XLAM_TEST_EXAMPLES") == "all"
    return settings(max_examples=count if whole else min(count, max(20, count // 4)), deadline=None)
