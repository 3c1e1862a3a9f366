"""The how-tos and the README's tour are run as typed, on tiny models."""

import json
import os
import re
import shutil

import pytest

from tests import tiny_run
from tests.apigen.scripted import scripted
from tests.apigen.walled import require_walls
from tests.cli.test_help import BFCL_ANSWER, BFCL_QUESTION
from tests.pages import PAGES, REPO, TOP, commands_of, words
from tests.records.chat_server import ChatServer
from xlam_jax.apigen.run import RunConfig
from xlam_jax.apigen.run import run as make_samples
from xlam_jax.config import load_config
from xlam_jax.training.config import TrainConfig
from xlam_jax.training.loop import train

# What is not typed, and why; each must still stand on its page.
NOT_TYPED = {
    "README.md": {
        "xlam call ": "a random model makes no call; test_help.py asks one with real weights",
        "xlam data build configs/xlam-7b-r/data.yaml": "its data sets belong to their owners; "
        "tests/shards/test_model_recipes.py builds it from small ones",
        "xlam plan --model mixtral-8x7b --gpus 32": "docs/plan-and-bench.md has it for 8, at half the time",
        "xlam bench train --profile": "minutes of a real model; the how-to has a small one",
    },
}
DEVICES = os.environ["XLA_FLAGS"]
# Names in capitals stand for what a person has.
PLACEHOLDERS = {"BFCL_FOLDER": "data/bfcl_v2"}


@pytest.fixture(scope="module")
def demo(world, tmp_path_factory):
    """configs/ and runs/demo as `make demo` leaves them, with less data and a tiny model."""
    root = tmp_path_factory.mktemp("demo")
    shutil.copytree(world / "configs", root / "configs")
    shutil.copytree(world / "runs/demo", root / "runs/demo")
    recipe = root / "configs/demo/apigen.yaml"
    fewer = re.sub(
        r"^(rows|heldout_rows): \d+",
        lambda m: f"{m[1]}: {8 if m[1] == 'rows' else 4}",
        recipe.read_text(),
        flags=re.M,
    )
    recipe.write_text(fewer)
    data = root / "runs/demo/data"
    make_samples(load_config(RunConfig, recipe), data)
    shards = tiny_run.make_data(root / "runs/demo/shards", root / "runs/demo/base", count=8, seq_len=320)
    changes = [f"model={root}/runs/demo/base", f"data.train={shards}", f"out={root}/runs/demo/run", "steps=1"]
    train(load_config(TrainConfig, root / "configs/demo/sft.yaml", changes))
    answers = root / "data/bfcl_v2/possible_answer"
    answers.mkdir(parents=True)
    (answers.parent / "BFCL_v2_simple.json").write_text(json.dumps(BFCL_QUESTION) + "\n")
    (answers / "BFCL_v2_simple.json").write_text(json.dumps(BFCL_ANSWER) + "\n")
    return root


# Their commands compile for a quarter to half a minute each; other tests have most of them in small.
LONG = ("ablations.md", "release.md", "launch.md", "plan-and-bench.md", "preferences.md", "adapters.md")
READ = [n for n in PAGES if n.removesuffix(".md") not in (*TOP[1:], "add-a-source", "your-own-tools")]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in READ], ids=str
)
def test_commands_of_a_page_work_as_typed(name, demo, xlam, at, tmp_path, monkeypatch):
    if name == "evaluate.md":
        pytest.importorskip(
            "bfcl_eval", reason="bfcl-eval is not installed (pip install --no-deps bfcl-eval)"
        )
        require_walls()
    root = tmp_path / "work"
    shutil.copytree(demo, root)
    at(root)
    left_out, typed = set(), 0
    for line in commands_of(name):
        if why := [start for start in NOT_TYPED.get(name, {}) if line.startswith(start)]:
            left_out.update(why)
            continue
        command = words(line)
        # What stands before the command is in the tests' environment (eight fake devices), which the processes of a
        # launch would have each: they get one, as a reader's would.
        command = [PLACEHOLDERS.get(w, w) for w in command[command.index("xlam") + 1 :]]
        flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
        monkeypatch.setenv("XLA_FLAGS", flags if command[:2] == ["launch", "local"] else DEVICES)
        got = xlam(*command)
        assert got.code == 0, f"{line}\n{got.out[-500:]}\n{got.err}"
        typed += 1
    assert typed >= 4
    assert left_out == set(NOT_TYPED.get(name, {})), "a line that is left out is no longer there"


def test_the_source_of_the_how_to_is_added_as_it_says(xlam, at, tmp_path):
    from xlam_jax.format.record import read_records

    page = PAGES["add-a-source.md"]
    (row,) = re.findall(r"```json\n(.*?)\n```", page, re.S)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (command,) = re.findall(r"`(xlam data convert --source [^`]+)`", page)
    at(tmp_path)
    (tmp_path / "my_set.py").write_text(code)
    refused = json.dumps({**json.loads(row), "uid": "q8", "plan": "weather"})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n{refused}\n")
    got = xlam(*words(command)[1:])
    assert got.code == 0, got.err
    (record,) = read_records(tmp_path / "records.jsonl")
    assert record.query == "Weather in Oslo?" and record.source == "my-set" and record.license == "MIT"
    assert [c.name for s in record.steps for c in s.tool_calls] == ["weather"]
    assert record.steps[0].tool_calls[0].arguments == {"city": "Oslo"}
    assert "bad_call" in got.out


def test_tools_of_ones_own_become_rows_as_it_says(demo, xlam, at, tmp_path):
    require_walls()
    page = PAGES["your-own-tools.md"]
    root = tmp_path / "work"
    shutil.copytree(demo, root)
    at(root)
    blocks = re.findall(r"^```(python|json|yaml)\n(.*?)^```", page, re.M | re.S)
    files = dict(zip(("shop.py", "orders.json", "tools.json", "apigen.yaml"), blocks, strict=True))
    assert all(f"`{name}`" in page for name in files)
    with ChatServer(scripted) as server:
        for name, (_, text) in files.items():
            (root / name).write_text(text.replace("http://localhost:8000/v1", server.url))
        for line in commands_of("your-own-tools.md"):
            got = xlam(*words(line)[1:])
            assert got.code == 0, f"{line}\n{got.out[-500:]}\n{got.err}"
    assert len((root / "runs/own/train.jsonl").read_text().splitlines()) == 12
    assert json.loads((root / "runs/library/library.json").read_text())["apis"] == 4
    assert json.loads((root / "runs/own-shards/manifest.json").read_text())


def test_how_tos_are_all_read_by_these_tests():
    assert {p.name for p in (REPO / "docs").iterdir()} | {f"{name}.md" for name in TOP} == set(PAGES)
