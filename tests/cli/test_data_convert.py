"""`xlam data convert`: the list, the table that adds up, and errors on one screen."""

import json

from xlam_jax.format.record import read_records
from xlam_jax.records.sources import SOURCES

from .conftest import REPO

CHATS = REPO / "configs" / "demo" / "chats.jsonl"


def test_list_names_every_source(tmp_path, xlam):
    got = xlam("data", "convert", "--list", "--json", tmp_path / "list.json")
    listed = json.loads((tmp_path / "list.json").read_text())
    assert got.code == 0 and [source["name"] for source in listed] == list(SOURCES)
    assert all(source["summary"] and source["url"].startswith("https://") for source in listed)
    assert "apigen-mt" in got.out and "CC-BY-NC-4.0" in got.out


def test_rows_in_are_rows_out_and_refused(tmp_path, xlam):
    out, ledger, result = tmp_path / "o" / "out.jsonl.gz", tmp_path / "ledger.jsonl", tmp_path / "r.json"
    got = xlam("data", "convert", "openai", CHATS, out, "--ledger", ledger, "--json", result)
    assert got.code == 0, got.err
    assert json.loads(result.read_text()) == {
        "source": "openai",
        "rows": 3,
        "out": 2,
        "refused": 1,
        "reasons": {"no_answer": 1},
        "calls": 3,
        "valid": 2,
        "faults": {"wrong_type": 1},
    }
    assert "no_answer 1" in got.out and "wrong_type" in got.out and "66.7" in got.out
    assert [len(r.steps) for r in read_records(out)] == [2, 2]
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [entry["reason"] for entry in entries] == ["", "", "no_answer"]
    assert entries[2]["id"] == f"{CHATS}:3"


def test_workers_write_the_same_bytes(tmp_path, xlam):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(CHATS.read_text() * 300)
    for name, workers in (("one", 1), ("two", 2)):
        assert (
            xlam("data", "convert", "openai", rows, tmp_path / f"{name}.jsonl", "--workers", workers).code
            == 0
        )
    for suffix in ("jsonl", "jsonl.ledger.jsonl"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_errors_say_what_to_type(tmp_path, xlam):
    out = tmp_path / "out.jsonl"
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "folder").mkdir()
    for args, said in [
        ((), "needs SOURCE, IN and OUT"),
        (("openai", CHATS), "needs SOURCE, IN and OUT"),
        (("open-ai", CHATS, out), "try: openai"),
        (("openai", tmp_path / "no.jsonl", out), "input not found"),
        (("openai", tmp_path / "folder", out), "no data file in this folder"),
        (("openai", CHATS, tmp_path / "out.parquet"), "OUT.jsonl or OUT.jsonl.gz"),
        (("openai", CHATS, CHATS), "OUT is the same file as IN"),
        (("openai", CHATS, out, "--engine", "spark"), "unknown engine 'spark'"),
    ]:
        got = xlam("data", "convert", *args)
        assert got.code == 2 and said in got.err, (args, got.err)
        assert not out.exists()
    got = xlam("data", "convert", "openai", tmp_path / "empty.jsonl", out)
    assert got.code == 2 and "no rows in the input" in got.err
