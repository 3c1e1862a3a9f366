"""The whole stage: the same bytes however it runs, rates that hold, counts that add up."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.records.real_records import bfcl_records
from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Tool, ToolCall, get_codec, read_records, write_records
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.context import Context, drawn
from xlam_jax.records.augment.run import augment_file
from xlam_jax.records.augment.transforms import TRANSFORMS, calls_valid
from xlam_jax.records.engine import LocalEngine

REPO = Path(__file__).resolve().parents[2]
_KINDS = ("weather", "stock", "poem", "train", "hotel", "recipe", "match", "invoice", "museum", "volcano")


def make(i):
    """A row with one to three tools of different kinds, and a call of the first."""
    kinds = [_KINDS[(i + 3 * k) % len(_KINDS)] for k in range(1 + i % 3)]
    tools = tuple(
        Tool(
            f"{kind}_lookup{i % 7}",
            f"About one {kind}.",
            {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": f"where the {kind} is"},
                    "limit": {"type": "integer", "description": "how many", "default": 5},
                },
                "required": ["place"],
            },
        )
        for kind in kinds
    )
    call = ToolCall(tools[0].name, {"place": f"Town{i}", "limit": i})
    return Record(f"r{i}", f"Please tell me about it in Town{i}.", tools, (Step("", (call,)),), source="made")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("augment") / "in.jsonl"
    write_records(path, map(make, range(600)))
    return path


def test_bytes_do_not_depend_on_how_it_runs(tmp_path):
    write_records(source := tmp_path / "in.jsonl", map(make, range(200)))
    config = AugmentConfig(copies=2, seed=5)
    for name, engine, rows in (
        ("a", LocalEngine(1), 64), ("b", LocalEngine(2), 64), ("c", LocalEngine(1), 7)
    ):  # fmt: skip
        augment_file(source, tmp_path / name, config, engine, chunk_rows=rows)
    want = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == want == (tmp_path / "c").read_bytes()
    ledgers = [(tmp_path / f"{n}.ledger.jsonl").read_bytes() for n in "abc"]
    assert ledgers[0] == ledgers[1] == ledgers[2]
    for seed in ("1", "2"):
        out = tmp_path / f"hash{seed}"
        words = ["data", "augment", source, out, "--copies", "2", "--seed", "5"]
        subprocess.run(
            [sys.executable, "-m", "xlam_jax.cli.main", *map(str, words)],
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=REPO, check=True, capture_output=True,
        )  # fmt: skip
        assert out.read_bytes() == want
    augment_file(source, tmp_path / "d", AugmentConfig(copies=2, seed=6))
    assert (tmp_path / "d").read_bytes() != want


def test_rates_hold_and_counts_add_up(source, tmp_path):
    result = augment_file(source, tmp_path / "out", AugmentConfig(copies=2))
    records = list(read_records(tmp_path / "out"))
    entries = list(map(json.loads, (tmp_path / "out.ledger.jsonl").read_text().splitlines()))
    assert result["rows_in"] == 600 == len(entries) and {e["verdict"] for e in entries} == {"pass"}
    assert result["rows_out"] == len(records) == 600 + result["copies"]
    assert result["copies"] + sum(result["refused"].values()) + result["nothing_applied"] == 1200
    assert [r for r in records if "#aug" not in r.id] == [make(i) for i in range(600)]
    assert len({r.id for r in records}) == len(records)
    lineages = Counter(name for r in records for name in r.lineage)
    for row in result["transforms"]:
        rate, n = row["rate"], 1200
        assert abs(row["drawn"] - n * rate) <= 4.5 * (n * rate * (1 - rate)) ** 0.5
        assert row["drawn"] == row["applied"] + row["not_applicable"]
        assert row["not_applicable"] == sum(row["reasons"].values())
        assert row["rows_out"] == lineages[f"augment:{row['transform']}"]
    assert sum(row["applied"] for row in result["transforms"]) > 1200
    fates = Counter(
        name for e in entries for fates in json.loads(e["detail"]).values()
        for name, fate in fates.items() if fate == "applied"
    )  # fmt: skip
    assert fates == {row["transform"]: row["applied"] for row in result["transforms"] if row["applied"]}


def test_a_draw_hangs_on_nothing_else():
    one = Context(AugmentConfig())
    two = Context(make_config(AugmentConfig, {"rates": {"mask_functions": 0.9, "layout": 0.0}, "copies": 3}))
    for name in TRANSFORMS:
        if name in ("mask_functions", "layout") or name.startswith("rephrase_"):
            continue
        for index in range(40):
            a, b = drawn(one, name, index, 1), drawn(two, name, index, 1)
            assert (a is None) == (b is None)
            assert a is None or b is None or a.random() == b.random()


def test_only_what_is_asked_for_is_applied(source, tmp_path):
    rates = dict.fromkeys(TRANSFORMS, 0.0)
    nothing = augment_file(source, tmp_path / "no", make_config(AugmentConfig, {"rates": rates}))
    assert nothing["rows_out"] == 600 and nothing["nothing_applied"] == 600 and nothing["pool"] == 0
    alone = make_config(AugmentConfig, {"rates": rates | {"shuffle_tools": 1.0}, "keep_original": False})
    result = augment_file(source, tmp_path / "one", alone)
    assert result["rows_out"] == 400 and result["yields"][0]["reasons"] == {"no_copy": 200}
    for record in read_records(tmp_path / "one"):
        old = make(int(record.id.removeprefix("r").removesuffix("#aug1")))
        assert record.tools != old.tools and sorted(map(repr, record.tools)) == sorted(map(repr, old.tools))
        assert record.lineage == ("augment:shuffle_tools",) and record.steps == old.steps


def test_lines_that_are_no_records_go_to_the_ledger(tmp_path):
    path = tmp_path / "in.jsonl"
    write_records(path, [make(0)])
    with path.open("a") as f:
        f.write('not json\n{"id": "x"}\n')
    result = augment_file(path, tmp_path / "out", AugmentConfig())
    assert result["rows_in"] == 3 and result["yields"][0]["reasons"] == {"not_a_record": 2}


def test_bad_configs_are_clear_errors(source, tmp_path):
    with pytest.raises(InputError) as e:
        make_config(AugmentConfig, {}, ["rates.shuffle_tolls=0.5"])
    assert "shuffle_tools" in str(e.value)
    with pytest.raises(InputError):
        make_config(AugmentConfig, {}, ["rates.layout=1.5"])
    with pytest.raises(InputError) as e:
        augment_file(source, tmp_path / "x", make_config(AugmentConfig, {"rates": {"rephrase_query": 0.5}}))
    assert "base_url" in e.value.hint and not list(tmp_path.iterdir())


def test_real_rows_are_written_as_they_ask_and_read_back(tmp_path):
    path = tmp_path / "bfcl.jsonl"
    write_records(path, bfcl_records()[::3])
    originals = {r.id: r for r in read_records(path)}
    result = augment_file(path, tmp_path / "out", AugmentConfig(copies=1))
    assert result["copies"] > 0.9 * len(originals) and len(originals) > 300
    for record in read_records(tmp_path / "out"):
        if calls_valid(originals[record.id.removesuffix("#aug1")]):
            assert calls_valid(record)
        codec = get_codec().styled(record.style)
        step = record.steps[0]
        shown = record.format_instruction or codec.format_instruction
        assert shown in codec.format.instructions(False) and codec.prompt(record).count(shown) == 1
        answer = codec.render_calls(step.tool_calls, step.thought)
        assert codec.render(record).text.startswith(codec.prompt(record) + answer)
        assert codec.parse(answer).tool_calls == step.tool_calls
