"""Shared prompts: every record is found again whole, at its own positions, and the beginning stands there once."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from xlam_jax.apigen.generate import GenerateConfig, Generator, separate
from xlam_jax.apigen.library import load_library
from xlam_jax.config import make_config
from xlam_jax.format.record import write_records
from xlam_jax.shards.batch import ForkBatch
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.shards.forks import common_prompt, fill_forks, group, length_of
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.pack import Document


def doc(prompt, answer):
    ids = np.asarray([*prompt, *answer], np.int32)
    weights = np.zeros(len(ids) - 1, np.float32)
    weights[len(prompt) - 1 :] = 1.0
    return Document(ids[:-1], ids[1:], weights)


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=12)
documents = st.lists(
    st.builds(doc, prompts, st.lists(st.integers(0, 9), min_size=1, max_size=5)), min_size=1, max_size=14
)


def records_of(row):
    """(tokens, targets, weights, positions) of every record of a forked row."""
    for segment in range(1, row.segment_ids.max() + 1):
        here = row.segment_ids == segment
        for fork in range(1, row.forks[here].max() + 1):
            mine = here & ((row.forks == 0) | (row.forks == fork))
            weights = np.where(row.forks[mine] == fork, row.loss_weights[mine], 0)
            yield row.tokens[mine], row.targets[mine], weights, row.positions[mine]


def same(found, document):
    tokens, targets, weights, positions = found
    own = weights != 0
    return (
        np.array_equal(tokens, document.tokens)
        and np.array_equal(targets[own], document.targets[document.loss_weights != 0])
        and np.array_equal(weights, document.loss_weights)
        and np.array_equal(positions, np.arange(len(tokens)))
    )


@given(documents, st.integers(16, 60))
@examples(150)
def test_every_record_is_found_again(docs, seq_len):
    groups = group(docs, seq_len)
    assert sorted(i for members in groups for i in members) == list(range(len(docs)))
    for members in groups:
        found = [docs[i] for i in members]
        assert length_of(found) <= seq_len
        row = fill_forks([found], seq_len)
        assert all(same(a, b) for a, b in zip(records_of(row), found, strict=True))
        assert int((row.segment_ids > 0).sum()) == length_of(found)
        assert not row.loss_weights[(row.forks == 0)].any()


def test_by_hand():
    docs = [doc([7, 7, 7, 1], [8, 9]), doc([7, 7, 7, 2], [8]), doc([4, 4, 4, 4], [5])]
    assert group(docs, 16) == [[2], [0, 1]]
    assert common_prompt(docs[:2]) == 3 and length_of(docs[:2]) == 3 + 2 + 1
    row = fill_forks([docs[:2], docs[2:]], 12)
    assert row.tokens.tolist() == [7, 7, 7, 1, 8, 2, 4, 4, 4, 4, 0, 0]
    assert row.targets.tolist()[3:6] == [8, 9, 8]
    assert row.loss_weights.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 2, 3, 0, 0]
    assert row.forks.tolist() == [0, 0, 0, 1, 1, 2, 1, 1, 1, 1, 0, 0]
    assert row.segment_ids.tolist() == [1] * 6 + [2] * 4 + [0, 0]


def test_a_beginning_that_all_share_is_no_reason_to_join():
    """Instructions are common to every prompt; what joins records is the larger part of it, their tools."""
    head = [1, 1, 1]
    docs = [doc(head + [t] * 9 + [q], [5]) for t in (2, 3) for q in (6, 7, 8)]
    assert sorted(map(sorted, group(docs, 64))) == [[0, 1, 2], [3, 4, 5]]


def test_build_shares_the_tools_of_separate_questions(tmp_path, tokenizer_folder):
    config = GenerateConfig(turns=(3, 5), ask="separately")
    conversations = [Generator(load_library(), config, "train", 1).row(i) for i in range(4)]
    records = [one for record in conversations for one in separate(record)]
    assert len(records) == sum(len(r.steps) for r in conversations)
    assert all(len(r.steps) == 1 and not r.steps[0].user_input for r in records)
    assert len({r.id for r in records}) == len(records)
    write_records(tmp_path / "in.jsonl", records)
    built = {}
    for share in (False, True):
        settings = {
            "inputs": [str(tmp_path / "in.jsonl")],
            "tokenizer": str(tokenizer_folder),
            "seq_len": 4096,
        }
        out = str(tmp_path / f"out{share}")
        built[share] = build(make_config(BuildConfig, {**settings, "out": out, "share_prompts": share}, []))
    assert built[True]["records"] == built[False]["records"] == len(records)
    assert built[True]["target_tokens"] == built[False]["target_tokens"]
    assert built[True]["tokens"] < 0.6 * built[False]["tokens"]
    row, ids = PackedSource(tmp_path / "outTrue", verify=True)[0]
    assert isinstance(row, ForkBatch) and set(ids) <= {r.id for r in records}
    manifest = json.loads((tmp_path / "outTrue" / "manifest.json").read_text())
    assert manifest["share_prompts"] is True and manifest["fingerprint"] != built[False]["fingerprint"]
