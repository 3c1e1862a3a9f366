"""The whole pass: every row once in the ledger, the same on every engine, nothing changes the second time."""

import dataclasses
import itertools
import json
import os
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, ToolCall, normalise_tool, read_records, write_records
from xlam_jax.records.engine import LocalEngine
from xlam_jax.records.quality.contamination import EvaluationIndex, evaluation_index
from xlam_jax.records.quality.corrupt import CORRUPTIONS, Pool
from xlam_jax.records.quality.duplicates import Seen, fingerprint, texts_of
from xlam_jax.records.quality.verify import VerifyConfig, verify

_WORDS = "amber birch cedar delta ember fjord grove haven inlet jetty knoll larch maple north olive pearl"
WORDS = _WORDS.split()


def make(i):
    """A clean row: a number, a place and a list that its query states."""
    rng = np.random.default_rng(i)
    words = [WORDS[int(k)] + WORDS[int(j)] for k, j in rng.integers(0, 16, (14, 2))]
    place, items, count = words[0], words[1:3], int(rng.integers(2, 99))
    tool = normalise_tool(
        {
            "name": f"book_{words[3]}",
            "description": "Books.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string"},
                    "count": {"type": "integer"},
                    "items": {"type": "array", "items": {"type": "string"}},
                    "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
                },
                "required": ["place", "count"],
            },
        }
    )
    other = normalise_tool({"name": f"find_{words[4]}", "parameters": {"q": {"type": "str"}}})
    query = f"Book {count} of {items[0]} and {items[1]} at {place}, {' '.join(words[5:])} for me."
    arguments = {"place": place, "count": count, "items": items, "mode": "fast"}
    return Record(
        f"r{i}", query, (tool, other), (Step(tool_calls=(ToolCall(tool.name, arguments),)),), source="made"
    )


@pytest.fixture(scope="module")
def corrupted():
    """Clean rows, and each class of error in a few of them."""
    clean = [make(i) for i in range(60)]
    pool = Pool.of(clean, [make(1000).query])
    bad = []
    for name, corruption in CORRUPTIONS.items():
        for i in range(4):
            rng = np.random.default_rng([7, i])
            one = corruption.apply(clean[i], rng, pool)
            assert one is not None, name
            bad.append(one if one.id != clean[i].id else dataclasses.replace(one, id=f"{name}-{i}"))
    return clean + bad


def ledger(path):
    return [json.loads(line) for line in Path(f"{path}.ledger.jsonl").read_text().splitlines()]


def test_every_row_goes_on_or_is_dropped_once(tmp_path, corrupted):
    write_records(tmp_path / "in.jsonl", corrupted)
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write('{"id": 5}\nnot json\n')
    write_records(tmp_path / "eval.jsonl", [make(1000)])
    config = VerifyConfig(against=(str(tmp_path / "eval.jsonl"),))
    result = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", config)
    entries = ledger(tmp_path / "out.jsonl")
    kept = list(read_records(tmp_path / "out.jsonl"))
    dropped = [e for e in entries if e["verdict"] == "dropped"]
    assert result["rows"] == len(corrupted) + 2 == len(kept) + len(dropped)
    assert len({e["id"] for e in dropped} | {r.id for r in kept}) == result["rows"]
    sizes = [(row["stage"], row["in"], row["out"]) for row in result["yields"]]
    for (_, _, out), (_, next_in, _) in itertools.pairwise(sizes):
        assert out == next_in
    assert [stage for stage, _, _ in sizes] == ["rules", "contamination", "duplicates"]
    assert sizes[-1][2] == len(kept)
    reasons = {e["id"]: e["reason"] for e in entries if e["verdict"] == "dropped"}
    for name in ("undefined_function", "missing_required", "wrong_type", "not_in_enum", "repeated_turn"):
        assert {reasons.get(f"{name}-{i}") for i in range(4)} == {CORRUPTIONS[name].code}
    assert sum(reason == "not_a_record" for reason in reasons.values()) == 2
    assert {reasons.get(f"contamination-{i}") for i in range(4)} == {"contaminated"}
    assert {reasons.get(f"r{i}-copy") for i in range(4)} == {"duplicate"}
    assert {reasons.get(f"r{i}-near") for i in range(4)} == {"near_duplicate"}
    assert not {f"r{i}" for i in range(60)} & reasons.keys()
    # What is kept is valid against its own tools, by jsonschema itself.
    for record in kept:
        schemas = {tool.name: tool.parameters for tool in record.tools}
        for step in record.steps:
            for call in step.tool_calls:
                jsonschema.validate(call.arguments, schemas[call.name])


