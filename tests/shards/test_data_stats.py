"""`xlam data stats`: counts against hand-counted rows and against NumPy, the same on every engine."""

import gzip
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from tests import tiny_run
from xlam_jax.cli import data
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Style, ToolCall, get_codec, write_records
from xlam_jax.records.engine import LocalEngine
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.stats import Counts, distribution, record_stats
from xlam_jax.shards.tokenize import load_tokenizer

HAND = [
    Record("a", "q", (), (Step("t", (ToolCall("f", {}), ToolCall("g", {}))), Step()), "", "", (), "s", "MIT"),
    Record("b", "q", (), (Step("", (ToolCall("f", {}),)),), source="s"),
    Record("c", "q", (), (Step(),), source="[red]u[/blue]\x1b[31m", style=Style(layout="xml")),
]


@pytest.fixture
def hand(tmp_path):
    write_records(tmp_path / "hand.jsonl", HAND)
    with (tmp_path / "hand.jsonl").open("a") as f:
        f.write("no json\n" + json.dumps({"id": "d"}) + "\n")
    return tmp_path / "hand.jsonl"


def stats(*arguments):
    return CliRunner().invoke(data.app, ["stats", *map(str, arguments)])


def test_counted_by_hand(hand, tmp_path):
    result = stats(hand, "--json", tmp_path / "o.json")
    assert result.exit_code == 0, result.output
    assert "[red]u[/blue]␛[31m" in result.output and "\x1b[31m" not in result.output
    found = json.loads((tmp_path / "o.json").read_text())["records"]
    totals = {k: v for k, v in found.items() if isinstance(v, int)}
    assert totals == {
        "rows": 5,
        "turns": 4,
        "turns_without_call": 2,
        "rows_without_call": 1,
        "rows_with_thoughts": 1,
        "functions": 2,
    }
    assert found["refused"] == {"not_a_record": 2}
    assert found["sources"] == {"s": 2, HAND[2].source: 1}
    assert found["licences"] == {"unknown": 2, "MIT": 1}
    assert found["styles"] == {"xlam-json/brackets": 2, "xlam-json/xml": 1}
    assert found["top_functions"] == {"f": 2, "g": 1}
    calls = found["distributions"]["calls"]
    assert (calls["mean"], calls["min"], calls["p50"], calls["max"]) == (1.0, 0, 1, 2)
    assert calls["histogram"] == [{"from": k, "to": k, "rows": 1} for k in range(3)]
    texts = [get_codec().styled(r.style).render(r).text for r in HAND]
    assert found["distributions"]["characters"]["max"] == max(map(len, texts))


def test_quantiles_are_numpy_s():
    rng = np.random.default_rng(0)
    for values in (rng.integers(0, 50, 999), rng.lognormal(6, 2, 5000).astype(int), np.array([7])):
        found = distribution(Counter(values.tolist()))
        for q in (5, 50, 95, 99):
            assert found[f"p{q}"] == np.quantile(values, q / 100, method="inverted_cdf")
        assert found["mean"] == pytest.approx(values.mean())
        bins = found["histogram"]
        assert 1 <= len(bins) <= 13 and sum(b["rows"] for b in bins) == len(values)
        for b in bins:
            assert b["rows"] == np.count_nonzero((values >= b["from"]) & (values <= b["to"]))


def test_tokens_and_refusals(tmp_path, tokenizer_folder):
    records = [*tiny_run.records(20), replace(HAND[0], query="<|im_end|>"), replace(HAND[0], steps=())]
    write_records(tmp_path / "r.jsonl.gz", records)
    counts = record_stats([tmp_path / "r.jsonl.gz"], get_codec(), str(tokenizer_folder))
    tokenizer = load_tokenizer(tokenizer_folder)
    texts = [get_codec().render(r).text for r in records[:-2]]
    assert counts.tokens == Counter(len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts)
    assert counts.refused == {"special_token_in_text": 1, "no_label": 1}
    assert 0 < sum(counts.trained.elements()) < sum(counts.tokens.elements())
    with pytest.raises(InputError, match="no single token"):
        record_stats([tmp_path / "r.jsonl.gz"], get_codec(template="llama-3"), str(tokenizer_folder))


def test_every_engine_and_split_counts_alike(tmp_path):
    write_records(tmp_path / "a.jsonl", tiny_run.records(700))
    write_records(tmp_path / "b.jsonl", tiny_run.records(300, seed=1))
    both = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    one, two = record_stats(both, get_codec()), record_stats(both, get_codec(), engine=LocalEngine(2))
    assert one == two and one.rows["rows"] == 1000
    apart = Counts()
    for path in both:
        apart.add(record_stats([path], get_codec()))
    assert apart == one


def test_shards(data_folder, tmp_path):
    result = stats(data_folder, "--json", tmp_path / "o.json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads((tmp_path / "o.json").read_text())["shards"]
    source = PackedSource(data_folder)
    rows = [source[k] for k in range(len(source))]
    assert (
        found["records"] == 40 and found["sources"] == {"tiny": 40} and found["licences"] == {"CC0-1.0": 40}
    )
    documents = found["distributions"]["tokens of a document"]
    assert documents["mean"] * 40 == pytest.approx(found["tokens"])
    assert found["distributions"]["documents of a row"]["max"] == max(len(ids) for _, ids in rows)
    trained = found["distributions"]["trained tokens of a document"]
    assert trained["mean"] * 40 == pytest.approx(found["target_tokens"])
    assert "tokenise" in result.output


def test_dropped_rows_of_shards_are_told(tmp_path, tokenizer_folder):
    from xlam_jax.shards.build import BuildConfig, build

    write_records(tmp_path / "r.jsonl", [*tiny_run.records(9), replace(HAND[0], query="long " * 999)])
    config = {"inputs": [str(tmp_path / "r.jsonl")], "tokenizer": str(tokenizer_folder), "seq_len": 512}
    build(BuildConfig(**config, out=str(tmp_path / "out")))  # type: ignore[arg-type]
    result = stats(tmp_path / "out", tmp_path / "r.jsonl", "--json", tmp_path / "o.json")
    assert "too_long 1" in result.output
    assert set(json.loads((tmp_path / "o.json").read_text())) == {"shards", "records"}


def test_bad_paths(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        assert isinstance(stats(path).exception, InputError)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    line = json.dumps(HAND[0].to_json()).encode() + b"\n"
    with gzip.open(tmp_path / "many.jsonl.gz", "wb", compresslevel=1) as f:
        f.write(line * 8_000)
    me, seen = psutil.Process(), []
    counts = record_stats(
        [tmp_path / "many.jsonl.gz"], get_codec(), progress=lambda n: seen.append(me.memory_info().rss)
    )
    assert counts.rows["rows"] == 8_000
    assert max(seen) - seen[len(seen) // 4] < 8 << 20
