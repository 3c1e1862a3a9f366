"""Records made of the published BFCL rows, in the tests' own few lines."""

from tests.scoring.bfcl_rows import gold_calls, rows
from xlam_jax.format import Record, Step, normalise_tool

FILES = ("simple", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple")


def bfcl_records(names=FILES):
    """One Record a row, its first published answer as the gold calls; skips without the data."""
    out = []
    for name in names:
        for row, answers in rows(name):
            functions = row["function"] if isinstance(row["function"], list) else [row["function"]]
            turns = row["question"][0] if isinstance(row["question"][0], list) else row["question"]
            query = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
            calls = tuple(gold_calls(row, answers))
            out.append(
                Record(
                    row["id"], query, tuple(map(normalise_tool, functions)), (Step("", calls),), source="bfcl"
                )
            )
    return out