def test_a_second_pass_changes_nothing(tmp_path, corrupted):
    hasty = dataclasses.replace(make(500), steps=(dataclasses.replace(make(500).steps[0], thought="ok"),))
    write_records(tmp_path / "in.jsonl", [*corrupted, hasty])
    config = VerifyConfig.model_validate({"rules": {"actions": {"pii": "repair"}}})
    verify(tmp_path / "in.jsonl", tmp_path / "one.jsonl", config)
    again = verify(tmp_path / "one.jsonl", tmp_path / "two.jsonl", config)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert all(row["dropped"] == row["repaired"] == 0 for row in again["yields"])
    lineage = {r.id: r.lineage for r in read_records(tmp_path / "two.jsonl")}
    assert lineage["r500"] == ("flagged:low_quality_thought",)


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(tmp_path, corrupted):
    write_records(tmp_path / "in.jsonl", corrupted * 5)
    for workers in (1, 2):
        verify(tmp_path / "in.jsonl", tmp_path / f"{workers}.jsonl", engine=LocalEngine(workers))
    for suffix in ("", ".ledger.jsonl"):
        one, two = (tmp_path / f"{workers}.jsonl{suffix}" for workers in (1, 2))
        assert one.read_bytes() == two.read_bytes()


def test_flags_of_later_stages_stand_in_the_lineage(tmp_path):
    write_records(tmp_path / "in.jsonl", [make(1), make(2), dataclasses.replace(make(1), id="again")])
    actions = {"duplicate": "flag", "contaminated": "flag"}
    config = VerifyConfig.model_validate(
        {"rules": {"actions": actions}, "against": [str(tmp_path / "eval.jsonl")]}
    )
    write_records(tmp_path / "eval.jsonl", [make(2)])
    result = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", config)
    lineage = {r.id: r.lineage for r in read_records(tmp_path / "out.jsonl")}
    assert lineage == {"r1": (), "r2": ("flagged:contaminated",), "again": ("flagged:duplicate",)}
    assert result["flagged"] == {"contaminated": 1, "duplicate": 1}


def test_near_duplicates_agree_with_datasketch():
    """Estimated similarities are those of datasketch's own sketches of the same shingles."""
    from datasketch import MinHash  # brings scipy, which collecting should not pay for

    base = make(3)
    words = base.query.split()
    for changed in (1, 4, 12):
        query = " ".join([*words[:-changed], *("zulu" for _ in range(changed))])
        other = dataclasses.replace(base, **{"id": "o", "query": query})
        shingles = []
        for record in (base, other):
            found = set()
            for text in texts_of(record):
                parts = text.split(" ")
                found |= {" ".join(parts[i : i + 3]) for i in range(len(parts) - 2)}
            shingles.append(found)
        exact = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
        signatures = [fingerprint(r, near=True).signature for r in (base, other)]
        estimate = float((signatures[0] == signatures[1]).mean())
        assert abs(estimate - exact) < 0.2
        sketches = [MinHash(64) for _ in range(2)]
        for sketch, part in zip(sketches, shingles, strict=True):
            sketch.update_batch(s.encode() for s in part)
        assert abs(sketches[0].jaccard(sketches[1]) - estimate) < 0.3
        seen = Seen(0.8)
        assert seen.check("a", fingerprint(base, near=True)) is None
        found = seen.check("o", fingerprint(other, near=True))
        assert (found is not None) == (estimate >= 0.8)


def test_duplicates_keep_the_first_and_know_calls_from_queries():
    seen = Seen(0.8)
    base = make(5)
    upper = dataclasses.replace(base, **{"id": "b", "query": base.query.upper().replace(" ", "  ")})
    call = base.steps[0].tool_calls[0]
    other = ToolCall("other_function", {"x": list(range(1000, 1040))})
    different = dataclasses.replace(base, **{"id": "c", "steps": (Step(tool_calls=(call, other)),)})
    results = [seen.check(r.id, fingerprint(r, near=True)) for r in (base, upper, different)]
    assert results == [None, ("duplicate", "r5", 0), None]
    off = Seen(0.8)
    assert off.check("a", fingerprint(base, near=False)) is None
    assert off.check("b", fingerprint(upper, near=False)) == ("duplicate", "a", 0)


