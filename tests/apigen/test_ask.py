"""Questions by a language model on tools of one's own, from their files to verified rows, as typed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.apigen.own_tools import DOCUMENT, MCP, SHOP, invoke
from tests.apigen.scripted import scripted
from tests.apigen.walled import require_walls
from tests.records.chat_server import ChatServer
from xlam_jax.apigen.api import read_library
from xlam_jax.apigen.ask import read_pairs
from xlam_jax.apigen.semantic import verdict
from xlam_jax.format.record import read_records


@pytest.fixture
def library(tmp_path):
    require_walls()
    (tmp_path / "api.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "time.json").write_text(json.dumps(MCP))
    invoke(
        *(
            "apigen",
            "library",
            "build",
            f"python={SHOP}",
            f"openapi={tmp_path}/api.json",
            f"mcp={tmp_path}/time.json",
        ),
        *("--out", tmp_path / "library"),
    )
    return tmp_path / "library"


def config(tmp_path, library, url, *more):
    text = f"""
library: {library}
out: {tmp_path}/rows
rows: 30
heldout_rows: 0
attempts: 12
limits: {{seconds: 1.0}}
ask:
  generator: {{base_url: {url}, model: writer}}
  judge: {{base_url: {url}, model: judge}}
  pairs: 3
  license: CC0-1.0
