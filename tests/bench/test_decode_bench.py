"""What `xlam bench decode` times is the same work on both sides."""

import pytest

from tests import tiny_run
from xlam_jax.bench.decode import bench_decode
from xlam_jax.errors import InputError


@pytest.mark.slow
def test_both_sides_write_the_same_tokens(tmp_path):
    folder = tiny_run.make_model(tmp_path / "model", tiny_run.make_tokenizer(tmp_path / "tokenizer"))
    result = bench_decode(folder, batches=(1, 3), prompt_tokens=24, new_tokens=6, repeats=1)
    assert [row["batch"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert row["same_tokens"] == 1.0
        for part in ("decode", "prefill"):
            both = row[f"xlam_{part}"], row[f"transformers_{part}"]
            told = pytest.approx(both[0] / both[1]) if all(both) else None  # too short to be timed here
            assert row[f"{part}_ratio"] == told
    with pytest.raises(InputError, match="positions"):
        bench_decode(folder, prompt_tokens=10_000_000, new_tokens=6)
