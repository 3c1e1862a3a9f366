"""The data benchmarks run what they say; that both ways give the same ids, the bench itself demands."""

import pytest

from benchmarks.data_memory import synthetic
from tests import tiny_run
from xlam_jax.bench.data import bench_data
from xlam_jax.format.record import write_records


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_run.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_stages_and_the_usual_way(tmp_path, tokenizer):
    pytest.importorskip("datasets", reason="pip install 'xlam-jax[bench]'")
    write_records(tmp_path / "r.jsonl", synthetic(30))
    result = bench_data([tmp_path / "r.jsonl"], tokenizer, rounds=2)
    assert result["rows"] == 30 and len(result["stages"]) == 8
    cpu = [s["cpu_seconds"] for s in result["stages"]]
    assert all(s["rows"] == 30 for s in result["stages"])
    ours, plain, verified = cpu[-3:]
    assert result["ratio_plain"] == pytest.approx(plain / ours, abs=0.01)
    assert result["ratio_verified"] == pytest.approx(verified / ours, abs=0.01)
    assert sum(row["percent"] for row in result["profile"]) == pytest.approx(100, abs=1)
    assert result["floor"].keys() == {"tokenizer_whole", "tokenizer_distinct"}
