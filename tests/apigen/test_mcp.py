"""Running MCP servers: their tools become a library, and calls of them end well or in a reason of their own."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.apigen.own_tools import invoke
from xlam_jax.apigen.api import read_library
from xlam_jax.apigen.executors import CallsConfig, Executors
from xlam_jax.apigen.sandbox import Sandbox
from xlam_jax.format.record import read_records

pytest.importorskip("mcp", reason="the MCP client is not installed: pip install 'xlam-jax[mcp]'")
DESK = Path(__file__).with_name("desk.py")
OURS = {"command": sys.executable, "args": [str(DESK)], "env": ["DESK_OWNER"]}


@pytest.fixture(autouse=True)
def owner(monkeypatch):
    monkeypatch.setenv("DESK_OWNER", "ann")


def build(tmp_path, servers, code=0):
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": servers}))
    return invoke(
        *(
            "apigen",
            "library",
            "build",
            f"mcp={tmp_path}/servers.json",
            "--out",
            tmp_path / "library",
            "--overwrite",
        ),
        code=code,
    )


@pytest.fixture
def library(tmp_path):
    build(tmp_path, {"desk": OURS})
    return tmp_path / "library"


def test_a_running_server_is_asked_for_its_tools(library):
    apis = {api.tool.name: api for api in read_library(library)}
    assert set(apis) == {"sum_up", "find_note", "wait", "letters", "leave"}
    assert apis["sum_up"].tool.parameters["required"] == ["a", "b"]
    text = (library / "apis.jsonl").read_text()
    assert "DESK_OWNER" in text and "ann" not in text


def test_calls_end_well_or_in_a_reason(library):
    apis = {api.tool.name: api for api in read_library(library)}
    calls = [
        ("sum_up", {"a": 2, "b": 3}), ("find_note", {"title": "plan"}), ("find_note", {"title": "nothing"}),
        ("sum_up", {"a": "two"}), ("wait", {"seconds": 60}), ("letters", {"count": 5000}),
        ("leave", {"status": 3}), ("sum_up", {"a": 1, "b": 1}),
    ]  # fmt: skip
    with Sandbox() as box:
        executors = Executors(
            box, CallsConfig(mcp=("desk",), mcp_seconds=6.0), result_bytes=2000
        )  # a busy machine answers late
        done = executors.run([(apis[name], arguments) for name, arguments in calls])
        executors.close()
    assert {d.executor for d in done} == {"mcp"}
    assert [d.outcome.status for d in done] == [
        "ok", "ok", "raised", "raised", "timeout", "too_large", "raised", "ok",
    ]  # fmt: skip
    assert done[0].outcome.value == 5
    assert done[1].outcome.value == {"title": "plan", "owner": "ann"}
    assert done[7].outcome.value == 2


def test_answers_that_were_kept_are_given_without_the_server(library, tmp_path):
    kept = tmp_path / "answers.jsonl"
    text = f"library: {library}\nout: {tmp_path}/{{}}\nrows: 12\nheldout_rows: 0\nattempts: 8\n"
    calls = f"calls: {{{{mcp: [desk], answers: {kept}{{}}}}}}\n"
    (tmp_path / "a.yaml").write_text(text.format("live") + calls.format(""))
    (tmp_path / "b.yaml").write_text(text.format("again") + calls.format(", offline: true"))
    invoke("apigen", "run", tmp_path / "a.yaml")
    lines = kept.read_text().splitlines()
    assert len({json.dumps([r["api"], r["arguments"]]) for r in map(json.loads, lines)}) == len(lines) > 5
    with kept.open("a") as file:
        file.write('{"api": "desk/su')  # a kill in the middle of a line
    apis = (library / "apis.jsonl").read_text()
    (library / "apis.jsonl").write_text(apis.replace(str(DESK), "/nowhere.py"))
    said = invoke("apigen", "run", tmp_path / "b.yaml")
    assert "replay" in said
    live, again = (list(read_records(tmp_path / name / "train.jsonl")) for name in ("live", "again"))
    assert [r.query for r in live] == [r.query for r in again]
    assert invoke("apigen", "run", tmp_path / "b.yaml", "calls.answers=", code=2).count("answers")


def test_a_server_that_was_not_named_is_mocked(library):
    apis = {api.tool.name: api for api in read_library(library)}
    with Sandbox() as box:
        done = Executors(box, CallsConfig(mcp=("other",))).run([(apis["leave"], {"status": 3})])
    assert done[0].executor == "mock"


def test_rows_of_a_running_server(library, tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"library: {library}\nout: {tmp_path}/rows\nrows: 12\nheldout_rows: 0\ncalls: {{mcp: [desk]}}\n"
    )
    said = invoke("apigen", "run", tmp_path / "c.yaml")
    assert "mcp" in said
    for record in read_records(tmp_path / "rows/train.jsonl"):
        if record.steps[0].tool_calls:
            assert "executor:mcp" in record.lineage


def test_a_server_over_http(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(DESK), str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        build(tmp_path, {"desk": {"url": f"http://127.0.0.1:{port}/mcp"}})
    finally:
        process.kill()
    assert len(read_library(tmp_path / "library")) == 5


def test_what_is_no_server_is_said(tmp_path):
    said = build(tmp_path, {"gone": {"command": "no-such-program"}}, code=1)
    assert "no-such-program" in said
    said = build(
        tmp_path,
        {"bad": {"command": sys.executable, "args": ["-c", "raise SystemExit('out of order')"]}},
        code=1,
    )
    assert "out of order" in said
    said = build(tmp_path, {"desk": {**OURS, "env": {"KEY": "s3cret"}}}, code=2)
    assert "export KEY" in said and "s3cret" not in said
    said = build(tmp_path, {"desk": {**OURS, "env": {"NO_SUCH_VARIABLE": "${NO_SUCH_VARIABLE}"}}}, code=2)
    assert "NO_SUCH_VARIABLE" in said
