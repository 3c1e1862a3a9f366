"""The published answers through our scorer: exactly the rows known to be unreachable fail."""

import json

import pytest
from bfcl_rows import FILES, folder, gold_calls, raw_tools, rows

from xlam_jax.format import normalise_tool
from xlam_jax.scoring import score

# Rows no output can pass, by feeding the published answers to the published checker.
UNREACHABLE = {
    "simple": {"simple_363"},  # the answer has another function name than the schema
    "parallel_multiple": {"parallel_multiple_179"},  # a stray answer without a function
    "live_simple": {
        "live_simple_106-63-0",
        "live_simple_112-68-0",
    },  # required lists that may only be left out
    "live_multiple": {"live_multiple_862-181-3", "live_multiple_964-207-0", "live_multiple_189-83-0"},
}
SIZES = {
    "simple": 400,
    "multiple": 200,
    "parallel": 200,
    "parallel_multiple": 200,
    "live_simple": 258,
    "live_multiple": 1037,
    "live_parallel": 16,
    "live_parallel_multiple": 24,
}


@pytest.mark.parametrize("name", FILES)
def test_published_answers(name):
    found = rows(name)
    assert len(found) == SIZES[name]
    failed = {
        row["id"]
        for row, answers in found
        if not score(raw_tools(row), gold_calls(row, answers), answers, category=FILES[name]).valid
    }
    assert failed == UNREACHABLE.get(name, set())


@pytest.mark.parametrize("name", FILES)
def test_json_schema_spelling_gives_the_same_verdicts(name):
    """Normalised tools lose nothing the rules look at, beyond what the original refuses to digest."""
    for row, answers in rows(name):
        calls = gold_calls(row, answers)
        raw = score(raw_tools(row), calls, answers, category=FILES[name])
        tools = [
            normalise_tool(f)
            for f in (row["function"] if isinstance(row["function"], list) else [row["function"]])
        ]
        normalised = score(tools, calls, answers, category=FILES[name])
        assert normalised == raw or not raw.valid, row["id"]


def test_irrelevance_rows_carry_no_answers():
    lines = (folder() / "BFCL_v2_irrelevance.json").read_text("utf-8").splitlines()
    assert len(lines) == 240
    for row in map(json.loads, lines):
        assert score(raw_tools(row), [], [], category="irrelevance").valid
