"""`xlam data verify` and `xlam data judge-calibrate` as typed."""

import json

import pytest

from tests.records.chat_server import ChatServer
from tests.records.test_quality_judge import answer, record


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


def test_verify_as_typed(tmp_path, xlam):
    records = tmp_path / "in.jsonl"
    calls = [{"name": "get_temp", "arguments": {"city": "Oslo"}}]
    rows = [
        {**record(0).to_json(), "steps": [{"tool_calls": calls}]},
        {**record(1, "Cold?").to_json(), "steps": [{"tool_calls": [{"name": "get_tmp", "arguments": {}}]}]},
    ]
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "verify.yaml"
    config.write_text("rules:\n  actions:\n    undefined_function: off\n    near_duplicate: flag\n")
    result = tmp_path / "result.json"
    got = xlam("data", "verify", records, tmp_path / "a.jsonl", "--json", result)
    assert got.code == 0 and "1 of 2 rows kept" in got.out
    assert json.loads(result.read_text())["yields"][0]["reasons"] == {"undefined_function": 1}
    got = xlam("data", "verify", records, tmp_path / "b.jsonl", "--config", config)
    assert got.code == 0 and "2 of 2 rows kept" in got.out
    got = xlam("data", "verify", records, tmp_path / "c.jsonl", "--against", records, "--workers", 1)
    assert got.code == 0 and "contaminated 1" in got.out and "0 of 2 rows kept" in got.out
    got = xlam("data", "verify", records, tmp_path / "d.jsonl", "rules.actions.pi=drop")
    assert got.code == 2 and "rules.actions.pii" in got.err
    assert not (tmp_path / "d.jsonl").exists()
