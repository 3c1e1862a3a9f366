"""Pairs -> rows: what each answer is trained on, the two layouts, and every pair that is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny_run
from xlam_jax.errors import InputError
from xlam_jax.format.codec import get_codec
from xlam_jax.format.pair import Pair, read_pairs, write_pairs
from xlam_jax.format.record import Record, Step, Tool, ToolCall, write_records
from xlam_jax.records.pairs import NEGATIVES, build_pairs
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.preference import fill_pairs, pair_document
from xlam_jax.shards.tokenize import Encoded, EncodeError, load_tokenizer, single_id


def encoded(prompt, answer, tail=()):
    weights = [0.0] * len(prompt) + [1.0] * len(answer) + [0.0] * len(tail)
    return Encoded(np.array([*prompt, *answer, *tail], np.int32), np.array(weights, np.float32))


def test_layouts_by_hand():
    chosen, rejected = encoded([1, 2, 3], [4, 5, 9], [7]), encoded([1, 2, 3], [4, 6, 8, 9])
    shared = pair_document(chosen, rejected, "shared")
    assert [x.tolist() for x in shared] == [
        [1, 2, 3, 4, 5, 4, 6, 8],
        [2, 3, 4, 5, 9, 6, 8, 9],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [0, 1, 2, 3, 4, 3, 4, 5],
        [0, 0, 0, 3, 3, 4, 4, 4],
    ]
    separate = pair_document(chosen, rejected, "separate")
    assert [x.tolist() for x in separate] == [
        [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 8],
        [2, 3, 4, 5, 9, 2, 3, 4, 6, 8, 9],
        [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1],
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5],
        [1, 1, 1, 3, 3, 2, 2, 2, 4, 4, 4],
    ]
    row = fill_pairs([shared, shared], 20)
    assert row.segment_ids.tolist() == [1] * 8 + [2] * 8 + [0] * 4
    assert row.branches[16:].tolist() == [0] * 4 and not row.reference.any()


ids = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@given(ids, ids, ids)
def test_each_branch_with_the_common_part_is_its_document(prompt, a, b):
    """For every pair that is not refused, in both layouts: inputs, targets, weights and positions."""
    chosen, rejected = encoded(prompt, a), encoded(prompt, b)
    if any(x == y for x, y in [(a[: len(b)], b), (b[: len(a)], a)]):
        with pytest.raises(EncodeError) as e:
            pair_document(chosen, rejected)
        assert e.value.code == "no_difference"
        return
    for layout in ("separate", "shared"):
        doc = pair_document(chosen, rejected, layout)
        for one, codes in ((chosen, (0, 1, 3)), (rejected, (0, 2, 4))):
            mine = np.isin(doc.branches, codes)
            n = len(one.ids) - 1
            assert doc.tokens[mine].tolist() == one.ids[:-1].tolist()
            assert doc.targets[mine].tolist() == one.ids[1:].tolist()
            assert doc.loss_weights[mine].tolist() == one.weights[1:].tolist()
            assert doc.positions[mine].tolist() == list(range(n))


def test_earlier_turns_are_prompt():
    """What the model said before the last turn has no weight, though it has in SFT."""
    weights = np.array([0, 1, 1, 0, 0, 1, 1], np.float32)
    a, b = (Encoded(np.array([1, 2, 3, 4, 5, x, 9], np.int32), weights) for x in (6, 7))
    assert pair_document(a, b).loss_weights.tolist() == [0, 0, 0, 0, 1, 1] * 2


@pytest.mark.parametrize(
    ("chosen", "rejected", "code"),
    [
        (encoded([1, 2], [3, 9]), encoded([1, 2], [3, 9]), "no_difference"),
        (encoded([1, 2], [3, 9]), encoded([1, 4], [5, 9]), "prompt_differs"),
        (encoded([1, 2], [3, 9]), encoded([1, 2, 3], [5, 9]), "prompt_differs"),
    ],
)
def test_refused(chosen, rejected, code):
    with pytest.raises(EncodeError) as e:
        pair_document(chosen, rejected)
    assert e.value.code == code


def test_too_long_is_refused_not_cut():
    chosen, rejected = encoded([1] * 10, [2, 9]), encoded([1] * 10, [3, 9])
    assert len(pair_document(chosen, rejected, "shared", max_len=13).tokens) == 13
    with pytest.raises(EncodeError, match="22 positions, a row has 13"):
        pair_document(chosen, rejected, "separate", max_len=13)


# -- whole builds ----


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    write_records(root / "records.jsonl", tiny_run.records(60))
    build_pairs(root / "records.jsonl", root / "pairs.jsonl", corruptions=sorted(NEGATIVES))
    return root / "pairs.jsonl"


def built(pairs_file, tokenizer, out, **changes):
    values = {"inputs": [str(pairs_file)], "tokenizer": str(tokenizer), "out": str(out), "kind": "preference"}
    return build(BuildConfig(**{**values, "seq_len": 768, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["separate", "shared"])
def data(request, pairs_file, tokenizer_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "shards"
    return built(pairs_file, tokenizer_folder, out, pair_layout=request.param), PackedSource(out)


def documents_of(source):
    """(pair id, ids of the chosen document, ids of the rejected one, their weights) of every pair."""
    for i in range(len(source)):
        row, names = source[i]
        for k, name in enumerate(names, start=1):
            here = row.segment_ids == k
            sides = []
            for codes in ((0, 1, 3), (0, 2, 4)):
                mine = here & np.isin(row.branches, codes)
                ids = [int(row.tokens[mine][0]), *row.targets[mine].tolist()]
                assert ids[:-1] == row.tokens[mine].tolist()
                sides.append((ids, np.concatenate([[0], row.loss_weights[mine]])))
            yield name, *sides


def test_rows_hold_what_the_model_serves(data, pairs_file, tokenizer_folder):
    """The prompt's ids are those of the inference prompt (no seam), the answer's are the whole text's; one
    BOS; the last trained token of both answers is the stop token."""
    _, source = data
    tokenizer, codec = load_tokenizer(tokenizer_folder), get_codec()
    found = {pair.chosen.id: pair for pair in read_pairs(pairs_file)}
    seen = 0
    for name, *sides in documents_of(source):
        pair = found[name]
        for (ids, weights), record in zip(sides, (pair.chosen, pair.rejected_record), strict=True):
            texts = codec.prompt(record, len(record.steps) - 1), codec.render(record).text
            prompt, whole = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts)
            first = int(np.flatnonzero(weights)[0])
            assert ids[:first] == prompt
            assert ids == whole[: len(ids)] and (weights[first:] == 1).all()
            assert ids[-1] == single_id(tokenizer, codec.stop)
            assert ids[0] == single_id(tokenizer, codec.bos or "<|im_start|>") and ids[1] != ids[0]
        seen += 1
    assert seen == len(found) >= 30


def test_a_pair_lies_in_one_row_and_the_manifest_counts(data, pairs_file):
    manifest, source = data
    pairs = list(read_pairs(pairs_file))
    names = [name for i in range(len(source)) for name in source[i][1]]
    assert sorted(names) == sorted(pair.chosen.id for pair in pairs)
    assert manifest["kind"] == "preference" and manifest["records"] == len(pairs)
    assert manifest["max_row_records"] == max(len(source[i][1]) for i in range(len(source)))
    lengths = [[len(ids) - 1 for ids, _ in sides] for _, *sides in documents_of(source)]
    separate, facts = int(np.sum(lengths)), manifest["pairs"]
    if manifest["pair_layout"] == "shared":
        assert facts["saved_percent"] == round(100 * (1 - manifest["tokens"] / separate), 2) > 30
        assert facts["shareable_percent"] == 0
    else:
        assert manifest["tokens"] == separate and facts["saved_percent"] == 0
        assert facts["shareable_percent"] > 30


def test_both_layouts_hold_the_same_pairs(pairs_file, tokenizer_folder, tmp_path):
    found = []
    for layout in ("separate", "shared"):
        manifest = built(pairs_file, tokenizer_folder, tmp_path / layout, pair_layout=layout)
        rows = sorted((n, a[0], b[0]) for n, a, b in documents_of(PackedSource(tmp_path / layout)))
        found.append((rows, manifest["pairs"]))
    assert found[0][0] == found[1][0]
    assert found[0][1]["shareable_percent"] == found[1][1]["saved_percent"]
    assert found[0][1]["divergence"] == found[1][1]["divergence"] > 0


def record(id, answer, query="How many?"):
    tool = Tool("f", "Does.", {"type": "object", "properties": {"x": {"type": "integer"}}})
    return Record(
        id, query, (tool,), (Step(tool_calls=(ToolCall("f", {"x": answer}),)),), source="t", license="MIT"
    )


def test_the_ledger_says_why_a_pair_is_gone(tokenizer_folder, tmp_path):
    good = record("good", 1)
    pairs = [
        Pair(good, Step(tool_calls=(ToolCall("f", {"x": 2}),))),
        Pair(replace(good, id="same"), Step(tool_calls=(ToolCall("f", {"x": 1}),))),
        Pair(record("long", 1, "very " * 2000), Step(tool_calls=(ToolCall("f", {"x": 2}),))),
        Pair(replace(good, id="token"), Step(tool_calls=(ToolCall("f", {"x": "<|im_end|>"}),))),
        Pair(replace(good, id="licence", license="CC-BY-NC-4.0"), Step()),
    ]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    manifest = built(tmp_path / "pairs.jsonl", tokenizer_folder, tmp_path / "out", deny_licences=["*-NC-*"])
    assert manifest["records"] == 1
    lines = (tmp_path / "out.ledger.jsonl").read_text().splitlines()
    reasons = {row["id"]: row["reason"] for row in map(json.loads, lines)}
    assert reasons == {
        "good": "", "same": "no_difference", "long": "too_long", "token": "special_token_in_text",
        "licence": "licence_denied",
    }  # fmt: skip


def test_nothing_left_refuses_to_build(tokenizer_folder, tmp_path):
    write_pairs(tmp_path / "p.jsonl", [Pair(record("a", 1), Step(tool_calls=(ToolCall("f", {"x": 1}),)))])
    with pytest.raises(InputError, match=r"nothing left to train on.*no_difference 1"):
        built(tmp_path / "p.jsonl", tokenizer_folder, tmp_path / "out")


def test_a_held_out_function_takes_its_pairs_along(pairs_file, tokenizer_folder, tmp_path):
    """Pairs whose answers call held-out and other functions belong to neither side."""
    manifest = built(pairs_file, tokenizer_folder, tmp_path / "out", validation={"functions": 0.5}, seed=3)
    held = set(json.loads((tmp_path / "out-validation" / "manifest.json").read_text())["functions"])
    named = {name: sides for name, *sides in documents_of(PackedSource(tmp_path / "out"))}
    tokenizer = load_tokenizer(tokenizer_folder)
    for sides in named.values():
        for ids, _ in sides:
            text = tokenizer.decode(ids)
            assert not any(f'"{name}"' in text for name in held)
    kept = {pair.chosen.id for pair in read_pairs(tmp_path / "out-validation.jsonl")}
    assert kept and not kept & set(named) and manifest["validation"]["records"] == len(kept)


def test_the_layout_belongs_to_pairs():
    with pytest.raises(ValueError, match="pair_layout is for kind: preference"):
        BuildConfig(inputs=["x"], tokenizer="t", out="o", pair_layout="shared")
