"""From Records to a data folder: counts that add up, refusals with codes, nothing half-written."""

import json
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests import tiny_run
from xlam_jax.cli.data_build import register_build
from xlam_jax.config import make_config
from xlam_jax.errors import InputError
from xlam_jax.format.codec import get_codec
from xlam_jax.format.record import write_records
from xlam_jax.shards.build import BuildConfig, CodecConfig, build
from xlam_jax.shards.folder import read_manifest
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.tokenize import encode, load_tokenizer


@pytest.fixture
def config(tmp_path, tokenizer_folder):
    source = tmp_path / "in.jsonl"
    write_records(source, tiny_run.records(30))
    return BuildConfig(
        inputs=[str(source)], tokenizer=str(tokenizer_folder), out=str(tmp_path / "out"), seq_len=512
    )


def ledger(config):
    return [json.loads(line) for line in open(config.out + ".ledger.jsonl", encoding="utf-8")]


def test_counts_add_up_and_every_document_is_found_again(config, tokenizer_folder):
    manifest = build(config)
    source = PackedSource(config.out, verify=True)
    tokenizer, codec = load_tokenizer(tokenizer_folder), get_codec()
    wanted = {r.id: encode(codec.render(r), tokenizer) for r in tiny_run.records(30)}
    seen, real, targets = [], 0, 0
    for i in range(len(source)):
        row, ids = source[i]
        assert row.tokens.shape == (512,)
        for segment, id in enumerate(ids, 1):
            here = row.segment_ids == segment
            n = int(here.sum())
            assert row.tokens[here].tolist() == wanted[id].ids[:n].tolist()
            assert row.targets[here].tolist() == wanted[id].ids[1 : n + 1].tolist()
            assert row.loss_weights[here].sum() == wanted[id].weights.sum()
            seen.append(id)
        real += int((row.segment_ids > 0).sum())
        targets += int(row.loss_weights.sum())
    assert sorted(seen) == sorted(wanted)
    assert (manifest["records"], manifest["rows"]) == (30, len(source))
    assert (manifest["tokens"], manifest["target_tokens"]) == (real, targets)
    assert manifest["tokens"] + manifest["padding"] == manifest["rows"] * 512
    assert manifest["licences"] == {"CC0-1.0": 30} and manifest["sources"] == {"tiny": 30}
    assert manifest["source_licences"] == {"tiny": {"CC0-1.0": 30}}
    assert manifest["max_row_targets"] == max(
        (source[i][0].loss_weights != 0).sum() for i in range(len(source))
    )
    padded = [len(set(source[i][0].segment_ids.tolist())) for i in range(len(source))]
    assert manifest["max_row_segments"] == max(padded) > 1
    assert manifest["yields"] == [
        {"stage": "tokenise", "in": 30, "out": 30, "repaired": 0, "dropped": 0, "reasons": {}}
    ]
    assert len(ledger(config)) == 30


def test_same_input_same_bytes_and_another_seed_other_rows(config):
    first = build(config)
    again = build(config)
    assert [s["sha256"] for s in again["shards"]] == [s["sha256"] for s in first["shards"]]
    assert again["fingerprint"] == first["fingerprint"]
    moved = build(config.model_copy(update={"out": config.out + "2", "rows_per_shard": 3}))
    assert len(moved["shards"]) > 1 and moved["rows"] == first["rows"]
    assert build(config.model_copy(update={"seed": 1}))["fingerprint"] != first["fingerprint"]


def test_refused_rows_stand_in_the_ledger(config):
    rows = tiny_run.records(6)
    rows[0] = replace(rows[0], query="far too long " * 400)
    rows[1] = replace(rows[1], query="what does <|im_end|> mean?")
    rows[2] = replace(rows[2], steps=())
    write_records(config.inputs[0], rows)
    manifest = build(config)
    assert manifest["yields"][0]["reasons"] == {"too_long": 1, "special_token_in_text": 1, "no_label": 1}
    assert manifest["records"] == 3
    fates = {e["id"]: (e["verdict"], e["reason"]) for e in ledger(config)}
    assert fates["r0"] == ("dropped", "too_long") and fates["r5"] == ("pass", "")


