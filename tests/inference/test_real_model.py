"""SmolLM2: greedy text of the folder in transformers (torch, fp32) and in the engine."""

import pytest

from xlam_jax.errors import XlamError
from xlam_jax.format import Record, get_codec, normalise_tool
from xlam_jax.inference import Engine

TOKENS = 24
TOOL = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {"city": {"type": "str", "description": "City"}, "days": {"type": "int", "default": 1}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from xlam_jax.weights import convert_gguf, find_smollm2

    try:
        gguf = find_smollm2()
    except XlamError as e:
        pytest.skip(f"real weights are absent: {e.what}")
    dst = tmp_path_factory.mktemp("smollm2") / "hf"
    convert_gguf(gguf, dst)
    return dst


# A minute of real weights; tests/inference/test_engine.py compares tiny models with transformers in the quick suite.
@pytest.mark.slow
@pytest.mark.real
def test_greedy_text_is_that_of_transformers(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    codec = get_codec()
    record = Record("w", "What will the weather in Oslo be for 3 days?", (normalise_tool(TOOL),), ())
    prompts = [
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
        codec.prompt(record),
        'Calls as JSON: {"tool_calls": [{"name": "get_weather", "arguments": {"city": "',
    ]
    engine = Engine.from_folder(folder, batch_size=4)
    assert engine.codec == codec
    ours = engine.generate(prompts, max_new_tokens=TOKENS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for prompt, got in zip(prompts, ours, strict=True):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(**ids, max_new_tokens=TOKENS, do_sample=False)
        want = out[0, ids["input_ids"].shape[1] :].tolist()
        assert list(got.token_ids) == want
    assert "Paris" in ours[0].text and ours[0].finish_reason == "stop"

    grammar = codec.grammar(record.tools, 1, max_calls=1)  # untuned, it repeats itself
    held = engine.generate(prompts, max_new_tokens=40, grammars=[None, grammar, None])[1]
    (call,) = codec.parse(held.text).tool_calls
    assert call.name == "get_weather" and "Oslo" in call.arguments["city"]
