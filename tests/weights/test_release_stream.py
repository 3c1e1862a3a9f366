"""Conversions killed and resumed, checksums, whose bytes a host reads, vocabularies cut and padded."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run
from tiny_hf import edit_config, files, folder_logits, our_logits, weights_of, write_tokenizer
from typer.testing import CliRunner

from tests import tiny
from xlam_jax.cli import convert
from xlam_jax.errors import InputError, WorkError
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import hf_entries
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.weights import (
    HfOptions,
    check_files,
    load_hf,
    open_model,
    save_hf,
    to_hf,
)
from xlam_jax.weights.checksums import SYNC_BYTES, Journal
from xlam_jax.weights.hf_in import load_tensors
from xlam_jax.weights.orbax_tensors import ItemTensors
from xlam_jax.weights.safetensors_io import TensorFolder

CFG = named_config("tiny-mixtral")
ROOT = str(Path(__file__).parents[2])
KILLED = """
import os, signal, sys
from xlam_jax.weights import HfOptions, open_model, to_hf
src, dst, last = sys.argv[1:]
left = int(last)
def progress(name, nbytes):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with open_model(src) as model:
    to_hf(model, dst, HfOptions(dtype="bfloat16", max_shard_bytes=40_000), progress=progress)
"""


def run(*args) -> str:
    result = CliRunner().invoke(convert.app, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "hf"
    save_hf(tiny.params(CFG), CFG, folder, max_shard_bytes=100_000)
    return folder


def test_killed_and_resumed_is_byte_identical(tmp_path, source):
    options = ["--dtype", "bfloat16", "--max-shard-size", "40KB"]
    run("to-hf", source, tmp_path / "whole", *options)
    dst, partial = tmp_path / "cut", tmp_path / "cut.partial"
    count = len(hf_entries(CFG))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(dst), str(count - 6)],
        env={**os.environ, "PYTHONPATH": ROOT, "XLA_FLAGS": ""},
    )
    assert killed.returncode == -signal.SIGKILL and not dst.exists()
    journal = partial / "journal.jsonl"
    finished = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert len(finished) >= 3
    kept, broken, torn = (next(iter(line["files"])) for line in (finished[0], finished[1], finished[2]))
    inode = (partial / kept).stat().st_ino
    body = bytearray((partial / broken).read_bytes())
    body[-1] ^= 1  # the disk lied about one, and another was lost
    (partial / broken).write_bytes(body)
    (partial / torn).unlink()
    journal.write_text(journal.read_text()[:-20])  # the last note is torn
    # The same folder for another job is refused, and nothing of it is touched.
    with pytest.raises(InputError, match="another conversion: max_shard_bytes differs"):
        run("to-hf", source, dst, "--resume", "--dtype", "bfloat16", "--max-shard-size", "50KB")
    run("to-hf", source, dst, "--resume", *options)
    one, two = files(tmp_path / "whole"), files(dst)
    assert one == two and not partial.exists()
    assert (dst / kept.removesuffix(".partial")).stat().st_ino == inode  # not written again
    assert (dst / broken.removesuffix(".partial")).read_bytes() != bytes(body)


def test_large_files_are_read_back_only_where_their_times_differ(tmp_path):
    bodies = {name: np.full(SYNC_BYTES, i, np.uint8).tobytes() for i, name in enumerate("abcd")}
    journal = Journal(tmp_path, {"kind": "test"})
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
        journal.add(name, {name: hashlib.sha256(body).hexdigest()}, [])
    stat = {name: (tmp_path / name).stat() for name in bodies}
    (tmp_path / "b").touch()  # copied by something that does not keep times
    (tmp_path / "c").write_bytes(bodies["a"])  # changed
    (tmp_path / "d").write_bytes(bodies["a"])  # changed behind the clock's back: not read, so it is believed
    os.utime(tmp_path / "d", ns=(stat["d"].st_atime_ns, stat["d"].st_mtime_ns))
    again = Journal(tmp_path, {"kind": "test"})
    assert list(again.done("abcd")) == ["a", "b", "d"]
    # Reading the folder back finds it, for what was noted is what was written; c would be written anew here.
    again.seal()
    with pytest.raises(WorkError, match=r"1 of 4 files.*: d"):
        check_files(tmp_path)


def test_journal_of_an_older_version_is_refused(tmp_path):
    line = {"unit": "a", "files": {}, "tensors": {}}
    (tmp_path / "journal.jsonl").write_text(f'{{"kind": "test"}}\n{json.dumps(line)}\n')
    with pytest.raises(InputError, match="another conversion: journal differs"):
        Journal(tmp_path, {"kind": "test"})


def test_resume_after_nothing_is_a_start(tmp_path, source):
    run("to-hf", source, tmp_path / "a", "--resume")
    run("to-hf", source, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_interrupt_keeps_what_is_finished(tmp_path, source):
    seen = []

    def stop(name, nbytes):
        seen.append(name)
        if len(seen) == 20:
            raise KeyboardInterrupt

    with open_model(source) as model:
        with pytest.raises(KeyboardInterrupt):
            to_hf(model, tmp_path / "d", HfOptions(max_shard_bytes=40_000), progress=stop)
        assert (tmp_path / "d.partial").is_dir()
        to_hf(model, tmp_path / "d", HfOptions(max_shard_bytes=40_000), resume=True)
        to_hf(model, tmp_path / "e", HfOptions(max_shard_bytes=40_000))
    assert files(tmp_path / "d") == files(tmp_path / "e")


def test_checksums_are_those_of_sha256sum(tmp_path, source):
    run("from-hf", source, tmp_path / "n")
    for folder in (source, tmp_path / "n"):
        listed = json.loads((folder / "checksums.json").read_text())["files"]
        assert set(listed) == set(files(folder)) - {"checksums.json"}
        name = max(listed, key=lambda n: (folder / n).stat().st_size)
        theirs = subprocess.run(["sha256sum", str(folder / name)], capture_output=True, text=True)
        assert theirs.stdout.split()[0] == listed[name]
        assert f"{len(listed)} files as written" in run("verify", folder)
    victim = tmp_path / "n" / "model.safetensors"
    victim.write_bytes(victim.read_bytes()[::-1])
    (tmp_path / "n" / "config.json").unlink()
    with pytest.raises(WorkError, match=r"2 of \d+ files.*config.json \(missing\)"):
        check_files(tmp_path / "n")


def test_weights_without_checksums_are_verified_by_their_digest(tmp_path, source):
    """`save_hf` of a program writes none: its bytes may still change."""
    cfg, params = load_hf(source)
    for name, scale in (("n", 1), ("m", 2)):
        save_hf(params.replace(final_norm=params.final_norm * scale), cfg, tmp_path / name)
        (tmp_path / name / "checksums.json").unlink()
    assert f"{len(hf_entries(CFG))} tensors as written" in run("verify", tmp_path / "n")
    (tmp_path / "m" / "xlam.json").write_bytes((tmp_path / "n" / "xlam.json").read_bytes())
    with pytest.raises(WorkError, match=r"not those of xlam\.json"):
        run("verify", tmp_path / "m")


def test_a_checkpoint_streams_the_same_bytes(tmp_path, source):
    cfg, params = load_hf(source)
    item = write_run(tmp_path / "run", params, cfg, codec=None)
    run("to-hf", tmp_path / "run", tmp_path / "hf", "--max-shard-size", "100KB")
    assert weights_of(tmp_path / "hf") == weights_of(source)
    name = "model.layers.1.block_sparse_moe.experts.3.w2.weight"
    cut = (slice(3, 9), slice(2, 5))
    tensors = ItemTensors(item, cfg)
    np.testing.assert_array_equal(tensors.get(name, cut), TensorFolder(source).get(name, cut))


def test_a_mesh_reads_every_byte_once(source):
    cfg = load_hf(source)[0]
    tensors = TensorFolder(source)
    total = sum(info.nbytes for info in tensors.infos.values())
    load_tensors(tensors, cfg, mesh=make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
    assert tensors.bytes_read == total


HOST = """
import json, sys
import jax
import numpy as np
folder, port, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
from xlam_jax.errors import InputError
from xlam_jax.models.spec import params_from_state_dict
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.weights import read_config, save_hf
from xlam_jax.weights.hf_in import load_tensors
from xlam_jax.weights.safetensors_io import TensorFolder

