"""Native folders and the checkpoints of training runs."""

import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import tiny
from xlam_jax.errors import InputError
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import leaves, path_name
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.weights import (
    inspect,
    load_model,
    load_native,
    load_params_item,
    save_hf,
    save_native,
    weights_digest,
)
from xlam_jax.weights.hf_out import write_configs

CFG = named_config("tiny-llama")
CODEC = {"call_format": "xlam-json", "template": "chatml", "layout": "brackets", "thought": False}


@pytest.fixture(scope="module")
def params():
    return tiny.params(CFG)


def equal(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_round_trip_on_one_device_and_on_a_mesh(tmp_path, params):
    report = save_native(params, CFG, tmp_path / "n", codec=CODEC)
    cfg, again = load_native(tmp_path / "n")
    assert cfg == CFG
    equal(again, params)
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    _, sharded = load_model(tmp_path / "n", mesh=mesh, dtype=jnp.bfloat16)
    assert len(sharded.layers.attn.q.sharding.device_set) == 4
    equal(sharded, jax.tree.map(lambda a: a.astype(jnp.bfloat16), params))
    about = json.loads((tmp_path / "n" / "xlam.json").read_text())
    assert about["codec"] == CODEC
    assert about["weights_xxh3_128"] == report.weights_xxh3_128 == weights_digest(params, CFG)


def test_digest_is_of_the_weights_and_not_of_their_files(tmp_path, params):
    one = save_hf(params, CFG, tmp_path / "one", max_shard_bytes=50_000)
    two = save_hf(params, CFG, tmp_path / "two")
    assert len(one.shards) > 2 and one.weights_xxh3_128 == two.weights_xxh3_128
    changed = params.replace(final_norm=params.final_norm.at[3].add(1e-6))
    assert weights_digest(changed, CFG) != one.weights_xxh3_128


def write_run(run, params, cfg, steps) -> None:
    """A run folder as training writes it: CheckpointManager, flat params, JSON meta."""
    flat = {path_name(p): x for p, x in jax.tree_util.tree_flatten_with_path(params)[0]}
    with ocp.CheckpointManager(run / "checkpoints", item_names=("params", "meta")) as manager:
        for step in steps:
            args = ocp.args.Composite(
                params=ocp.args.StandardSave({k: v + step for k, v in flat.items()}),
                meta=ocp.args.JsonSave({"step": step, "codec": CODEC}),
            )
            manager.save(step, args=args)
        manager.wait_until_finished()
    write_configs(run, cfg, "float32")


def test_newest_or_named_checkpoint_of_a_run(tmp_path, params):
    write_run(tmp_path, params, CFG, [5, 10])
    (tmp_path / "checkpoints" / "15.orbax-checkpoint-tmp-0").mkdir()  # cut off while saving
    source = inspect(tmp_path)
    assert (source.kind, source.params, source.codec) == (
        "run",
        tmp_path / "checkpoints" / "10" / "params",
        CODEC,
    )
    cfg, newest = load_model(tmp_path)
    assert cfg == CFG
    equal(newest, jax.tree.map(lambda a: a + 10, params))
    _, named = load_model(tmp_path / "checkpoints" / "5")
    equal(named, jax.tree.map(lambda a: a + 5, params))


def test_checkpoint_of_another_model(tmp_path, params):
    save_native(params, CFG, tmp_path / "n")
    with pytest.raises(InputError, match="another model"):
        load_params_item(tmp_path / "n" / "params", CFG.replace(intermediate_size=96))
    with pytest.raises(InputError, match="another model"):
        load_params_item(tmp_path / "n" / "params", CFG.replace(tie_embeddings=True))
    write_configs(tmp_path / "n", CFG.replace(num_layers=1), "float32")
    with pytest.raises(InputError) as found:
        load_model(tmp_path / "n")
    assert str(leaves(CFG)["layers.attn_norm"].shape) in str(found.value)


def test_damaged_parameters(tmp_path, params):
    save_native(params, CFG, tmp_path / "n")
    for file in (tmp_path / "n" / "params").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        load_native(tmp_path / "n")
    (tmp_path / "n" / "params" / "_METADATA").unlink()
    with pytest.raises(InputError, match="not readable as Orbax"):
        load_native(tmp_path / "n")


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(InputError, match="folder not found"):
        load_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"config\.json not found"):
        load_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no checkpoint"):
        load_model(tmp_path)


def test_newer_format_is_refused(tmp_path, params):
    save_native(params, CFG, tmp_path / "n")
    (tmp_path / "n" / "xlam.json").write_text('{"format_version": 99}')
    with pytest.raises(InputError, match="newer"):
        load_model(tmp_path / "n")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here (needs root)")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_leaves_nothing(small_disk, params):
    with pytest.raises(InputError, match="the disk is full"):
        save_hf(params, CFG, small_disk / "hf")
    assert list(small_disk.iterdir()) == []
    with pytest.raises(InputError, match="the disk is full"):
        save_native(params, CFG, small_disk / "native")
    assert list(small_disk.iterdir()) == []
