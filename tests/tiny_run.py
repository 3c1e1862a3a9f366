"""A small world for the data and training tests: records, a tokenizer trained on them, a model, data."""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from xlam_jax.format.codec import get_codec
from xlam_jax.format.record import Record, Step, Tool, ToolCall, write_records
from xlam_jax.models.config import ModelConfig
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.weights.hf_out import save_hf

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CITIES = ("Oslo", "Lima", "Kyoto", "Über-Stadt", "São Paulo", "北京", "Nice 🌞")
_NAMES = ("get_weather", "add_numbers", "find_flights", "word_count")


def records(count: int, seed: int = 0, prefix: str = "r") -> list[Record]:
    """Records of one to three steps' length, some without a call."""
    rng = random.Random(seed)
    return [_record(f"{prefix}{i}", rng) for i in range(count)]


def _record(id: str, rng: random.Random) -> Record:
    def number() -> dict:
        return {"type": "integer", "description": "a number"}

    names = rng.sample(_NAMES, rng.randint(1, 2))
    tools = tuple(
        Tool(n, f"Does {n}.", {"type": "object", "properties": {"x": number()}, "required": ["x"]})
        for n in names
    )
    city = rng.choice(_CITIES)

    def calls() -> tuple[ToolCall, ...]:
        chosen = rng.choices(names, k=rng.randint(0, 2))
        return tuple(ToolCall(n, {"x": rng.randint(0, 99), "city": city}) for n in chosen)

    steps = (Step(tool_calls=calls()),)
    if rng.random() < 0.3:
        first = Step(tool_calls=calls(), next_observation={"t": rng.randint(0, 9)}, user_input="And then?")
        steps = (first, *steps)
    query = f"How about {city}, {rng.randint(0, 99)}?"
    return Record(id, query, tools, steps, source="tiny", license="CC0-1.0")


def make_tokenizer(folder: Path, specials: tuple[str, ...] = SPECIALS) -> Path:
    """A byte-level BPE of 400 tokens, as SmolLM2's is: its BOS is the token that opens a turn."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = [get_codec().render(r).text for r in records(40)]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(s, special=True) for s in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    bos = "<|im_start|>" if "<|im_start|>" in specials else None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    return folder


def make_model(folder: Path, tokenizer: Path, **changes: int | bool) -> Path:
    """A Llama of two layers in a Hugging Face folder."""
    values = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 4}
    values |= {"num_kv_heads": 2, "head_dim": 8, "tie_embeddings": False, **changes}
    cfg = ModelConfig("llama", **values)  # type: ignore[arg-type]
    save_hf(tiny.params(cfg, 1), cfg, folder, tokenizer=tokenizer)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A tiny base model\n")
    return folder


def make_data(folder: Path, tokenizer: Path, count: int = 40, seq_len: int = 512, seed: int = 0) -> Path:
    """Packed data of `count` records."""
    source = folder.with_name(folder.name + ".jsonl")
    write_records(source, records(count, seed))
    build(BuildConfig(inputs=[str(source)], tokenizer=str(tokenizer), out=str(folder), seq_len=seq_len))
    return folder
