"""The client and the judge against a real endpoint: cache, retries, resume after a kill, agreement."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.records.chat_server import ChatServer
from xlam_jax.errors import InputError, WorkError
from xlam_jax.format import Record, Step, Tool, ToolCall, read_records, write_records
from xlam_jax.llm import LLM, LLMError
from xlam_jax.records.quality.judge import JudgeConfig, Judgement, calibrate, judge, prompts, read_verdict
from xlam_jax.records.quality.verify import VerifyConfig, verify

TOOL = Tool(
    "get_temp", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)


def record(i, query="Is it warm in Oslo?"):
    call = ToolCall("get_temp", {"city": "Oslo"})
    return Record(
        f"r{i}", f"{query} Oslo is asked for by number {i} of many.", (TOOL,), (Step(tool_calls=(call,)),)
    )


def answer(text):
    """Scores by marks in the query; the whole is judged a point better than its steps."""
    if "GARBLED" in text:
        return "I would say it is fine."
    score = 1 if "BAD" in text else 5
    if "only the last step" in text and score == 5:
        score = 4
    return json.dumps({"score": score, "pass": score > 2, "reasons": ["by its marks"]})


def ask(text):
    return [{"role": "user", "content": text}]


def entries(path, stage="judge"):
    lines = map(json.loads, Path(f"{path}.ledger.jsonl").read_text().splitlines())
    return {e["id"]: (e["verdict"], e["reason"]) for e in lines if e["stage"] == stage}


def test_an_answer_is_asked_for_once_and_kept(tmp_path):
    with ChatServer(str.upper) as server:
        cache = tmp_path / "cache.jsonl"
        llm = LLM(server.url, "m", cache=cache)
        assert llm.complete(ask("a")) == "A" == llm.complete(ask("a"))
        assert llm.complete_many([ask("b"), ask("a"), ask("b")]) == ["B", "A", "B"]
        assert len(server.requests) == 2
        assert LLM(server.url, "m", cache=cache).complete(ask("b")) == "B"
        assert len(server.requests) == 2
        # Another sample, setting or model is another question.
        assert llm.complete(ask("a"), sample=1) == "A"
        assert LLM(server.url, "m", cache=cache, temperature=0.7).complete(ask("a")) == "A"
        assert LLM(server.url, "other", cache=cache).complete(ask("a")) == "A"
        assert len(server.requests) == 5
        assert llm.complete(ask("a"), json_mode=True) == "A"
        assert server.requests[-1]["response_format"] == {"type": "json_object"}


def test_a_half_written_last_line_is_cut_off(tmp_path):
    with ChatServer(str.upper) as server:
        cache = tmp_path / "cache.jsonl"
        LLM(server.url, "m", cache=cache).complete_many([ask("a"), ask("b")])
        whole = cache.read_bytes()
        cache.write_bytes(whole[:-9])
        llm = LLM(server.url, "m", cache=cache)
        assert llm.complete_many([ask("a"), ask("b")]) == ["A", "B"]
        assert len(server.requests) == 3
        assert len(cache.read_text().splitlines()) == 2 and cache.read_bytes().endswith(b"\n")
        cache.write_text("nonsense\n")
        with pytest.raises(InputError, match="not an answer"):
            LLM(server.url, "m", cache=cache)


def test_retries_until_it_works_or_the_error_is_a_value():
    with ChatServer(str.upper, faults=[429, 500, 503]) as server:
        assert LLM(server.url, "m", retries=3).complete(ask("a")) == "A"
        assert len(server.requests) == 4
    with ChatServer(str.upper, faults=[500, 500]) as server:
        llm = LLM(server.url, "m", retries=1, concurrency=1)
        first, second = llm.complete_many([ask("a"), ask("b")])
        assert isinstance(first, LLMError) and first.code == 500 and second == "B"
        assert llm.complete(ask("a")) == "A"  # an error is not kept
    with ChatServer(str.upper, faults=[401]) as server:
        with pytest.raises(LLMError) as error:
            LLM(server.url, "m", retries=3).complete(ask("a"))
        assert error.value.code == 401 and len(server.requests) == 1


def test_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", "open sesame")
    with ChatServer(str.upper) as server:
        LLM(server.url, "m", api_key_env="MY_KEY").complete(ask("a"))
        assert server.headers[0]["authorization"] == "Bearer open sesame"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 4, "pass": true, "reasons": ["a", "b"]}', 4),
        ('<think>{"score": 1}</think> ```json\n{"score": 5, "reasons": "x"}\n```', 5),
        ('{"score": "3", "pass": true}', 3),
        ('{"score": 5, "pass": false}', 2),
        ('{"score": 6}', None),
        ('{"score": true}', None),
        ('{"pass": true}', None),
        ("[1, 2]", None),
        ("fine", None),
        ('{"score": 4', None),
        ('{"a":' * 3000 + "}" * 3000, None),
    ],
)
def test_verdicts_are_read_or_unreadable(text, score):
    verdict = read_verdict(text)
    assert (verdict and verdict[0]) == score


def test_prompts_show_a_step_without_its_future():
    steps = (
        Step("look", (ToolCall("get_temp", {"city": "Oslo"}),), "SECRET-1"),
        Step("again", (ToolCall("get_temp", {"city": "Bergen"}),), "SECRET-2"),
        Step("done"),
    )
    whole, first, second = prompts(Record("1", "Q?", (TOOL,), steps), "both")
    assert "SECRET-1" in whole[1]["content"] and "SECRET-2" in whole[1]["content"]
    assert "SECRET-1" not in first[1]["content"] and "Bergen" not in first[1]["content"]
    assert "SECRET-1" in second[1]["content"] and "SECRET-2" not in second[1]["content"]
    assert len(prompts(Record("1", "Q?", (TOOL,), steps), "steps")) == 2
    assert len(prompts(Record("1", "Q?", (), (Step("Hello"),)), "steps")) == 1


def test_stage_drops_flags_and_never_crashes(tmp_path):
    rows = [record(0), record(1, "BAD"), record(2, "GARBLED"), record(3)]
    write_records(tmp_path / "in.jsonl", rows)
    # near duplicates are off: the rows differ by a number
    rules = {"actions": {"near_duplicate": "off"}}
    with ChatServer(answer) as server:
        config = VerifyConfig.model_validate({"rules": rules, "judge": {"base_url": server.url}})
        result = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", config)
        asked = len(server.requests)
    assert asked == 4 * 2 + 2  # whole and step of each, the unreadable ones once more
    assert entries(tmp_path / "out.jsonl") == {
        "r0": ("pass", ""),
        "r1": ("dropped", "judge_rejected"),
        "r2": ("pass", "judge_unreadable"),
        "r3": ("pass", ""),
    }
    kept = list(read_records(tmp_path / "out.jsonl"))
    assert [r.id for r in kept] == ["r0", "r2", "r3"]
    assert kept[1].lineage == ("flagged:judge_unreadable",)
    assert result["yields"][-1] == {
        "stage": "judge", "in": 4, "out": 3, "repaired": 0, "dropped": 1, "reasons": {"judge_rejected": 1},
    }  # fmt: skip


def test_a_dead_endpoint_ends_the_run_and_leaves_no_output(tmp_path):
    write_records(tmp_path / "in.jsonl", [record(0)])
    with ChatServer(answer) as server:
        url = server.url
    config = VerifyConfig(judge=JudgeConfig(base_url=url, retries=0))
    with pytest.raises(WorkError, match="no answer from the judge"):
        verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", config)
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_killed_in_the_middle_it_goes_on_from_the_cache(tmp_path):
    rows = [record(i, "BAD" if i % 5 == 0 else "Warm?") for i in range(60)]
    write_records(tmp_path / "in.jsonl", rows)
    cache = tmp_path / "cache.jsonl"
    with ChatServer(answer, delay=0.05) as server:
        command = [sys.executable, "-m", "xlam_jax.cli.main", "data", "verify", tmp_path / "in.jsonl"]
        command += [tmp_path / "out.jsonl", "rules.actions.near_duplicate=off", "judge.concurrency=2"]
        command += ["--judge-url", server.url, "--judge-cache", cache]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (cache.exists() and cache.read_bytes().count(b"\n") >= 10):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = cache.read_bytes().count(b"\n")
        assert 10 <= kept < 120 and not (tmp_path / "out.jsonl").exists()
        time.sleep(0.3)
        before = len(server.requests)
        values = {"base_url": server.url, "cache": str(cache), "concurrency": 8}
        rules = {"actions": {"near_duplicate": "off"}}
        verify(
            tmp_path / "in.jsonl",
            tmp_path / "out.jsonl",
            VerifyConfig.model_validate({"rules": rules, "judge": values}),
        )
        assert len(server.requests) - before == 120 - kept
    assert len(cache.read_text().splitlines()) == 120
    fates = entries(tmp_path / "out.jsonl")
    assert [i for i in range(60) if fates[f"r{i}"][0] == "dropped"] == list(range(0, 60, 5))


def test_agreement_by_hand():
    # 20 good passed, 5 good failed, 10 bad passed, 15 bad failed: accuracy 0.7, kappa 0.4 (a textbook table)
    rows = [(True, 4)] * 20 + [(True, 2)] * 5 + [(False, 4)] * 10 + [(False, 2)] * 15
    labelled = [(good, Judgement(score)) for good, score in rows] + [(True, Judgement(None))]
    result = calibrate(labelled, 3)
    assert (result["accuracy"], result["kappa"]) == (pytest.approx(0.7), pytest.approx(0.4))
    assert [result[k] for k in ("good_passed", "good_failed", "bad_passed", "bad_failed")] == [20, 5, 10, 15]
    assert (result["rows"], result["read"], result["unread"]) == (51, 50, 1)
    none_passes = next(row for row in result["sweep"] if row["threshold"] == 5)
    assert none_passes["kappa"] == 0 and none_passes["accuracy"] == 0.5
    with pytest.raises(InputError):
        calibrate([(True, Judgement(None))], 3)


def test_judge_reports_a_row_whose_requests_failed():
    with ChatServer(answer, faults=[400]) as server:
        llm = LLM(server.url, "m", concurrency=1)
        first, second = judge([record(0), record(1)], llm, "trajectory")
    assert first.code == "judge_failed" and first.score is None and second.score == 5