"""
    path = tmp_path / "apigen.yaml"
    path.write_text(text)
    return ["apigen", "run", path, *more]


def test_from_files_to_verified_rows(tmp_path, library):
    assert len(read_library(library)) == 9
    shown = json.loads((library / "library.json").read_text())
    assert shown["refused"] == {
        "not_json": 2,
        "no_parameters": 4,
        "not_called_by_name": 2,
        "no_description": 1,
    }
    assert "9" in invoke("apigen", "library", "stats", library)
    assert "shop/price" in re.sub(r"\s", "", invoke("apigen", "library", "show", library, "--name", "shop/p"))
    with ChatServer(scripted, faults=(429, 500)) as server:
        invoke(
            *config(
                tmp_path,
                library,
                server.url,
                "ask.generator.price=[2,10]",
                "--json",
                tmp_path / "report.json",
            )
        )
    report = json.loads((tmp_path / "report.json").read_text())
    rows = list(read_records(tmp_path / "rows/train.jsonl"))
    assert len(rows) == 30 and len({r.query for r in rows}) == 30
    (made,) = report["yields"]
    failed = [json.loads(line) for line in (tmp_path / "rows/rejected.jsonl").read_text().splitlines()]
    assert made["verified"] >= 30
    assert made["pairs"] == made["verified"] + len(failed)
    assert made["pairs"] == sum(
        made[k] for k in ("verified", "fail_format", "fail_execution", "fail_semantic", "duplicates")
    )
    reasons = Counter(f"{f['stage']}/{f['reason']}" for f in failed)
    assert reasons == report["reasons"]
    assert {"format/bad_json", "format/undefined_argument", "semantic/judged_wrong"} <= set(reasons)
    assert {"python", "mock"} == set(report["executors"])
    for row in rows:
        assert row.license == "CC0-1.0" and not row.query.endswith("3")
        assert "check:semantic" in row.lineage and row.lineage[0].startswith("style:")
    writer, judge = report["costs"]
    asked = [r for r in server.requests if r["model"] == "writer"][2:]  # two of them were refused
    assert writer["prompt_tokens"] == sum(len(str(r["messages"]).split()) for r in asked)
    assert (
        writer["price"]
        == round((2 * writer["prompt_tokens"] + 10 * writer["completion_tokens"]) / 1e6, 4)
        > 0
    )
    assert judge["price"] == 0 and judge["requests"] > 0
    # Later requests show what passed before.
    prompts = [r["messages"][-1]["content"] for r in server.requests if r["model"] == "writer"]
    assert "as examples" not in prompts[0] and any("as examples" in p for p in prompts)


def test_a_kill_costs_only_what_was_not_answered(tmp_path, library):
    with ChatServer(scripted) as server:
        invoke(*config(tmp_path, library, server.url))
        whole = {
            p: (tmp_path / "rows" / p).read_bytes() for p in ("train.jsonl", "rejected.jsonl", "ledger.jsonl")
        }
        asked = len(server.requests)
    other = tmp_path / "other"
    other.mkdir()
    with ChatServer(scripted, delay=0.05) as server:
        words = [str(w) for w in config(other, library, server.url, "ask.generator.concurrency=1")]
        words = [sys.executable, "-m", "xlam_jax.cli.main", *words]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.requests) < 7:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (other / "rows/train.jsonl").exists()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        assert len(server.requests) <= asked + 2
    assert {p: (other / "rows" / p).read_bytes() for p in whole} == whole


def test_an_endpoint_that_is_not_there(tmp_path, library):
    text = invoke(*config(tmp_path, library, "http://127.0.0.1:9/v1", "ask.generator.retries=0"), code=1)
    assert "the generator answers nothing" in re.sub(r"\s+", " ", text)


def test_without_a_judge_values_have_to_stand_in_the_query(tmp_path, library):
    with ChatServer(scripted) as server:
        invoke(*config(tmp_path, library, server.url, "ask.judge=null", "rows=6"))
    rows = list(read_records(tmp_path / "rows/train.jsonl"))
    assert all("check:grounding-rule" in r.lineage and "check:semantic" not in r.lineage for r in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("apigen", "library", "build", "shop.py", "--out", "x"), "python=FILE.py"),
        (("apigen", "library", "build", "pyton=shop.py", "--out", "x"), "python"),
        (("apigen", "library", "build", "python=nothing.py", "--out", "x"), "no such Python file"),
        (("apigen", "library", "build", "openapi=nothing.json", "--out", "x"), "cannot be read"),
        (("apigen", "library", "build", f"openapi={SHOP}", "--out", "x"), "neither JSON nor YAML"),
        (("apigen", "library", "build", f"mcp={SHOP}", "--out", "x"), "not JSON"),
        (("apigen", "library", "stats", "nowhere"), "library build"),
        (
            ("apigen", "library", "build", f"python={SHOP}", "--out", "x", "--sandbox", "bublewrap"),
            "bubblewrap",
        ),
    ],
)
def test_bad_input(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in re.sub(r"\s+", " ", invoke(*words, code=2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"pairs": [{"query": "q", "answers": [{"name": "f", "arguments": {"x": 1}}]}]}', 1),
        ('<think>{"pairs": []}</think>[{"query": "q", "answers": []}]', 1),
        ('```json\n{"query": "q", "answers": [{"name": "f", "arguments": "{\\"x\\": 1}"}]}\n```', 1),
        ('{"pairs": [{"query": "q", "answers": "f(1)"}, {"answers": []}, {"query": "q", "answers": ["f"]}]}', 0),
        ('{"pairs": [{"query": "q \\ud800", "answers": []}]}', 0),
        ('{"pairs": [{"query": "q", "answers": [{"name": "f", "arguments": {"x": NaN}}]}]}', 0),
        ("no", 0), ("{" * 5000, 0), ("[" * 50000, 0), ("", 0), ('{"pairs": 5}', 0),
    ],
)  # fmt: skip
def test_what_models_answer_is_read(text, good):
    found = read_pairs(text)
    assert sum(not isinstance(p, str) for p in found) == good and found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"thought": "a", "pass": "yes"}', None), ('so: {"passes": true}', None), ('{"pass": "No"}', "judged_wrong"),
        ("maybe", "judge_unreadable"), ('{"pass": "perhaps"}', "judge_unreadable"), ("{" * 4000, "judge_unreadable"),
    ],
)  # fmt: skip
def test_verdicts_are_read(text, reason):
    fault = verdict(text)
    assert (fault.reason if fault else None) == reason
