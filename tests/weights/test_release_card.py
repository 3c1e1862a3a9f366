"""The model card: made of ledgers, read by the hub's own parser, and refused where licences do not agree."""

import json
import re
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from run_folders import write_run
from tiny_hf import files, write
from transformers import AutoTokenizer
from typer.testing import CliRunner

from tests import tiny, tiny_run
from xlam_jax.cli import convert
from xlam_jax.errors import InputError
from xlam_jax.format import get_codec
from xlam_jax.models.named import named_config
from xlam_jax.weights import check_files, load_hf, save_hf
from xlam_jax.weights.licences import Licence, Part, effective, licence, licences_of_text
from xlam_jax.weights.tokenizer_files import copy_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(*args) -> str:
    result = CliRunner().invoke(convert.app, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder with the ledgers that training leaves, without the training: tests/e2e has that."""
    root = tmp_path_factory.mktemp("trained")
    base = tiny_run.make_model(root / "base", tiny_run.make_tokenizer(root / "t"), num_layers=2)
    (base / "LICENSE").write_text("Apache License\nVersion 2.0\n")
    cfg, params = load_hf(base)
    codec = get_codec()
    write_run(root / "run", params, cfg, codec=codec.settings)
    (root / "run/checkpoints/1").rename(root / "run/checkpoints/7")
    copy_tokenizer(base, root / "run")
    config = {
        "model": str(base),
        "out": str(root / "run"),
        "objective": {"kind": "sft"},
        "optim": {"lr": 1e-4},
    }
    (root / "run/config.yaml").write_text(yaml.safe_dump(config | {"batch": {"rows": 8}}))
    ledgers = {
        "versions.json": {
            "xlam-jax": "0.1.0",
            "devices": "8 x cpu",
            "git": {"commit": COMMIT, "dirty": False},
        },
        "run.json": {"total_steps": 9, "started": 1_700_000_000},
        "data.manifest.json": manifest({"xlam-60k": {"CC-BY-4.0": 3}, "own": {"MIT": 2}}),
    }
    for name, content in ledgers.items():
        (root / "run" / name).write_text(json.dumps(content))
    lines = [{"step": s, "loss": 2.0 - s / 10, "eval_loss": 3.0 - s / 10} for s in (5, 7, 9)]
    (root / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def manifest(sources):
    numbers = {"rows": 4, "records": 5, "tokens": 600, "target_tokens": 90, "seq_len": 256}
    return {"fingerprint": "f" * 64, "kind": "sft", **numbers, "source_licences": sources}


@pytest.fixture
def work(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    config = tmp_path / "w/run/config.yaml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path / "w")))
    return tmp_path / "w"


def result(weights, ast, constrained=False):
    shares = {"n": 64, "parsable": 0.9, "ast": ast, "ast_low": ast - 0.1, "ast_high": ast + 0.1}
    about = {
        "dataset": "heldout.jsonl",
        "model": "x",
        "weights_xxh3_128": weights,
        "constrained": constrained,
    }
    return {**about, "summary": {**shares, "by_category": {"simple": shares}}}


def test_a_card_is_what_the_ledgers_say_and_the_hub_reads_it(work):
    out = work / "out"
    text = run("to-hf", work / "run", out, "--base-model", "owner/base")
    assert "carried: BASE_README.md, LICENSE" in text
    weights = json.loads((out / "xlam.json").read_text())["weights_xxh3_128"]
    report = work / "report.json"
    report.write_text(json.dumps({"free": result(weights, 0.5), "constrained": result(weights, 0.75, True)}))
    assert "2 results" in run("card", out, "--eval", report)
    assert check_files(out) == len(files(out)) - 1

    card = ModelCard.load(out / "README.md")
    data = card.data
    assert (data.license, data.base_model, data.library_name) == ("cc-by-4.0", ["owner/base"], "transformers")
    assert data.base_model_relation == "finetune" and data.pipeline_tag == "text-generation"
    assert data.datasets == ["Salesforce/xlam-function-calling-60k"] and "function-calling" in data.tags
    assert data.model_name == "base-sft" and data.language is None  # nobody said which
    assert [(r.metric_value, r.dataset_name, r.dataset_config) for r in data.eval_results] == [
        (50.0, "heldout.jsonl", "free"),
        (75.0, "heldout.jsonl", "constrained"),
    ]
    first = data.eval_results[0]
    assert first.metric_args == {"n": 64, "interval": "Wilson, 95 %", "low": 40.0, "high": 60.0}
    assert "95 % interval 40.0 to 60.0, n = 64" in first.metric_name
    assert metadata_load(out / "README.md") == yaml.safe_load(str(card).split("---")[1])

    _, params = load_hf(out)
    count = sum(x.size for x in tiny_leaves(params))
    for said in (
        f"({count:,})",
        COMMIT,
        weights,
        "f" * 64,
        "7 of 9",
        "2023-11-14",
        "1.3000",
        "2.3000",
        "256 tokens",
    ):
        assert said in card.text, said
    assert "| own | 2 | MIT (2) |" in card.text and "heldout.jsonl | free | 64 | 90.0 | 50.0 |" in card.text
    assert str(work) not in card.content + (out / "provenance.json").read_text()

    # The prompt that is shown is the one that the folder's own template makes.
    tokenizer = AutoTokenizer.from_pretrained(str(out))
    code = re.search(r"^tools = (\[.*?^\])", card.text, re.S | re.M)
    assert code
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    prompt = tokenizer.apply_chat_template(
        messages, tools=json.loads(code[1]), tokenize=False, add_generation_prompt=True
    )
    assert f"```text\n{prompt}\n```" in card.text
    compile(card.text.split("```python\n")[1].split("```")[0], "card", "exec")


def tiny_leaves(params):
    import jax

    return jax.tree.leaves(params)


def test_results_of_other_weights_are_refused(work):
    run("to-hf", work / "run", work / "out")
    before = files(work / "out")
    for content, word in (
        (result("0" * 32, 0.5), "0000, this folder"),
        (result(None, 0.5), "does not name"),
        ({"seconds": 1}, "no result"),
        (result("0" * 32, 7.0), "no possible result"),
        (result("0" * 32, float("nan")), "no possible result"),
        (result("0" * 32, 0.95), "no possible result"),  # its interval ends above 1
    ):
        (work / "r.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=word):
            run("card", work / "out", "--eval", work / "r.json")
    assert files(work / "out") == before


def test_licences_that_do_not_agree_are_refused_unless_one_is_named(work):
    path = work / "run/data.manifest.json"
    for sources, words in (
        (
            {"apigen-mt": {"CC-BY-NC-4.0": 3}, "own": {"MIT": 2}},
            ["cc-by-nc-4.0", "base model base: apache-2.0"],
        ),
        ({"web": {"unknown": 3}}, ["data of web: unknown", "base model base: apache-2.0"]),
    ):
        path.write_text(json.dumps(manifest(sources)))
        with pytest.raises(InputError) as found:
            run("to-hf", work / "run", work / "out")
        told = f"{found.value}"
        assert found.value.exit_code == 2 and all(w in told for w in words) and "--license" in told
        assert not list(work.glob("out*"))
    run("to-hf", work / "run", work / "out", "--license", "CC-BY-NC-4.0")
    card = ModelCard.load(work / "out/README.md")
    assert card.data.license == "cc-by-nc-4.0" and "named by who released it" in card.text
    run("from-hf", work / "out", work / "native")  # decided once
    run("to-hf", work / "native", work / "again")
    assert files(work / "again") == files(work / "out")


def test_a_base_model_that_is_not_found_is_said_to_be(work):
    (work / "run/base_provenance.json").unlink(missing_ok=True)
    config = work / "run/config.yaml"
    config.write_text(config.read_text().replace(str(work / "base"), "elsewhere/base"))
    assert "elsewhere/base" in config.read_text()
    with pytest.raises(InputError, match=r"base model base \(its folder is not found from here\): unknown"):
        run("to-hf", work / "run", work / "out")


def test_without_ledgers_all_is_unknown(work):
    for name in ("config.yaml", "versions.json", "run.json", "data.manifest.json", "metrics.jsonl"):
        (work / "run" / name).unlink()
    run("to-hf", work / "run", work / "out")
    card = ModelCard.load(work / "out/README.md")
    assert card.data.license == "unknown" and card.data.base_model is None and card.data.eval_results is None
    for key in ("objective", "begun", "last loss", "commit", "language"):
        assert f"| {key} | unknown |" in card.text, key
    assert "no data manifest" in card.text and "no report was given" in card.text


def test_a_converted_mixtral_is_no_finetune_and_counts_its_active_parameters(tmp_path):
    cfg = named_config("tiny-mixtral")
    src = tmp_path / "models--owner--twin" / "snapshots" / ("a" * 40)
    save_hf(tiny.params(cfg), cfg, src)
    (src / "README.md").write_text(
        "---\nlicense: other\nlicense_name: deepseek\nlicense_link: LICENSE\nlanguage: fr\n---"
    )
    (src / "LICENSE").write_text("terms")
    run("to-hf", src, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out/README.md")
    data = card.data
    assert (data.license, data.license_name, data.license_link) == ("other", "deepseek", "LICENSE")
    assert (
        data.base_model == ["owner/twin"]
        and data.get("base_model_relation") is None
        and data.language == ["fr"]
    )
    total = sum(t.size for t in tiny_leaves(tiny.params(cfg)))
    expert = 3 * cfg.hidden_size * cfg.intermediate_size
    idle = cfg.num_layers * (cfg.moe.num_experts - cfg.moe.experts_per_token) * expert
    assert f"({total:,})" in card.text and f"({total - idle:,}) active" in card.text
    assert "a" * 40 in card.text and "not trained here" in card.text


def test_what_is_no_name_and_no_folder(tmp_path):
    write("llama", tmp_path / "m")
    for args, word in (
        (("to-hf", tmp_path / "m", tmp_path / "out", "--base-model", "plain"), "no name on the hub"),
        (("to-hf", tmp_path / "m", tmp_path / "out", "--name", "a: b\n# c"), "no name for a heading"),
        (("card", tmp_path), "no released folder"),
    ):
        with pytest.raises(InputError, match=word):
            run(*args)
    (tmp_path / "m/provenance.json").write_text('{"format_version": 1}')
    with pytest.raises(InputError, match="provenance"):
        run("to-hf", tmp_path / "m", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("apache-2.0", "MIT", "CC0-1.0"), "apache-2.0"),
        (("mit", "cc-by-4.0"), "cc-by-4.0"),
        (("llama3", "Apache-2.0"), "llama3"),
        (("apache-2.0", "GPL-2.0-only"), "gpl-2.0"),
        (("unknown", "unknown"), "unknown"),
        (("cc-by-nc-4.0", "CC-BY-NC-4.0"), "cc-by-nc-4.0"),
        (("llama3", "gemma"), None),
        (("llama3", "cc-by-sa-4.0"), None),
        (("apache-2.0", "cc-by-nc-4.0"), None),
        (("apache-2.0", "unknown"), None),
        (("apache-2.0", "My Own Licence"), None),
    ],
)
def test_the_strictest_licence_or_a_conflict(names, found):
    parts = [Part(f"part {i}", licence(name)) for i, name in enumerate(names)]
    if found:
        assert effective(parts).name == found
        return
    with pytest.raises(InputError) as e:
        effective(parts)
    assert all(f"part {i}: {p.licence.name}" in e.value.what for i, p in enumerate(parts))


def test_licence_files_are_known_by_their_text():
    from importlib.metadata import files as of

    (path,) = [p for p in of("transformers") if p.name == "LICENSE"]
    assert licences_of_text(path.read_text()) == ["apache-2.0"]
    assert licences_of_text("META LLAMA 3 COMMUNITY LICENSE AGREEMENT") == ["llama3"]
    assert licences_of_text("my own terms") == []
    assert Licence("My Terms", "TERMS.md").card() == {
        "license": "other",
        "license_name": "my-terms",
        "license_link": "TERMS.md",
    }
