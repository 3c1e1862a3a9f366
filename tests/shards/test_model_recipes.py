"""The data recipes of the released models: what the paper says of their mixtures holds in what they build."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny_run
from xlam_jax.config import load_config
from xlam_jax.format.record import Record, Step, write_records
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.shards.loader import PackedSource
from xlam_jax.shards.tokenize import load_tokenizer

CONFIGS = Path(__file__).parents[2] / "configs"
# Stop token and BOS of each family's template.
SPECIALS = {"fc-r": ("<｜begin▁of▁sentence｜>", "<|EOT|>"), "r": ("<s>", "</s>")}
MODELS = ["xlam-1b-fc-r", "xlam-7b-fc-r", "xlam-7b-r", "xlam-8x7b-r", "xlam-8x22b-r"]


@pytest.mark.parametrize("name", MODELS)
def test_recipe_builds_the_papers_mixture(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = "fc-r" if name.endswith("fc-r") else "r"
    calls = [
        replace(r, steps=tuple(replace(s, thought="I see.") for s in r.steps)) for r in tiny_run.records(60)
    ]
    chats = [
        Record(f"c{i}", f"Tell me about {i}.", (), (Step("Gladly."),), license="Apache-2.0")
        for i in range(50)
    ]
    for group, records in (("agent", calls[:20]), ("apigen", calls[20:]), ("instruct", chats)):
        half = len(records) // 2
        for i, part in enumerate((records[:half], records[half:])):
            folder = tmp_path / "runs" / "data" / group
            folder.mkdir(parents=True, exist_ok=True)
            write_records(folder / f"{i}.jsonl.gz", [replace(r, id=f"{group}-{r.id}") for r in part])
    denied = replace(calls[0], id="nc", license="CC-BY-NC-4.0")
    write_records(tmp_path / "runs" / "data" / "agent" / "9.jsonl.gz", [denied])
    tiny_run.make_tokenizer(tmp_path / "runs" / name / "base", SPECIALS[kind])
    config = load_config(BuildConfig, CONFIGS / name / "data.yaml", ["validation.functions=0"])
    manifest = build(config)
    percent = {i["path"].split("/")[2]: i["rows_percent"] for i in manifest["inputs"]}
    if kind == "fc-r":
        assert percent == pytest.approx({"apigen": 50, "agent": 50}, abs=2)
    else:
        assert 20 <= percent["instruct"] <= 30 and set(percent) == {"apigen", "agent", "instruct"}
    assert manifest["yields"][0]["reasons"] == {"licence_denied": 1}
    assert not any("-NC" in licence for licence in manifest["licences"])
    # Written as the released checkpoint reads it: with a thought exactly where it answers with one.
    row, _ = PackedSource(config.out)[0]
    text = load_tokenizer(tmp_path / "runs" / name / "base").decode(row.tokens)
    if kind == "fc-r":
        assert "### Response:" in text and '"thought"' not in text
    else:
        assert "[INST]" in text and '"thought"' in text
