"""Errors of every class, put into rows that are made to be clean, are found."""

from benchmarks.verifier import bench_verifier
from tests.records.test_quality_verify import make
from xlam_jax.format import write_records


def test_injected_errors_are_found_in_made_rows(tmp_path):
    write_records(tmp_path / "rows.jsonl", [make(i) for i in range(110)])
    result = bench_verifier([tmp_path / "rows.jsonl"], per_class=75)
    assert result["excluded"].keys() == {"held out or overlapping with it"}
    for row in result["classes"]:
        assert row["rows"] == 75, row
        assert row["recall"] >= 0.99 and row["precision"] >= 0.99, row
    assert {row["repaired"] for row in result["classes"] if row["class"] == "castable_type"} == {1.0}
