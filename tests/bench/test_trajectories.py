"""Counted by hand: what a row per turn costs over a trajectory."""

from benchmarks.trajectories import bench_trajectories
from tests import tiny_run
from xlam_jax.format.codec import get_codec
from xlam_jax.format.record import write_records
from xlam_jax.shards.build import CodecConfig
from xlam_jax.shards.tokenize import load_tokenizer


def test_tokens_of_both_ways(tmp_path):
    folder = tiny_run.make_tokenizer(tmp_path / "tokenizer")
    records = tiny_run.records(40, seed=5)
    write_records(tmp_path / "r.jsonl", records)
    found = bench_trajectories(tmp_path / "r.jsonl", folder, CodecConfig(), 1024)

    codec, tokenizer = get_codec(), load_tokenizer(folder)
    whole = turns = 0
    for record in records:
        rendered = codec.render(record)
        whole += len(tokenizer(rendered.text, add_special_tokens=False)["input_ids"])
        for span in rendered.spans:
            if span.kind == "assistant":  # the row of a turn is all that came before, and the turn
                turns += len(tokenizer(rendered.text[: span.end], add_special_tokens=False)["input_ids"])
    # The newline after a last answer trains nothing: it is part of the trajectory's row only.
    assert (found["records"], found["turn_tokens"]) == (40, turns)
    assert found["trajectory_tokens"] == whole
    assert found["saved_percent"] == round(100 * (1 - whole / turns), 1) > 0
    assert found["turn_tokens_padded"] == 1024 * sum(len(r.steps) for r in records)
