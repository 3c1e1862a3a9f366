"""What a model folder is: checkpoints of training runs, and what is none."""

import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_folders import CODEC, write_run
from typer.testing import CliRunner

from tests import tiny
from xlam_jax.cli.convert import app
from xlam_jax.errors import InputError
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import leaves
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.weights import (
    HfOptions,
    inspect,
    load_model,
    load_params_item,
    open_model,
    save_hf,
    to_hf,
    weights_digest,
)
from xlam_jax.weights.hf_out import write_configs

CFG = named_config("tiny-llama")


@pytest.fixture(scope="module")
def params():
    return tiny.params(CFG)


def equal(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_on_one_device_and_on_a_mesh(tmp_path, params):
    write_run(tmp_path / "run", params, CFG)
    cfg, again = load_model(tmp_path / "run")
    assert cfg == CFG
    equal(again, params)
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
    _, sharded = load_model(tmp_path / "run", mesh=mesh, dtype=jnp.bfloat16)
    assert len(sharded.layers.attn.q.sharding.device_set) == 4
    equal(sharded, jax.tree.map(lambda a: a.astype(jnp.bfloat16), params))


def test_a_native_folder_of_an_earlier_version_is_read(tmp_path, params):
    item = write_run(tmp_path / "run", params, CFG)
    shutil.copytree(item, tmp_path / "old" / "params")
    write_configs(tmp_path / "old", CFG, "float32")
    assert inspect(tmp_path / "old").kind == "native"
    equal(load_model(tmp_path / "old")[1], params)
    with open_model(tmp_path / "old") as model:
        to_hf(model, tmp_path / "new", HfOptions(dtype=None))
    equal(load_model(tmp_path / "new")[1], params)


def test_digest_is_of_the_weights_and_not_of_their_files(tmp_path, params):
    one = save_hf(params, CFG, tmp_path / "one", max_shard_bytes=50_000)
    two = save_hf(params, CFG, tmp_path / "two")
    assert len(one.shards) > 2 and one.weights_xxh3_128 == two.weights_xxh3_128
    changed = params.replace(final_norm=params.final_norm.at[3].add(1e-6))
    assert weights_digest(changed, CFG) != one.weights_xxh3_128


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
    item = write_run(tmp_path, params, CFG)
    with pytest.raises(InputError, match="another model"):
        load_params_item(item, CFG.replace(intermediate_size=96))
    with pytest.raises(InputError, match="another model"):
        load_params_item(item, CFG.replace(tie_embeddings=True))
    write_configs(tmp_path, CFG.replace(num_layers=1), "float32")
    with pytest.raises(InputError) as found:
        load_model(tmp_path)
    assert str(leaves(CFG)["layers.attn_norm"].shape) in str(found.value)


def test_damaged_parameters(tmp_path, params):
    item = write_run(tmp_path / "run", params, CFG)
    for file in item.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    def convert(run):
        CliRunner().invoke(app, ["to-hf", str(run), str(tmp_path / "out")], catch_exceptions=False)

    for read in (load_model, convert):
        with pytest.raises(InputError, match="damaged"):
            read(tmp_path / "run")
    assert not (tmp_path / "out").exists()
    (item / "_METADATA").unlink()
    with pytest.raises(InputError, match="not readable as Orbax"):
        load_model(tmp_path / "run")


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(InputError, match="folder not found"):
        load_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"config\.json not found"):
        load_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no checkpoint"):
        load_model(tmp_path)


def test_newer_format_is_refused(tmp_path, params):
    save_hf(params, CFG, tmp_path / "n")
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