def test_contrast_pairs_stay_and_the_longer_dialogue_wins(tmp_path):
    """What teaches a model to abstain differs from its neighbour in the tools alone; raw rows, as people write them."""
    words = (
        "I'm interested in attending a music event in Portland, OR. Can you locate any concerts this weekend?"
    )
    call = {"tool_calls": [{"name": "find_events", "arguments": {"city": "Portland, OR"}}]}
    find = {"name": "find_events", "description": "Find events", "parameters": {"city": {"type": "str"}}}
    hotel = {"name": "book_hotel", "description": "Book a hotel", "parameters": {}}
    refuse, ask = {"thought": "None of the tools can do it.", "tool_calls": []}, {"thought": "Which day?"}
    rows = [
        ("called", words, [find, hotel], [call]),
        ("absent", words, [hotel], [refuse]),
        ("other absent", words, [{**hotel, "name": "send_mail"}], [refuse]),
        ("asks", words, [find, hotel], [ask]),
        ("asks in a word more", words + " Thanks!", [hotel, find], [ask]),
        ("longer", words + " Please!", [find, hotel], [{**call, "next_observation": "2 concerts"}, refuse]),
        ("longest", words, [find, hotel], [{**call, "next_observation": "3 concerts"}, refuse, refuse]),
    ]
    lines = [json.dumps({"id": i, "query": q, "tools": t, "steps": s}) for i, q, t, s in rows]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    off = {"rules": {"actions": {"repeated_turn": "off"}}}
    result = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", VerifyConfig.model_validate(off))
    kept = [r.id for r in read_records(tmp_path / "out.jsonl")]
    assert kept == ["absent", "other absent", "asks", "longest"], ledger(tmp_path / "out.jsonl")
    dropped = {e["id"]: e["detail"] for e in ledger(tmp_path / "out.jsonl") if e["verdict"] == "dropped"}
    assert dropped["called"].startswith("of longer") and dropped["longer"].startswith("of longest")
    assert result["rows"] == len(kept) + len(dropped)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("tmp")]


def test_of_duplicates_chunks_apart_the_right_row_goes(tmp_path):
    """More rows than a chunk holds: whom the ledger names is who is missing, and nobody else."""
    rows = [{"id": f"r{i}", **_asked(f"Where is {i} {WORDS[i % 16]} street {i * i}?")} for i in range(600)]
    for later, first in ((257, 3), (400, 399), (599, 300)):
        rows[later] |= {"query": rows[first]["query"].upper()}
    rows[560] |= {"query": rows[100]["query"], "steps": [*rows[100]["steps"], {"thought": "Anything else?"}]}
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    gone = {"r257": "of r3", "r400": "of r399", "r599": "of r300", "r100": "of r560"}
    dropped = {e["id"]: e["detail"] for e in ledger(tmp_path / "out.jsonl") if e["verdict"] == "dropped"}
    assert {id: detail.partition(" (")[0] for id, detail in dropped.items()} == gone
    kept = [r.id for r in read_records(tmp_path / "out.jsonl")]
    assert kept == [row["id"] for row in rows if row["id"] not in gone]


def _asked(query):
    return {"query": query, "tools": [], "steps": [{"thought": "I cannot look that up.", "tool_calls": []}]}


def test_contamination_needs_the_query_or_thirteen_words(tmp_path):
    text = " ".join(f"w{i}" for i in range(20))
    index = EvaluationIndex.of([("one", [text, "Short one?"]), ("two", [text])])

    def found(query, *turns):
        steps = tuple(Step("ok", user_input=turn) for turn in turns)
        return index.find(Record("1", query, (), steps))

    assert found("short ONE")[0] == "one"
    assert found("a short one") is None
    assert found("x " + " ".join(f"w{i}" for i in range(3, 16)))[0] == "one"
    assert found("x " + " ".join(f"w{i}" for i in range(3, 15))) is None
    assert found("hello", text)[0] == "one"
    rows = [
        {
            "id": "a",
            "question": [{"role": "system", "content": "be good"}, {"role": "user", "content": "v2"}],
        },
        {"id": "b", "question": [[{"role": "user", "content": "v3"}], [{"role": "user", "content": "turn"}]]},
        {"id": "c", "query": "records", "steps": [{"user_input": "later"}]},
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert set(evaluation_index([tmp_path / "e.jsonl"]).queries) == {"v2", "v3", "turn", "records", "later"}
    (tmp_path / "bad.jsonl").write_text('{"text": 1}\n')
    with pytest.raises(InputError, match="neither a query nor a question"):
        evaluation_index([tmp_path / "bad.jsonl"])


def test_published_bfcl_answers_are_clean_or_named(tmp_path):
    """Few gold rows are refused; looked at by hand, their answers contradict their own schemas."""
    root = Path(os.environ.get("XLAM_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))
    if not (root / "bfcl_v2").is_dir():
        pytest.skip(f"public data folder not found: {root / 'bfcl_v2'}")
    from tests.scoring.bfcl_rows import gold_calls, rows

    records = []
    for name in ("simple", "multiple", "parallel", "parallel_multiple"):
        for row, answers in rows(name):
            tools = row["function"] if isinstance(row["function"], list) else [row["function"]]
            query = "\n".join(m["content"] for m in row["question"] if m["role"] == "user")
            step = Step(tool_calls=tuple(gold_calls(row, answers)))
            records.append(Record(row["id"], query, tuple(map(normalise_tool, tools)), (step,)))
    write_records(tmp_path / "in.jsonl", records)
    result = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    rules = result["yields"][0]
    assert rules["in"] == len(records) == 1000
    assert rules["dropped"] <= 0.02 * len(records), rules
    assert result["flagged"].get("ungrounded_argument", 0) <= 0.08 * len(records)
    assert result["flagged"].get("pii", 0) <= 3
