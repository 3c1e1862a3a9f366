"""The data benchmarks run what they say; that both ways write the same texts, the bench itself demands."""

import pytest

from tests import tiny_run
from xlam_jax.bench.data import bench_data
from xlam_jax.bench.data_memory import bench_memory, synthetic
from xlam_jax.data.quality.rules import RuleConfig, Rules
from xlam_jax.format.record import write_records


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_run.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_stages_and_the_usual_way(tmp_path, tokenizer):
    pytest.importorskip("datasets", reason="pip install 'xlam-jax[bench]'")
    write_records(tmp_path / "r.jsonl", synthetic(30))
    result = bench_data([tmp_path / "r.jsonl"], tokenizer)
    assert result["rows"] == 30 and len(result["stages"]) == 8
    rate = {s["stage"]: s["rows_per_second"] for s in result["stages"]}
    assert all(s["rows"] == 30 for s in result["stages"])
    wanted = rate["verify and render"] / rate["datasets.map: render"]
    assert result["ratio_render"] == pytest.approx(wanted, abs=0.01)


def test_synthetic_rows_pass_the_rules_and_differ():
    rules = Rules(RuleConfig())
    rows = list(synthetic(500))
    assert len({r.query for r in rows}) == 500
    assert not [f for r in rows for f in rules.find(r)]


def test_memory_of_a_stage(tokenizer):
    (row,) = bench_memory([50], tokenizer, ["convert"])
    assert row["stage"] == "convert" and 10 < row["peak MiB 50"] < 2000