cfg = read_config(folder)
tensors = TensorFolder(folder)
params = load_tensors(tensors, cfg, mesh=make_mesh(MeshConfig(fsdp=4, expert=2)))
read = tensors.bytes_read
plain = params_from_state_dict({n: tensors.get(n) for n in tensors.infos}, cfg)
def check(placed, whole):
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, whole[shard.index])
jax.tree.map(check, params, plain)
try:
    save_hf(params, cfg, folder + f"-out-{index}")
    said = ""
except InputError as e:
    said = str(e)
print(json.dumps({"read": read, "said": said}))
"""


@pytest.mark.slow
def test_two_hosts_read_half_each(source):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": ROOT, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(source), str(port), str(i)],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    found = [json.loads(h.communicate(timeout=300)[0].splitlines()[-1]) for h in hosts]
    infos = TensorFolder(source).infos.values()
    total = sum(info.nbytes for info in infos)
    # Norms and routers stand on every device.
    shared = sum(i.nbytes for i in infos if min(i.shape) <= 4 or len(i.shape) == 1)
    assert [f["read"] for f in found] == pytest.approx([(total + shared) / 2] * 2, rel=0.05)
    assert all("several processes" in f["said"] and "xlam convert to-hf" in f["said"] for f in found)


def test_vocabulary_is_cut_where_no_token_is(tmp_path):
    cfg = named_config("tiny-llama")
    params = tiny.params(cfg.replace(initializer_range=0.3), 1)
    write_tokenizer(tmp_path / "t", size=100)
    save_hf(params, cfg, tmp_path / "a", tokenizer=tmp_path / "t")
    run("to-hf", tmp_path / "a", tmp_path / "same")
    assert weights_of(tmp_path / "same") == weights_of(
        tmp_path / "a"
    )  # more rows than tokens stay as they are
    run("to-hf", tmp_path / "a", tmp_path / "cut", "--vocab-size", "100", "--verify")
    np.testing.assert_array_equal(folder_logits(tmp_path / "cut"), folder_logits(tmp_path / "a")[..., :100])
    with pytest.raises(InputError, match=r"(?s)ids go up to 99.*at least 100"):
        run("to-hf", tmp_path / "a", tmp_path / "no", "--vocab-size", "99")
    save_hf(params, cfg, tmp_path / "bare")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        run("to-hf", tmp_path / "bare", tmp_path / "no", "--vocab-size", "100")
    edit_config(tmp_path / "a", eos_token_id=[2, 200])
    with pytest.raises(InputError, match="at least 201"):
        run("to-hf", tmp_path / "a", tmp_path / "no", "--vocab-size", "150")
    (tmp_path / "a/generation_config.json").write_text('{"pad_token_id": 220, "eos_token_id": 2}')
    with pytest.raises(InputError, match="at least 221"):
        run("to-hf", tmp_path / "a", tmp_path / "no", "--vocab-size", "210")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-tied"])
def test_padded_rows_are_never_a_first_choice(tmp_path, name):
    cfg = named_config(name)
    params = tiny.params(cfg.replace(initializer_range=0.3), 1)
    save_hf(params, cfg, tmp_path / "a")
    run("to-hf", tmp_path / "a", tmp_path / "wide", "--vocab-size", "320", "--verify")
    wide = folder_logits(tmp_path / "wide")
    np.testing.assert_allclose(wide[..., :256], our_logits(params, cfg), atol=1e-4)
    assert wide.shape[-1] == 320 and (wide.argmax(-1) < 256).all()
    assert load_hf(tmp_path / "wide")[1].embed.shape == (320, 64)
