"""Host memory of a conversion, measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

CODE = """
import json, sys
import jax, jax.numpy as jnp
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import init
from xlam_jax.release import load_hf, load_native, save_hf, save_native
from xlam_jax.release.folders import PeakMemory

folder = sys.argv[1]
cfg = ModelConfig("llama", vocab_size=8192, hidden_size=1024, intermediate_size=2816, num_layers=7,
                  num_heads=16, num_kv_heads=4, head_dim=64)
params = init(cfg, jax.random.key(0))
arrays = sum(a.nbytes for a in jax.tree.leaves(params))
out = {"arrays": arrays}
report = save_hf(params, cfg, folder + "/hf", max_shard_bytes=100_000_000)
out["to-hf"], out["shard"], out["shards"] = report.peak_bytes, report.largest_shard, len(report.shards)
del params
for name, load in (("hf", load_hf), ("native", load_native)):
    memory = PeakMemory().start()
    _, params = load(folder + "/" + name)
    jax.block_until_ready(params)
    out["load " + name] = memory.bytes() - arrays
    if name == "hf":
        out["to-native"] = save_native(params, cfg, folder + "/native").peak_bytes
    del params
print(json.dumps(out))
"""


def test_peak_beyond_the_arrays_stays_under_one_and_a_half_shards(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    env["XLA_FLAGS"] = ""  # one device
    run = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    print(found)
    assert found["arrays"] > 300e6 and found["shards"] >= 4 and found["shard"] <= 101e6
    for stage in ("to-hf", "load hf", "to-native", "load native"):
        assert found[stage] < 1.5 * found["shard"], (stage, found)
