"""Bad input of every kind: one clear screen, exit status 2, and nothing half-written."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests import tiny_run

from .conftest import REPO

RECORD = {
    "id": "r1",
    "query": "How about 3?",
    "tools": [{"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}],
    "steps": [{"tool_calls": [{"name": "f", "arguments": {}}]}],
}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def left_behind(folder):
    return sorted(p.name for p in folder.iterdir() if "out" in p.name)


@pytest.fixture
def place(world, tmp_path, at):
    at(world)
    return tmp_path


def test_unknown_config_key_names_the_nearest(place, xlam):
    got = xlam("train", "configs/demo/sft.yaml", "optim.learning_rat=1e-4", f"out={place / 'out'}")
    assert got.code == 2
    assert "unknown key 'optim.learning_rat'" in got.err and "configs/demo/sft.yaml" in got.err
    got = xlam("train", "configs/demo/sft.yaml", "max_minute=1", f"out={place / 'out'}")
    assert got.code == 2 and "try: max_minutes" in got.err
    assert left_behind(place) == []


@pytest.mark.parametrize(
    "args",
    [
        ("train", "configs/demo/sfd.yaml"),
        ("data", "show", "nowhere.jsonl"),
        ("data", "build", "nowhere.yaml"),
        ("apigen", "run", "nowhere.yaml"),
        ("convert", "from-hf", "nowhere", "out"),
        ("convert", "to-hf", "nowhere", "out"),
        ("eval", "records", "nowhere.jsonl", "--model", "runs/demo/model"),
        ("call", "hello", "--tools", "nowhere.json", "--model", "runs/demo/model"),
        ("call", "hello", "--tools", "configs/demo/tools.json", "--model", "nowhere"),
    ],
)
def test_missing_file(place, xlam, args):
    got = xlam(*args)
    assert got.code == 2
    assert any(part in got.err for part in ("nowhere", "sfd.yaml"))
    assert "Traceback" not in got.err


def test_missing_config_names_a_near_one(place, xlam):
    assert "configs/demo/sft.yaml" in xlam("train", "configs/demo/sfd.yaml").err


def test_tokenizer_without_the_stop_token(place, xlam):
    tokenizer = tiny_run.make_tokenizer(place / "tokenizer", specials=("<|endoftext|>", "<|im_start|>"))
    source = lines(place / "in.jsonl", RECORD)
    got = xlam(
        *("data", "build", "configs/demo/data.yaml", f"inputs=[{source}]"),
        *(f"tokenizer={tokenizer}", f"out={place / 'out'}"),
    )
    assert got.code == 2 and "<|im_end|>" in got.err
    assert left_behind(place) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"qurey": "x"}, ["qurey", "query"]), ({"query": 7}, ["query"]), ({"steps": "none"}, ["steps"])],
)
def test_bad_record_names_its_line(place, xlam, change, words):
    source = lines(place / "in.jsonl", RECORD, {**RECORD, "id": "r2", **change})
    tokenizer = tiny_run.make_tokenizer(place / "tokenizer")
    build = ("data", "build", "configs/demo/data.yaml", f"inputs=[{source}]", f"tokenizer={tokenizer}")
    for args in (("data", "show", source), (*build, f"out={place / 'out'}")):
        got = xlam(*args)
        assert got.code == 2 and f"{source}:2" in got.err.replace(" ", "")
        assert all(word in got.err for word in words)
    assert left_behind(place) == []


def test_every_row_too_long(place, xlam, world):
    source = lines(place / "in.jsonl", RECORD)
    got = xlam(
        *("data", "build", "configs/demo/data.yaml", f"inputs=[{source}]", "seq_len=16"),
        *(f"tokenizer={world / 'tokenizer'}", f"out={place / 'out'}"),
    )
    assert got.code == 2 and "too_long" in got.err
    assert not (place / "out").exists()


def test_truncated_safetensors(place, xlam, world):
    broken = shutil.copytree(world / "runs/demo/model", place / "broken")
    (weights,) = broken.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    got = xlam("convert", "from-hf", broken, place / "out")
    assert got.code == 2 and weights.name in got.err
    assert left_behind(place) == []


def test_checkpoint_of_another_model(place, xlam, world):
    other = shutil.copytree(world / "runs/demo/model", place / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    got = xlam("convert", "from-hf", other, place / "out")
    assert got.code == 2 and "shape" in got.err
    assert left_behind(place) == []


def test_full_disk(place, world):
    # A limit on file size is what a full disk looks like to a process that runs as root anywhere.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from xlam_jax.cli.main import main; main()"
    )
    args = ["convert", "to-hf", str(world / "runs/demo/model"), str(place / "out")]
    # Nor may it cut off the package's bytecode, which every later process would fail on.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    got = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=REPO, env=env
    )
    assert got.returncode == 4, got.stderr
    assert "Traceback" not in got.stderr and "error:" in got.stderr
    assert left_behind(place) == []


@pytest.mark.parametrize(
    "words",
    [
        ("data", "convert", "openai", "{rows}", "{out}"),
        ("data", "verify", "{rows}", "{out}"),
        ("data", "augment", "{rows}", "{out}"),
        ("data", "pairs", "{rows}", "{out}", "--corruptions", "all"),
        ("data", "show", "{rows}", "--html", "{out}"),
    ],
    ids=lambda words: words[1],
)
def test_an_output_never_replaces_its_input_or_a_folder(words, place, xlam):
    rows = lines(place / "rows.jsonl", RECORD)
    before = rows.read_bytes()
    (place / "folder.jsonl").mkdir()
    for out, said in ((rows, "OUT is the same file as IN"), (place / "folder.jsonl", "OUT is a folder")):
        got = xlam(*(word.format(rows=rows, out=out) for word in words))
        assert got.code == 2 and said in got.err
    assert rows.read_bytes() == before and not list((place / "folder.jsonl").iterdir())
    assert sorted(p.name for p in place.iterdir()) == ["folder.jsonl", "rows.jsonl"]
