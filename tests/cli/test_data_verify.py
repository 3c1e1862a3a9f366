"""`xlam data verify`, `xlam data judge-calibrate` and `xlam bench verifier` as typed."""

import json

import pytest

from tests.data.chat_server import ChatServer
from tests.data.test_quality_judge import answer, record


def test_calibrate_command(tmp_path, xlam):
    rows = [(record(0), True), (record(1, "BAD"), False), (record(2, "BAD"), True), (record(3), True)]
    lines = [json.dumps({"record": r.to_json(), "good": good}) for r, good in rows]
    (tmp_path / "labelled.jsonl").write_text("\n".join(lines) + "\n")
    with ChatServer(answer) as server:
        out = tmp_path / "a.json"
        got = xlam(
            "data", "judge-calibrate", tmp_path / "labelled.jsonl", "--judge-url", server.url, "--json", out
        )
    assert got.code == 0, got.err
    result = json.loads(out.read_text())
    assert result["accuracy"] == 0.75 and result["kappa"] == pytest.approx(0.5)
    (tmp_path / "bad.jsonl").write_text('{"record": {}}\n')
    got = xlam("data", "judge-calibrate", tmp_path / "bad.jsonl", "--judge-url", "http://127.0.0.1:9/v1")
    assert got.code == 2 and "bad.jsonl:1" in got.err
