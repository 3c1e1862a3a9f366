"""The safetensors reader and writer, against the safetensors library and transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from tiny_hf import write

from xlam_jax.errors import InputError
from xlam_jax.weights.safetensors_io import INDEX, SINGLE, TensorFolder, TensorInfo, write_folder


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "z.weight": rng.normal(size=(5, 7)).astype(np.float32),
        "a.weight": rng.normal(size=(3, 4)).astype(ml_dtypes.bfloat16),
        "model.layers.10.b": rng.normal(size=(2, 3, 4)).astype(np.float32),
        "model.layers.2.b": rng.normal(size=(9,)).astype(np.float16),
        'ü"quoted\\': rng.normal(size=(1,)).astype(np.float64),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }


def infos(arrays: dict[str, np.ndarray]) -> list[TensorInfo]:
    return [TensorInfo(name, a.shape, a.dtype) for name, a in arrays.items()]


def test_file_is_what_the_library_writes(tmp_path):
    arrays = tensors()
    write_folder(tmp_path, infos(arrays), arrays.__getitem__)
    safetensors.numpy.save_file(arrays, tmp_path / "reference", metadata={"format": "pt"})
    assert (tmp_path / SINGLE).read_bytes() == (tmp_path / "reference").read_bytes()
    assert (tmp_path / SINGLE).stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob("*.partial"))


def test_shards_hold_everything_once_and_respect_the_limit(tmp_path):
    arrays = {f"t{i}": np.full((10 + i,), i, np.float32) for i in range(20)}
    shards = write_folder(tmp_path, infos(arrays), arrays.__getitem__, max_shard_bytes=200)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in arrays.values())
    assert set(index["weight_map"]) == set(arrays) and set(index["weight_map"].values()) == set(shards)
    seen: dict[str, np.ndarray] = {}
    for file in shards:
        part = safetensors.numpy.load_file(tmp_path / file)
        assert sum(a.nbytes for a in part.values()) <= 200
        assert not set(part) & set(seen)
        seen |= part
    for name, array in arrays.items():
        np.testing.assert_array_equal(seen[name], array)


def test_export_of_fewer_shards_leaves_no_stale_ones(tmp_path):
    arrays = {f"t{i}": np.ones((10,), np.float32) for i in range(6)}
    write_folder(tmp_path, infos(arrays), arrays.__getitem__, max_shard_bytes=80)
    write_folder(tmp_path, infos(arrays), arrays.__getitem__)
    assert [p.name for p in tmp_path.iterdir()] == [SINGLE]


def test_reader_reads_what_transformers_sharded(tmp_path):
    model = write("llama", tmp_path, max_shard_size="10KB")
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    folder = TensorFolder(tmp_path)
    assert len(folder.shard_bytes) > 3
    assert {n: i.shape for n, i in folder.infos.items()} == {n: a.shape for n, a in state.items()}
    for name, array in state.items():
        cut = tuple(slice(1, max(2, n // 2)) for n in array.shape)
        np.testing.assert_array_equal(folder.get(name), array)
        np.testing.assert_array_equal(folder.get(name, cut), array[cut])


def expect(tmp_path: Path, *words: str) -> None:
    with pytest.raises(InputError) as found:
        TensorFolder(tmp_path)
    for word in words:
        assert word in str(found.value), str(found.value)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_file_is_named_with_both_sizes(tmp_path, keep):
    write("llama", tmp_path)
    path = tmp_path / SINGLE
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    expect(tmp_path, str(path), "truncated", f"{len(whole[:keep])} bytes")


def test_corrupt_header(tmp_path):
    (tmp_path / SINGLE).write_bytes((20).to_bytes(8, "little") + b"this is not a header")
    expect(tmp_path, "not readable", SINGLE)


def test_bad_indices(tmp_path):
    write("llama", tmp_path, max_shard_size="10KB")
    index = json.loads((tmp_path / INDEX).read_text())
    first, second = sorted(set(index["weight_map"].values()))[:2]
    (tmp_path / first).rename(tmp_path / "hidden")
    expect(tmp_path, first, "missing")
    (tmp_path / "hidden").rename(tmp_path / first)
    name = next(n for n, f in index["weight_map"].items() if f == first)
    index["weight_map"][name] = second
    (tmp_path / INDEX).write_text(json.dumps(index))
    expect(tmp_path, name, second, "does not hold it")
    for text in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../../etc/passwd"}}'):
        (tmp_path / INDEX).write_text(text)
        expect(tmp_path, "not a safetensors index")


def test_other_contents_are_told_apart(tmp_path):
    expect(tmp_path, "no safetensors weights")
    (tmp_path / "pytorch_model.bin").touch()
    expect(tmp_path, "torch pickles")
    (tmp_path / "adapter_model.safetensors").touch()
    expect(tmp_path, "LoRA adapter")
    safetensors.numpy.save_file({"q.weight": np.ones((2,), np.int8)}, tmp_path / SINGLE)
    expect(tmp_path, "q.weight", "I8", "quantisation")


def test_file_size_limit_leaves_nothing(tmp_path):
    """The kernel refuses a write in the middle of a tensor, as a full disk or a quota would."""
    code = """
import resource, sys
import numpy as np
from xlam_jax.errors import InputError
from xlam_jax.weights.safetensors_io import TensorInfo, write_folder
from xlam_jax.files import whole_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
array = np.ones(100_000, np.float32)
infos = [TensorInfo(f"t{i}", array.shape, array.dtype) for i in range(5)]
try:
    with whole_folder(sys.argv[1]) as folder:
        write_folder(folder, infos, lambda name: array)
except InputError as e:
    print(e)
"""
    repo = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": repo},
    )
    assert "the disk is full" in run.stdout, run.stderr
    assert list(tmp_path.iterdir()) == []


def test_failure_midway_keeps_the_earlier_file(tmp_path):
    arrays = {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)}
    write_folder(tmp_path, infos(arrays), arrays.__getitem__)
    before = (tmp_path / SINGLE).read_bytes()

    def broken(name):
        if name == "b":
            raise KeyError(name)
        return np.zeros(3, np.float32)

    with pytest.raises(KeyError):
        write_folder(tmp_path, infos(arrays), broken)
    assert [p.name for p in tmp_path.iterdir()] == [SINGLE]
    assert (tmp_path / SINGLE).read_bytes() == before
