"""`xlam call` and `xlam eval` on a tiny random model: files, exit classes, messages."""

import json
import subprocess
import sys
import time

import jax
import pytest
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from tests import tiny
from tests.records.chat_server import ChatServer
from xlam_jax.cli import call as call_module
from xlam_jax.cli import eval as eval_module
from xlam_jax.errors import InputError, WorkError
from xlam_jax.format import Record, Step, ToolCall, normalise_tool, write_records
from xlam_jax.llm import LLMError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import LoraConfig, init_adapters
from xlam_jax.weights import read_config, save_hf
from xlam_jax.weights.peft_out import save_peft

# The one legal answer is a handful of tokens, so that a random model gives it.
SWITCH = {
    "name": "switch",
    "description": "",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(['{"tool_calls": [{"name": "switch", "arguments": {"on": true}}]}'], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    tokenizer.save_pretrained(root / "tokenizer")
    cfg = ModelConfig(
        family="llama",
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_position_embeddings=2048,
        eos_token_ids=(2,),
        initializer_range=0.3,
    )
    params = tiny.params(cfg)
    codec = {"call_format": "xlam-json", "template": "chatml", "layout": "brackets", "thought": False}
    save_hf(params, cfg, root / "model", tokenizer=root / "tokenizer", codec=codec)
    return root / "model"


def run(*args):
    app = typer.Typer(pretty_exceptions_enable=False)
    call_module.register(app)
    app.add_typer(eval_module.app, name="eval")
    return CliRunner().invoke(app, [str(a) for a in args])


def tools_file(tmp_path, tools):
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(tools))
    return path


def test_free_text_of_a_random_model_is_exit_1_with_the_text_shown(model, tmp_path):
    tools = tools_file(tmp_path, [SWITCH])
    result = run(
        "call", "Light!", "--tools", tools, "--model", model, "--max-new-tokens", 8, "--json", tmp_path / "r"
    )
    assert isinstance(result.exception, WorkError)
    written = json.loads((tmp_path / "r").read_text())
    assert written["calls"] is None and 1 <= written["new_tokens"] <= 8
    assert written["text"] in str(result.exception)


def test_a_demanded_call_is_printed_and_a_foreign_tool_is_not_run(model, tmp_path):
    args = (
        "call",
        "Light!",
        "--tools",
        tools_file(tmp_path, SWITCH),
        "--model",
        model,
        "--constrained",
        "--raw",
    )
    args += ("--temperature", 1, "--max-new-tokens", 1500)
    result = run(*args, "--json", tmp_path / "r")
    assert result.exception is None, result.output
    written = json.loads((tmp_path / "r").read_text())
    assert written["calls"] and all(c["name"] == "switch" for c in written["calls"])
    assert written["text"].startswith('{"tool_calls": [{"name": "switch"') and '"switch"' in result.output
    with_execute = run(*args, "--execute")
    assert isinstance(with_execute.exception, WorkError)
    assert "not in the library" in with_execute.output


def test_eval_records(model, tmp_path):
    switch = normalise_tool(SWITCH)
    rows = [
        Record(str(i), "Light!", (switch,), (Step(tool_calls=(ToolCall("switch", {"on": True}),)),))
        for i in range(3)
    ]
    write_records(tmp_path / "records.jsonl", rows)
    args = (
        "eval",
        "records",
        tmp_path / "records.jsonl",
        "--model",
        model,
        "--limit",
        2,
        "--max-new-tokens",
        6,
    )
    result = run(*args, "--out", tmp_path / "out", "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["summary"]["n"] == 2 and written["summary"]["ast"] == 0.0
    assert len((tmp_path / "out" / "generations.jsonl").read_text().splitlines()) == 2
    assert "AST accuracy %" in result.output and "unparsable" in result.output

    cfg = read_config(model)
    save_peft(init_adapters(cfg, LoraConfig(rank=2), jax.random.key(1)), cfg, tmp_path / "adapter")
    named = ("--adapter", f"mine={tmp_path / 'adapter'}")
    result = run(*args, *named, "--out", tmp_path / "each", "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    mine = json.loads((tmp_path / "r.json").read_text())["adapters"]["mine"]["summary"]
    assert {k: v for k, v in mine.items() if "seconds" not in k} == {
        k: v for k, v in written["summary"].items() if "seconds" not in k
    }  # a fresh adapter changes nothing
    assert (tmp_path / "each" / "mine" / "generations.jsonl").is_file() and "mine" in result.output


def bfcl_folder(tmp_path, count):
    """Rows of our own in BFCL's files of version 2."""
    folder = tmp_path / "bfcl"
    (folder / "possible_answer").mkdir(parents=True)
    question = {"question": [{"role": "user", "content": "Light!"}], "function": [SWITCH]}
    answer = {"ground_truth": [{"switch": {"on": [True]}}]}
    for place, value in ((folder, question), (folder / "possible_answer", answer)):
        lines = [json.dumps({"id": f"simple_{i}", **value}) for i in range(count)]
        (place / "BFCL_v2_simple.json").write_text("\n".join(lines) + "\n")
    return folder


def test_eval_bfcl(model, tmp_path):
    from xlam_jax.weights.evaluations import read_evaluations

    args = (
        "eval",
        "bfcl",
        bfcl_folder(tmp_path, 3),
        "--model",
        model,
        "--max-new-tokens",
        6,
        "--batch-size",
        2,
    )
    args += ("--out", tmp_path / "out")
    result = run(*args, "--json", tmp_path / "r.json")
    assert result.exception is None, result.output
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["summary"]["n"] == 3 and written["summary"]["categories"]["simple"]["best"] == 1.0
    assert sum(written["summary"]["decoder_errors"].values()) == 3 and "seconds per row" in result.output
    first = (tmp_path / "out" / "generations.jsonl").read_text()
    assert [json.loads(line)["id"] for line in first.splitlines()] == ["simple_0", "simple_1", "simple_2"]
    again = run(*args, "--resume")
    assert again.exception is None and "3 of 3 answers were there already" in again.output
    assert (tmp_path / "out" / "generations.jsonl").read_text() == first
    (card,) = read_evaluations(tmp_path / "r.json", written["weights_xxh3_128"])
    assert (card["dataset"], card["n"], card["ast"], card["constrained"]) == ("BFCL v2 simple", 3, 0.0, False)
    # The one legal answer is short, so that the grammar has a random model give it.
    held = run(*args[:-2], "--constrained", "--max-new-tokens", 400, "--json", tmp_path / "held.json")
    assert held.exception is None, held.output
    assert json.loads((tmp_path / "held.json").read_text())["summary"]["decoder_errors"] in (
        {},
        {"cut_off": 3},
    )


def test_eval_bfcl_of_a_served_folder_by_completions(model, tmp_path):
    """transformers behind a URL says what our engine says of the same folder, token ids and all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)

    def continued(ids, body):
        assert body["stop"] == ["<|im_end|>"] and body["skip_special_tokens"] is False
        new = theirs.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=body["max_tokens"], do_sample=False,
        )  # fmt: skip
        return tokenizer.decode(new[0, len(ids) :], clean_up_tokenization_spaces=False)

    args = ("eval", "bfcl", bfcl_folder(tmp_path, 3), "--max-new-tokens", 12)
    with ChatServer(lambda _: "", continued=continued) as server:
        served = run(
            *args, "--model", f"{server.url}#m", "--completions", model, "--out", tmp_path / "served"
        )
    assert served.exception is None, served.output
    own = run(*args, "--model", model, "--out", tmp_path / "own")
    assert own.exception is None, own.output
    texts = [
        [
            json.loads(line)["text"]
            for line in (tmp_path / name / "generations.jsonl").read_text().splitlines()
        ]
        for name in ("served", "own")
    ]
    # Ours ends as soon as the text can no longer become an answer.
    assert len(texts[0]) == len(texts[1]) == 3 and all(texts[1])
    assert all(full.startswith(ours) for full, ours in zip(*texts, strict=True))
    assert json.loads((tmp_path / "served/run.json").read_text())["completions"] == str(model)
    refused = run(*args, "--model", model, "--completions", model)
    assert isinstance(refused.exception, InputError) and "only a URL" in refused.exception.what
    nowhere = run(*args, "--model", "http://127.0.0.1:9/v1#m", "--completions", tmp_path / "nowhere")
    assert isinstance(nowhere.exception, InputError) and "model folder" in nowhere.exception.what
    with ChatServer(lambda _: "words") as server:  # chats alone
        chats = run(*args, "--model", f"{server.url}#m", "--completions", model)
    assert isinstance(chats.exception, LLMError) and chats.exception.code == 404


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_ends_the_same(model, tmp_path):
    folder = bfcl_folder(tmp_path, 60)
    args = [sys.executable, "-m", "xlam_jax.cli.main", "eval", "bfcl", folder, "--model", model]
    args = [*map(str, args), "--max-new-tokens", "12", "--batch-size", "1", "--out"]

    def rows(name):
        lines = (tmp_path / name / "generations.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    process = subprocess.Popen(
        [*args, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    kept = tmp_path / "killed" / "generations.jsonl"
    deadline = time.monotonic() + 300
    while not (kept.exists() and kept.read_text().count("\n") >= 4) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9 and not (tmp_path / "killed" / "summary.json").exists()
    assert 4 <= kept.read_text().count("\n") < 60
    subprocess.run([*args, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    subprocess.run([*args, str(tmp_path / "whole")], check=True, capture_output=True)
    assert rows("killed") == rows("whole") and len(rows("whole")) == 60
    assert (tmp_path / "killed" / "summary.json").read_text() == (
        tmp_path / "whole" / "summary.json"
    ).read_text()


def test_bad_input(model, tmp_path):
    tools, bfcl = tools_file(tmp_path, [SWITCH]), bfcl_folder(tmp_path, 1)
    for args, message in [
        (("call", "q", "--tools", tools, "--model", tmp_path / "nowhere"), "model folder not found"),
        (("call", "q", "--tools", tmp_path / "none.json", "--model", model), "tools file not found"),
        (("call", "q", "--tools", tools_file(tmp_path, []), "--model", model), "holds no tools"),
        (("eval", "records", tmp_path / "none.jsonl", "--model", model), "records file not found"),
        (("eval", "bfcl", bfcl, "--category", "simpel", "--model", model), "unknown BFCL category"),
    ]:
        result = run(*args)
        assert isinstance(result.exception, InputError), result.output
        assert message in result.exception.what
    tools = tools_file(tmp_path, [SWITCH])
    result = run("call", "q " * 300, "--tools", tools, "--model", model, "--max-len", 200)
    assert isinstance(result.exception, InputError) and "--max-len" in result.exception.hint


def test_demo_tools_are_library_functions_with_the_same_schema():
    from pathlib import Path

    from xlam_jax.apigen.library import load_library

    library = {f.tool.name: f.tool for f in load_library()}
    tools = call_module.read_tools(Path(__file__).parents[2] / "configs" / "demo" / "tools.json")
    assert len(tools) >= 2
    assert all(library[t.name] == t for t in tools)


def test_library_calls_are_really_run_and_failures_are_told():
    import math

    good = ToolCall("greatest_common_divisor", {"a": 5124, "b": 1908})
    bad = ToolCall("days_between", {"start_date": "soon", "end_date": "2024-01-01"})
    first, second, third = call_module._execute((good, bad, ToolCall("teleport", {})))
    assert (first["status"], first["value"]) == ("ok", math.gcd(5124, 1908))
    assert second["status"] == "raised" and "soon" in second["value"]
    assert third["status"] == "not in the library"
