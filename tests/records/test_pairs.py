"""Preference pairs: every reason by hand, and corruptions of the published BFCL answers."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.records.real_records import bfcl_records
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Tool, ToolCall, write_records
from xlam_jax.format.pair import Pair, read_pairs
from xlam_jax.records.augment.transforms import calls_valid
from xlam_jax.records.engine import LocalEngine
from xlam_jax.records.pairs import NEGATIVES, OUTCOMES, build_pairs, judge
from xlam_jax.scoring.gold import score_against

ROOM = Tool(
    "book_room",
    "Books a room.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "floor": {"type": "integer", "default": 1},
        },
        "required": ["city", "nights"],
    },
)


def call(city="Oslo", nights=2, **more):
    return ToolCall("book_room", {"city": city, "nights": nights, **more})


def make(id="a", *calls):
    return Record(id, "Two nights in Oslo", (ROOM,), (Step("", calls or (call(),), "done", "Thanks"),))


@pytest.mark.parametrize(
    ("rejected", "outcome"),
    [
        ((call(),), "same"),
        ((ToolCall("book_room", {"nights": 2, "city": "Oslo"}),), "same"),
        ((call("oslo."),), "rejected_passes"),
        ((call(nights=3),), "kept"),
        ((call(nights=2.0),), "kept"),
        ((call(nights="2"),), "kept"),
        ((call(), call()), "kept"),
        ((), "kept"),
    ],
)
def test_each_outcome_of_a_judgement(rejected, outcome):
    record = make()
    got = judge(record, 0, Step("because", rejected, "x", "y"), "model:m")
    if outcome == "kept":
        # What came after the chosen answer is no part of the pair.
        chosen = replace(record, steps=(Step("", (call(),)),))
        assert got == Pair(chosen, Step("because", rejected), "model:m")
    else:
        assert got == outcome


def test_a_gold_answer_that_fails_makes_no_pair():
    assert judge(make("a", call(nights="two")), 0, Step("", (call(),)), "m") == "chosen_fails"
    assert judge(make("a", ToolCall("other", {})), 0, Step("", (call(),)), "m") == "chosen_fails"


def test_no_call_is_better_than_a_needless_one():
    record = replace(make(), steps=(Step("Hello"),))
    assert judge(record, 0, Step("", (call(),)), "m") == Pair(record, Step("", (call(),)), "m")
    assert judge(record, 0, Step("Other words"), "m") == "same"


def write_answers(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answer(*calls):
    return json.dumps({"tool_calls": [{"name": c.name, "arguments": c.arguments} for c in calls]})


def test_answers_of_a_weaker_model(tmp_path):
    write_records(tmp_path / "in", [*(make(id) for id in "abcdef"), make("g", call(nights="two"))])
    answers = write_answers(
        tmp_path / "weak.jsonl",
        {"id": "a", "answer": answer(call(nights=5))},
        {"id": "b", "answer": answer(call())},
        {"id": "c", "answer": answer(call("OSLO"))},
        {"id": "d", "answer": '{"tool_calls": I booked it.'},
        {"id": "e", "calls": [{"name": "book_room", "arguments": {"city": "Oslo"}}]},
        {"id": "f", "answer": answer(), "step": 2},
        {"id": "g", "answer": answer(call())},
        {"id": "nobody", "answer": answer()},
        {"id": "a", "calls": "none"},
    )
    result = build_pairs(tmp_path / "in", tmp_path / "out", negatives=answers)
    (row,) = result["negatives"]
    assert row["negative"] == "model:weak" and row["tried"] == 7
    assert {k: row[k] for k in OUTCOMES if row[k]} == {
        "kept": 2, "same": 1, "rejected_passes": 1, "chosen_fails": 1, "unparsable_negative": 1,
        "no_such_step": 1,
    }  # fmt: skip
    a, e = read_pairs(tmp_path / "out")
    assert a.chosen.id == "a#pair1" and a.chosen.lineage == ("pairs:model:weak",)
    assert a.chosen.steps == (Step("", (call(),)),)
    assert a.rejected.tool_calls == (call(nights=5),) and a.reason == "model:weak"
    assert e.chosen.id == "e#pair1" and e.rejected.tool_calls == (ToolCall("book_room", {"city": "Oslo"}),)
    pairs, read = sorted(result["yields"], key=lambda row: row["in"])
    assert (pairs["stage"], pairs["in"], pairs["out"], pairs["dropped"]) == ("pairs", 7, 2, 5)
    assert (read["in"], read["reasons"]) == (9, {"unknown_id": 1, "bad_negative": 1})


def test_generations_of_an_evaluation_are_answers(tmp_path):
    """As `xlam eval records --out` writes them: steps from 0, the text beside what was read in it."""
    write_records(tmp_path / "in", [make("a"), make("b")])
    row = {"style": "simple", "outcome": "wrong", "calls": [], "finish_reason": "stop", "new_tokens": 9}
    generations = write_answers(
        tmp_path / "generations.jsonl",
        {"id": "a", "step": 0, "text": answer(call(nights=5)), **row},
        {"id": "b", "step": 1, "text": answer(), **row},
    )
    (counts,) = build_pairs(tmp_path / "in", tmp_path / "out", negatives=generations)["negatives"]
    assert (counts["tried"], counts["kept"], counts["no_such_step"]) == (2, 1, 1)
    assert [pair.rejected.tool_calls for pair in read_pairs(tmp_path / "out")] == [(call(nights=5),)]


def test_unparsable_answers_are_rejected_ones_on_demand(tmp_path):
    write_records(tmp_path / "in", [make("d")])
    answers = write_answers(tmp_path / "weak.jsonl", {"id": "d", "answer": '{"tool_calls": I booked it.'})
    build_pairs(tmp_path / "in", tmp_path / "out", negatives=answers, model="m", keep_unparsable=True)
    (pair,) = read_pairs(tmp_path / "out")
    assert pair.rejected == Step('{"tool_calls": I booked it.') and pair.reason == "model:m"


def test_at_most_per_row_and_the_model_first(tmp_path):
    write_records(tmp_path / "in", [make("a")])
    answers = write_answers(tmp_path / "weak.jsonl", {"id": "a", "answer": answer()})
    for wanted in (1, 3):
        names = list(NEGATIVES)
        build_pairs(tmp_path / "in", tmp_path / "out", negatives=answers, corruptions=names, per_row=wanted)
        pairs = list(read_pairs(tmp_path / "out"))
        assert [p.chosen.id for p in pairs] == [f"a#pair{n + 1}" for n in range(wanted)]
        assert pairs[0].reason == "model:weak" and len({repr(p.rejected) for p in pairs}) == wanted


def test_errors_say_what_to_do(tmp_path):
    write_records(tmp_path / "in", [make("a")])
    with pytest.raises(InputError) as e:
        build_pairs(tmp_path / "in", tmp_path / "out", corruptions=["wrong_tipe"])
    assert e.value.hint == "wrong_type"
    with pytest.raises(InputError, match="nothing to make worse answers of"):
        build_pairs(tmp_path / "in", tmp_path / "out")
    answers = write_answers(tmp_path / "weak.jsonl", {"id": "a", "answer": ""})
    with pytest.raises(InputError, match="unknown call format"):
        build_pairs(tmp_path / "in", tmp_path / "out", negatives=answers, call_format="xml")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*ledger*"))


def test_corruptions_of_real_answers_are_told_apart(tmp_path):
    records = bfcl_records()[::8]
    write_records(tmp_path / "in", records)
    results = []
    for name, workers, rows in (("a", 1, 256), ("b", 2, 256), ("c", 1, 9)):
        results.append(
            build_pairs(
                tmp_path / "in", tmp_path / name,
                corruptions=list(NEGATIVES), per_row=99, engine=LocalEngine(workers), chunk_rows=rows,
            )
        )  # fmt: skip
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert results[0] == results[1] == results[2]
    kept = Counter()
    for pair in read_pairs(tmp_path / "a"):
        kept[pair.chosen.lineage[-1].removeprefix("pairs:")] += 1
        gold = pair.chosen.steps[-1].tool_calls
        assert score_against(pair.chosen.tools, gold, gold).valid and calls_valid(pair.chosen)
        assert not score_against(pair.chosen.tools, gold, pair.rejected.tool_calls).valid
    made = {row["negative"]: row for row in results[0]["negatives"]}
    assert kept == {name: row["kept"] for name, row in made.items() if row["kept"]}
    # Every answer of these files makes calls, so that all but one kind find a place.
    assert set(kept) == set(NEGATIVES) - {"needless_call"}
    for row in made.values():
        assert row["tried"] == len(records) and row["same"] == 0
    (table,) = results[0]["yields"]
    assert table["in"] == len(records) and table["out"] > 0.95 * len(records)
