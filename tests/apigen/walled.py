"""What the tests of the sandbox share: hostile calls between good ones, modules of one's own, and where to skip."""

import textwrap
from pathlib import Path

import pytest

from xlam_jax.apigen.sandbox import Limits, run_calls, walls

HERE = Path(__file__).parent
QUICK = Limits(seconds=0.6, cpu_seconds=3, memory_bytes=160 * 2**20, result_bytes=4096)


def require_walls():
    """Skips, with the reason, where no walls stand: a container without namespaces of its own."""
    kind, reason = walls()
    if kind == "none":
        pytest.skip(f"no walls on this machine: {reason}")


def contained(name, **arguments):
    """Runs a hostile call between two good ones; the good ones must be untouched."""
    require_walls()
    calls = [("hostile:well", {"x": 1}), (f"hostile:{name}", arguments), ("hostile:well", {"x": 2})]
    before, outcome, after = run_calls(calls, QUICK, paths=[HERE])
    assert (before.status, before.value) == ("ok", 2)
    assert (after.status, after.value) == ("ok", 3)
    return outcome


def write_module(folder, text, name="mine.py"):
    require_walls()
    (folder / name).write_text(textwrap.dedent(text))
    return folder
