"""The conversion benchmark on a tiny mixture: real commands, a real SIGKILL."""

import pytest

from xlam_jax.bench.convert import bench_convert
from xlam_jax.errors import InputError
from xlam_jax.models.named import named_config


@pytest.mark.slow
def test_killed_and_resumed_commands_write_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    found = bench_convert(named_config("tiny-mixtral"), tmp_path, max_shard_bytes=30_000)
    assert found["checksums_equal"] and found["bytes"] == 2 * found["parameters"]
    assert 1 <= found["to_hf_resumed"]["shards_kept"] < found["to_hf_resumed"]["shards"]
    assert found["disk"]["copy_MB_per_second"] > 0 and found["from_hf"]["cpu_seconds"] > 0
    assert not list(tmp_path.iterdir())


def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="GB are needed"):
        bench_convert(named_config("deepseek-v3"), tmp_path)
    assert not list(tmp_path.iterdir())
