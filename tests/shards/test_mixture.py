"""Mixtures by hand, and the split that keeps functions unseen, as properties."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny_run
from tests.examples import examples
from xlam_jax.errors import InputError
from xlam_jax.format import normalise_tool
from xlam_jax.format.record import Record, Step, Tool, ToolCall, read_records, write_records
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.context import Context
from xlam_jax.records.augment.masking import mask_functions
from xlam_jax.records.augment.origin import masks_in
from xlam_jax.records.engine import LocalEngine
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.shards.folder import read_manifest
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.mixture import Holdout, InputConfig, choose, epochs_of
from xlam_jax.shards.tokenize import load_tokenizer

# A seed that holds out some, not all, of the four functions of the tiny world.
SEED = next(s for s in range(99) if 0 < sum(n in Holdout(0.3, s) for n in tiny_run._NAMES) < 3)


def inputs(*shares_epochs):
    return [InputConfig(path=f"p{i}", share=s, epochs=e) for i, (s, e) in enumerate(shares_epochs)]


def test_shares_by_hand():
    # 100 rows at 25 % and 600 at 75 %: the first allows 400 in all, the second 800.
    assert epochs_of(inputs((0.25, 1), (0.75, 1)), [100, 600], None) == [1.0, 0.5]
    assert epochs_of(inputs((0.25, 2), (0.75, 1)), [100, 600], None) == [2.0, 1.0]
    assert epochs_of(inputs((0.25, 1), (0.75, 1)), [100, 600], 200) == [0.5, 0.25]
    assert epochs_of(inputs((None, 1.5), (None, 1)), [10, 10], None) == [1.5, 1.0]


@pytest.mark.parametrize(
    ("shares", "rows", "total", "message"),
    [
        (((0.5, 1), (None, 1)), [5, 5], None, "1 of 2 inputs"),
        (((0.5, 1), (0.4, 1)), [5, 5], None, "add up to 0.9"),
        (((0.5, 1), (0.5, 1)), [5, 0], None, "no usable row"),
        (((0.5, 1), (0.5, 1)), [5, 9], 11, "the inputs give 10"),
        (((None, 1),), [5], 3, "needs a share"),
    ],
)
def test_mixtures_that_cannot_be(shares, rows, total, message):
    with pytest.raises(InputError, match=message):
        epochs_of(inputs(*shares), rows, total)


@given(st.integers(0, 50), st.floats(0.1, 4), st.integers(0, 5))
@examples(50)
def test_every_row_equally_often(count, epochs, seed):
    chosen = choose(count, epochs, seed)
    assert len(chosen) == round(count * epochs)
    times = Counter(chosen.tolist())
    assert all(times[i] - int(len(chosen) / count) in (0, 1) for i in range(count))
    assert np.array_equal(chosen, choose(count, epochs, seed))


def _tool(name):
    return Tool(name, "", {"type": "object", "properties": {}})


def row(offered, called, id="r"):
    calls = tuple(ToolCall(c, {}) for c in called)
    return Record(id, "q", tuple(map(_tool, offered)), (Step(tool_calls=calls),))


@given(
    st.lists(st.sampled_from([f"f{i}" for i in range(30)]), min_size=1, max_size=6, unique=True), st.data()
)
@examples(200)
def test_training_rows_never_show_a_held_out_function(offered, data):
    called = data.draw(st.lists(st.sampled_from(offered), max_size=3))
    holdout = Holdout(0.3, 1)
    record = row(offered, called)
    part, kept = holdout.assign(record)
    held = {name in holdout for name in called}
    if part == "train":
        assert not any(t.name in holdout for t in kept.tools) and held <= {False}
        assert kept.steps == record.steps and {t.name for t in kept.tools} >= set(called)
    elif part == "validation":
        assert held == {True} or (not called and all(n in holdout for n in offered))
        assert kept == record
    else:
        assert part == "straddles" and held == {True, False}


def test_holdout_is_a_fraction_and_spelling_blind():
    holdout = Holdout(0.25, 3)
    share = np.mean([f"function_{i}" in holdout for i in range(4000)])
    assert abs(share - 0.25) < 0.03
    for i in range(50):
        assert len({n in holdout for n in (f"get_{i}_thing", f"get{i}Thing", f"Get {i} thing")}) == 1
    assert not any(f"f{i}" in Holdout(0.0) for i in range(50))
    assert {"日本" in Holdout(0.5, s) for s in range(20)} == {True, False}


def test_build_mixes_splits_and_denies(tmp_path, tokenizer_folder):
    a = [replace(r, source="a") for r in tiny_run.records(40, prefix="a")]
    b = [replace(r, source="b", license="CC-BY-NC-4.0") for r in tiny_run.records(20, 1, prefix="b")]
    c = [replace(r, source="c") for r in tiny_run.records(30, 2, prefix="c")]
    for name, records in (("a", a), ("b", b), ("c", c)):
        write_records(tmp_path / f"{name}.jsonl", records)
    config = BuildConfig.model_validate(
        {
            "inputs": [
                {"path": str(tmp_path / "a.jsonl"), "share": 0.75, "epochs": 3},
                {"path": str(tmp_path / "c.jsonl"), "share": 0.25},
            ],
            "tokenizer": str(tokenizer_folder),
            "out": str(tmp_path / "out"),
            "seq_len": 512,
            "rows": 80,
        }
    )
    manifest = build(config)
    assert manifest["records"] == 80 and manifest["sources"] == {"a": 60, "c": 20}
    assert [i["epochs"] for i in manifest["inputs"]] == [1.5, 0.6667]
    assert [i["rows_percent"] for i in manifest["inputs"]] == [75, 25]
    packed = PackedSource(config.out)
    seen = Counter(id for i in range(len(packed)) for id in packed[i][1])
    assert set(seen.values()) == {1, 2} and sum(n for i, n in seen.items() if i[0] == "a") == 60

    # Workers change nothing.
    again = build(config.model_copy(update={"out": str(tmp_path / "two")}), engine=LocalEngine(2))
    assert again["fingerprint"] == manifest["fingerprint"]

    split = config.model_copy(
        update={
            "inputs": [str(tmp_path / f"{n}.jsonl") for n in "abc"],
            "rows": None,
            "deny_licences": ["*-NC-*"],
            "out": str(tmp_path / "split"),
            "validation": config.validation.model_copy(update={"functions": 0.3}),
            "seed": SEED,
        }
    )
    manifest = build(split)
    table = manifest["yields"][0]
    assert table["in"] == 90 and table["reasons"]["licence_denied"] == 20
    held = read_manifest(tmp_path / "split-validation")
    assert 0 < len(held["functions"]) < 4
    rows = list(read_records(tmp_path / "split-validation.jsonl"))
    assert len(rows) == manifest["validation"]["records"] == held["records"]
    assert manifest["records"] + held["records"] == table["out"]
    lines = (tmp_path / "split.ledger.jsonl").read_text().splitlines()
    fates = Counter(json.loads(line)["reason"] for line in lines)
    assert fates["held_out_tool"] == table["repaired"] > 0
    train = PackedSource(split.out)
    ids = {id for i in range(len(train)) for id in train[i][1]}
    called = {c.name for r in (*a, *c) if r.id in ids for s in r.steps for c in s.tool_calls}
    assert called.isdisjoint(held["functions"]) and not ids & {r.id for r in rows}
    assert not list(tmp_path.glob("*.spool"))


def test_examples_that_show_a_held_out_function_stay_out(tmp_path, tokenizer_folder):
    names = [f"fn_{i}" for i in range(40)] + ["search", "lookup", "Get Weather"]
    known = Holdout(0.5, seed=1)
    known = replace(known, names=frozenset(re.sub(r"[\W_]", "", n).lower() for n in names if n in known))
    held, free = next(n for n in names if n in known), next(n for n in names if n not in known)
    shown = [
        {"query": "Do it.", "tool_calls": [{"name": "{}", "arguments": {}}]},
        'Q: Do it.\nA: {"tool_calls": [{"name": "{}", "arguments": {}}]}',
        "Do it. -> {}(a=1)",
        "Action: {}\nAction Input: {{}}",
        "<tool_call><name>{}</name></tool_call>",
        "call: {}\nend",
        'name = "{}"',
        {"answers": '[{"name": "{}", "arguments": {}}]'},
    ]
    tool = normalise_tool({"name": free, "description": "d"})
    for name in (held, free, held.upper().replace("_", "")):
        for shot in shown:
            text = json.dumps(shot).replace("{}", name, 1)
            record = Record(
                "1",
                "Do it.",
                (tool,),
                (Step(tool_calls=(ToolCall(free, {}),)),),
                few_shot_examples=(json.loads(text), "no"),
            )
            part, kept = known.assign(record)
            assert part == "train" and len(kept.few_shot_examples) == 1 + (name == free), shot
    # A word is no function: only where calls have their names.
    word = next(n for n in ("search", "lookup") if n in Holdout(0.5, 3) or n in Holdout(0.5, 4))
    seeded = next(Holdout(0.5, s) for s in (3, 4) if word in Holdout(0.5, s))
    seeded = replace(seeded, names=frozenset({word}))
    free = next(n for n in names if n not in seeded)
    record = replace(
        record, tools=(normalise_tool({"name": free}),), steps=(Step(tool_calls=(ToolCall(free, {}),)),)
    )
    kept = seeded.assign(replace(record, few_shot_examples=(f"I {word} for it", f"{word}(a=1)")))[1]
    assert kept.few_shot_examples == (f"I {word} for it",)

    # As a user meets it: nothing of it in what the build wrote.
    rows = [
        replace(r, few_shot_examples=(f"Example: {n}(x=1)",))
        for r in tiny_run.records(40)
        for n in tiny_run._NAMES[:1]
    ]
    write_records(tmp_path / "a.jsonl", rows)
    seed = next(
        s for s in range(99) if [n in Holdout(0.3, s) for n in tiny_run._NAMES] == [True] + [False] * 3
    )
    config = {
        "inputs": [str(tmp_path / "a.jsonl")],
        "tokenizer": str(tokenizer_folder),
        "out": str(tmp_path / "out"),
    }
    build(
        BuildConfig.model_validate({**config, "seq_len": 768, "seed": seed, "validation": {"functions": 0.3}})
    )
    fates = [json.loads(line) for line in (tmp_path / "out.ledger.jsonl").read_text().splitlines()]
    assert any("examples" in fate["detail"] for fate in fates)
    train = PackedSource(str(tmp_path / "out"))
    decode = load_tokenizer(tokenizer_folder).decode
    assert not any(tiny_run._NAMES[0] in decode(train[i][0].tokens) for i in range(len(train)))


def test_a_masked_function_is_held_out_like_the_function_it_was():
    holdout = Holdout(0.5, seed=1)
    names = [f"fn_{i}" for i in range(40)]
    held, free = next(n for n in names if n in holdout), next(n for n in names if n not in holdout)
    rng = np.random.default_rng(0)
    for name, wanted in ((held, "validation"), (free, "train")):
        tool = Tool(name, "Does it.", {"type": "object", "properties": {}, "required": []})
        record = Record("1", "Do it.", (tool,), (Step(tool_calls=(ToolCall(name, {}),)),))
        for _ in range(6):  # masked again and again: chance would put half of them on the other side
            record = mask_functions(record, rng, Context(AugmentConfig()))
            assert record.steps[0].tool_calls[0].name != name
            assert masks_in(record.lineage)[record.steps[0].tool_calls[0].name] == name
            assert holdout.assign(record)[0] == wanted
