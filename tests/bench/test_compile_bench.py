"""Programs of two depths are nearly of one size."""

import pytest

from benchmarks.compile import bench_compile
from xlam_jax.models.named import named_config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mixtral"])
def test_the_program_does_not_grow_with_depth(name):
    measured = bench_compile(named_config(name), [2, 9], seq_len=32)
    assert measured["spread_hlo"] < 0.2
    assert [row["layers"] for row in measured["rows"]] == [2, 9]
