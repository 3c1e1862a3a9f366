"""Damaged weights and bad values through the command: one screen, exit 2, and nothing left behind."""

import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.numpy
from run_folders import write_run
from tiny_hf import edit_config, files

from tests import tiny
from tests.cases import case
from xlam_jax.cli.main import main
from xlam_jax.errors import WorkError
from xlam_jax.files import check_free, whole_folder
from xlam_jax.lease import Lease, lease_of
from xlam_jax.models.config import RopeScaling
from xlam_jax.models.named import named_config
from xlam_jax.weights import intact, save_hf
from xlam_jax.weights.safetensors_io import INDEX, SINGLE
from xlam_jax.weights.tensors import check_finite

CFG = named_config("tiny-llama")
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def xlam(monkeypatch, capsys):
    """Types a command; returns its exit status and the lines that it printed."""

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["xlam", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        return end.value.code or 0, [line for line in lines if line]  # a progress bar that went leaves one

    return typed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A Hugging Face folder in three shards and a run whose checkpoint is the same model, sealed as training does."""
    folder = tmp_path_factory.mktemp("whole")
    save_hf(tiny.params(CFG), CFG, folder / "hf", max_shard_bytes=150_000)
    write_run(folder / "run", tiny.params(CFG), CFG, codec=None)
    intact.seal(folder / "run/checkpoints/1")
    return folder


@pytest.fixture
def hf(whole, tmp_path):
    return shutil.copytree(whole / "hf", tmp_path / "hf")


def refused(xlam, src, *options, kinds=("from-hf", "to-hf"), words=()):
    """The lines of a command that must refuse `src`, as every command does."""
    around = sorted(src.parent.iterdir())
    for kind in kinds:
        code, lines = xlam("convert", kind, src, src.parent / "out", *options)
        assert code == 2 and 2 <= len(lines) <= 3 and lines[0].startswith("error: "), lines
        assert all(len(line) < 400 for line in lines) and lines[1].startswith("  where: ")
        assert all(word in "\n".join(lines) for word in words), lines
        assert sorted(src.parent.iterdir()) == around  # no folder, no part of one, no lease
    return lines


BAD_VALUES = [
    ({"hidden_size": "64"}, "hidden_size must be a positive integer, found '64'"),
    ({"hidden_size": 64.0}, "found 64.0"),
    ({"hidden_size": True}, "found True"),
    ({"hidden_size": -64}, "found -64"),
    ({"num_attention_heads": 0}, "num_attention_heads must be a positive integer, found 0"),
    ({"num_attention_heads": 3}, "num_attention_heads (3) must be a multiple of num_key_value_heads (2)"),
    ({"num_key_value_heads": 0}, "num_key_value_heads"),
    ({"num_hidden_layers": 10_000_000}, "10000000 layers, which make 90000003 tensors; there are 21"),
    ({"num_hidden_layers": 3}, "9 missing"),
    ({"vocab_size": 10**12}, "(256, 64), not (1000000000000, 64)"),
    ({"head_dim": 15}, "even"),
    ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a number of 0 or more, found '1e-5'"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a number of 0 or more, found nan"),
    ({"rope_parameters": "linear"}, "rope_parameters must be an object, found 'linear'"),
    ({"rope_scaling": ["linear", 4]}, "rope_scaling must be an object"),
    ({"rope_scaling": {"type": "linear", "factor": "4"}}, "rope_scaling.factor must be a positive number, found '4'"),
    ({"rope_scaling": {"type": "linear", "factor": 0}}, "found 0"),
    ({"rope_scaling": {"type": ["yarn"]}}, "rope_scaling.type must be a text"),
    ({"rope_theta": 0}, "rope_theta must be a positive number"),
    ({"eos_token_id": "</s>"}, "eos_token_id must be a token id or a list of them, found '</s>'"),
    ({"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false, found 'false'"),
    ({"model_type": ["llama"]}, "model_type ['llama'] is not supported"),
    ({"architectures": "x" * 10_000, "hidden_act": "y" * 10_000}, "hidden_act"),
]  # fmt: skip


def test_bad_values_of_config_json(hf, xlam):
    values = json.loads((hf / "config.json").read_text())
    for change, word in BAD_VALUES:
        with case(change):
            (hf / "config.json").write_text(json.dumps(values | change))
            refused(
                xlam, hf, words=[word, "config.json" if "layers" not in word else ""][: 1 + ("must" in word)]
            )


def test_ten_million_layers_of_a_run(whole, tmp_path, xlam):
    run = shutil.copytree(whole / "run", tmp_path / "run")
    edit_config(run, num_hidden_layers=10_000_000)
    refused(xlam, run, kinds=["to-hf"], words=["do not fit config.json"])


def test_bad_files(hf, xlam):
    for name, text, word in (
        ("tokenizer.json", "", "not readable as a tokenizer"),
        ("tokenizer.json", "{}", "not readable as a tokenizer"),
        ("config.json", "", "not JSON"),
        ("config.json", "[]", "no JSON object"),
        (INDEX, '{"weight_map": []}', "not a safetensors index"),
        ("generation_config.json", '{"eos_token_id": 256}', "the answer would end at token 256"),
        ("generation_config.json", '{"temperature": NaN}', "NaN or Infinity"),
        ("xlam.json", "[]", "no JSON object"),
    ):
        old = (hf / name).read_bytes() if (hf / name).is_file() else None
        with case((name, text)):
            (hf / name).write_text(text)
            refused(xlam, hf, words=[word, str(hf) if "id" not in text else name])
        (hf / name).unlink() if old is None else (hf / name).write_bytes(old)


def tensors_of(folder):
    return {
        k: v for f in sorted(folder.glob("*.safetensors")) for k, v in safetensors.numpy.load_file(f).items()
    }


def rewrite(folder, change):
    """The same tensors in one file, after `change(arrays)`; no digest of the former ones."""
    arrays = tensors_of(folder)
    for file in (
        *folder.glob("*.safetensors"),
        folder / INDEX,
        folder / "xlam.json",
        folder / "checksums.json",
    ):
        file.unlink(missing_ok=True)
    change(arrays)
    safetensors.numpy.save_file(arrays, folder / SINGLE, metadata={"format": "pt"})


def test_bad_tensors(hf, xlam):
    good = tensors_of(hf)

    def put(value, dtype=np.float32):
        def change(arrays):
            arrays |= good
            arrays[UP] = good[UP].astype(dtype)
            if value is not None:
                arrays[UP][-1, -1] = value

        rewrite(hf, change)

    for value in (np.nan, np.inf, -np.inf):
        put(value)
        refused(xlam, hf, words=[UP, "NaN or infinity in float32"])
    put(70_000.0)
    refused(xlam, hf, "--dtype", "float16", words=[UP, "NaN or infinity in float16", "--dtype bfloat16"])
    put(None, np.float64)
    refused(xlam, hf, words=[UP, "float64", "--dtype float32"])
    for kind in ("from-hf", "to-hf"):
        assert xlam("convert", kind, hf, hf.parent / kind, "--dtype", "float32")[0] == 0
    edit_config(hf, tie_word_embeddings=True)
    put(None)
    refused(xlam, hf, words=["lm_head.weight", "tie_word_embeddings"])


def test_files_that_do_not_belong_together(hf, xlam):
    shards = sorted(hf.glob("model-*.safetensors"))
    arrays = safetensors.numpy.load_file(shards[0])
    safetensors.numpy.save_file(arrays, hf / SINGLE)
    refused(xlam, hf, words=[SINGLE, INDEX, "transformers reads the former"])
    (hf / SINGLE).unlink()
    index = (hf / INDEX).rename(hf / "index")
    refused(xlam, hf, words=["3 safetensors files and no " + INDEX])
    index.rename(hf / INDEX)
    name = next(iter(arrays))
    other = safetensors.numpy.load_file(shards[-1])
    safetensors.numpy.save_file(other | {name: arrays[name]}, shards[-1])
    refused(xlam, hf, words=[f"{name!r} stands in two files", shards[0].name, shards[-1].name])


def flip(path, at=-5):
    body = bytearray(path.read_bytes())
    body[at] ^= 1
    path.write_bytes(body)


def test_a_flipped_byte_of_a_source_is_noticed(whole, hf, tmp_path, xlam):
    run = shutil.copytree(whole / "run", tmp_path / "run")
    assert xlam("convert", "to-hf", run, tmp_path / "good", "--dtype", "bfloat16")[0] == 0
    shutil.rmtree(tmp_path / "good")
    chunk = max(
        (f for f in (run / "checkpoints/1/params").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size
    )
    flip(chunk, at=chunk.stat().st_size // 2)
    for options in ([], ["--dtype", "bfloat16"], ["--vocab-size", "300"]):
        refused(xlam, run, *options, kinds=["to-hf"], words=[chunk.name, "not what was written"])
    shard = sorted(hf.glob("*.safetensors"))[1]
    flip(shard)
    refused(xlam, hf, words=[shard.name])
    (hf / "checksums.json").unlink()
    refused(xlam, hf, words=["weights_xxh3_128", "xlam.json"])


def test_two_writers_on_one_destination(hf, tmp_path, xlam):
    dst = tmp_path / "out"
    with Lease(lease_of(dst), "destination"):
        for kind in ("from-hf", "to-hf"):
            code, lines = xlam("convert", kind, hf, dst)
            assert code == 1 and "another process works in this destination" in lines[0]
        assert not dst.exists() and not list(tmp_path.glob("*.partial"))
    assert xlam("convert", "to-hf", hf, dst)[0] == 0
    assert files(dst)[SINGLE] and not lease_of(dst).exists()


def test_what_another_finished_meanwhile_is_not_replaced(tmp_path):
    """The command looked at the destination when it began; the other process let it go before the lease was taken."""
    check_free(tmp_path / "out", overwrite=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model").write_text("the other's")
    with (
        pytest.raises(WorkError, match="finished this destination meanwhile"),
        whole_folder(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "out/model").read_text() == "the other's"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_finite_is_what_numpy_says(dtype):
    """Every bit pattern of two bytes; of four the largest and the smallest of each kind."""
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    bits = np.arange(2**16, dtype=np.uint16)
    if dtype == "float32":
        bits = (bits.astype(np.uint32) << 16) | np.where(bits % 2, 0xFFFF, 0).astype(np.uint32)
    for array in bits.view(kind)[::7]:
        one, right = np.full(3, array), bool(np.isfinite(np.float32(array)))
        try:
            check_finite("x", one)
            assert right
        except Exception:
            assert not right


def test_verify_notices_a_key_that_the_reader_ignores(tmp_path, xlam, monkeypatch):
    """Ours and the release agree on the wrong model; transformers on SRC does not."""
    from xlam_jax.models import hf_config

    cfg = named_config("tiny-llama").replace(rope_scaling=RopeScaling("linear", 4.0))
    save_hf(tiny.params(cfg.replace(initializer_range=0.3)), cfg, tmp_path / "hf")
    code, lines = xlam(
        "convert", "to-hf", tmp_path / "hf", tmp_path / "out", "--verify", "--dtype", "bfloat16"
    )
    assert code == 0 and sum("verified with transformers on " in line for line in lines) == 2
    write_run(tmp_path / "run", tiny.params(cfg.replace(initializer_range=0.3)), cfg, codec=None)
    monkeypatch.setattr(hf_config, "rope_from_hf", lambda v, values, where: (10_000.0, None))
    for src in ("hf", "run"):  # a run's config.json may be edited too
        code, lines = xlam("convert", "to-hf", tmp_path / src, tmp_path / f"{src}-2", "--verify")
        assert code == 1 and "disagree" in lines[0] and lines[1].endswith(str(tmp_path / src)), lines
        assert not list(tmp_path.glob(f"{src}-2*"))
    before = files(tmp_path / "out")
    code, _ = xlam("convert", "to-hf", tmp_path / "hf", tmp_path / "out", "--verify", "--overwrite")
    assert code == 1 and files(tmp_path / "out") == before
