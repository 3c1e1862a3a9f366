"""The rows that memory is measured on, and the measurement of one stage."""

from benchmarks.data_memory import bench_memory, synthetic
from tests import tiny_run
from xlam_jax.records.quality.rules import RuleConfig, Rules


def test_synthetic_rows_pass_the_rules_and_differ():
    rules = Rules(RuleConfig())
    rows = list(synthetic(500))
    assert len({r.query for r in rows}) == 500
    assert not [f for r in rows for f in rules.find(r)]


def test_memory_of_a_stage(tmp_path):
    (row,) = bench_memory([50], tiny_run.make_tokenizer(tmp_path / "tokenizer"), ["convert"])
    assert row["stage"] == "convert" and 10 < row["peak MiB 50"] < 2000