def test_every_row_too_long_is_an_error_with_counts(config):
    with pytest.raises(InputError, match=r"all 30 rows were refused \(too_long 30\)") as error:
        build(config.model_copy(update={"seq_len": 16}))
    assert "seq_len" in error.value.hint
    assert not Path(config.out).exists()
    assert len(ledger(config)) == 30


def test_tokenizer_without_the_stop_token(config, tmp_path):
    tokenizer = tiny_run.make_tokenizer(tmp_path / "t", specials=("<|endoftext|>",))
    with pytest.raises(InputError, match=r"'<\|im_end\|>', the stop token"):
        build(config.model_copy(update={"tokenizer": str(tokenizer)}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "t"]


def test_bad_record_names_its_line(config, tmp_path):
    with open(config.inputs[0], "a", encoding="utf-8") as f:
        f.write('{"id": "x", "query": 3, "tools": [], "steps": []}\n')
    with pytest.raises(InputError) as error:
        build(config)
    assert error.value.where.endswith("in.jsonl:31")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_changed_missing_and_cut_shards_are_found(config, tmp_path):
    build(config)
    shard = tmp_path / "out" / "rows-00000.arrayrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="bytes, the manifest says"):
        PackedSource(config.out)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    shard.write_bytes(flipped)
    with pytest.raises(InputError, match="was changed"):
        PackedSource(config.out, verify=True)
    shard.unlink()
    with pytest.raises(InputError, match="missing"):
        PackedSource(config.out)
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        PackedSource(tmp_path)


def test_a_manifest_edited_by_hand_is_refused(config, tmp_path):
    build(config)
    path = tmp_path / "out" / "manifest.json"
    path.write_text(path.read_text().replace('"seq_len": 512', '"seq_len": 256'))
    with pytest.raises(InputError, match="edited"):
        read_manifest(tmp_path / "out")


def test_a_foreign_folder_is_not_replaced(config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="no data folder"):
        build(config)
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_full_disk_keeps_the_old_folder(config, tmp_path):
    """A file-size limit stands in for a full disk: the same write fails in the same place."""
    before = build(config)
    write_records(config.inputs[0], tiny_run.records(30, seed=5))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(InputError, match="disk is full"):
            build(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_manifest(config.out, full=True)["fingerprint"] == before["fingerprint"]
    assert not (tmp_path / "out.partial").exists()


def test_command(config, tmp_path):
    (tmp_path / "c.yaml").write_text(f"inputs: [{config.inputs[0]}]\ntokenizer: {config.tokenizer}\nout: x\n")
    app = typer.Typer()
    register_build(app)
    app.command()(lambda: None)
    args = ["build", str(tmp_path / "c.yaml"), f"out={tmp_path / 'o'}", "seq_len=512"]
    result = CliRunner().invoke(app, [*args, "--json", str(tmp_path / "r.json")], catch_exceptions=False)
    assert result.exit_code == 0 and "yields" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["records"] == 30
    assert json.loads((tmp_path / "o/manifest.json").read_text())["seq_len"] == 512


def test_a_preset_is_the_codec_of_its_checkpoints(tmp_path):
    codec = CodecConfig(preset="xlam-1-fc-r").make()
    assert codec.template == "deepseek-coder" and codec.task_instruction.startswith("You are an expert in")
    # What the manifest carries makes the same codec again.
    assert get_codec(**json.loads(json.dumps(codec.settings))) == codec
    with pytest.raises(InputError, match="leaves no choice of thought"):
        make_config(CodecConfig, {"preset": "xlam-1-fc-r", "thought": True})
    with pytest.raises(InputError) as e:
        CodecConfig(preset="xlam-1-fcr").make()
    assert e.value.hint == "xlam-1-fc-r"
