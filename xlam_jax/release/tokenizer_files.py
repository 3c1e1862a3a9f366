"""Tokenizer files of a released folder: copied, readable for old and new transformers, chat template set."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from xlam_jax.errors import InputError
from xlam_jax.release.safetensors_io import write_json

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
_COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
# Written by transformers 5, unknown to transformers 4, which both read the class below.
_UNPORTABLE_CLASS = "TokenizersBackend"
_PORTABLE_CLASS = "PreTrainedTokenizerFast"


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that a tokenizer config names; `pad` must not be `eos`, or padding would mean stop."""

    bos: str | None
    eos: str | None
    pad: str | None
    unk: str | None


def save_tokenizer(
    tokenizer: Tokenizer,
    special: SpecialTokens,
    dst: Path,
    *,
    model_max_length: int,
    chat_template: str | None = None,
) -> None:
    """Writes a tokenizers object as the files AutoTokenizer reads, without importing transformers."""
    partial = dst / "tokenizer.json.partial"
    tokenizer.save(str(partial))
    os.chmod(partial, 0o644)
    os.replace(partial, dst / "tokenizer.json")
    config: dict[str, Any] = {
        "bos_token": special.bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": special.eos,
        "model_max_length": model_max_length,
        "pad_token": special.pad,
        "tokenizer_class": _PORTABLE_CLASS,
        "unk_token": special.unk,
    }
    _write_config(dst, config, chat_template)


def copy_tokenizer(
    src: str | Path, dst: str | Path, *, chat_template: str | None = None, stop: str | None = None
) -> None:
    """Copies the tokenizer files of `src` into `dst`.

    The class name that only transformers 5 knows is replaced by one that both major versions load. The chat
    template (`chat_template`, else the one of `src`) goes into chat_template.jinja and, for older readers,
    into tokenizer_config.json.

    Args:
      stop: the token that ends an answer; it becomes the end-of-sequence token that the files name, and what
        pads where it did is the former one, since padding must not mean stop.

    Raises:
      InputError: `src` holds no tokenizer, or its tokenizer_config.json is not JSON.
    """
    src, dst = Path(src), Path(dst)
    if not has_tokenizer(src):
        raise InputError(
            "no tokenizer found (tokenizer.json or tokenizer.model)",
            where=str(src),
            hint="name a folder that has one",
        )
    for name in _COPIED:
        if (src / name).is_file():
            shutil.copyfile(src / name, dst / name)
            os.chmod(dst / name, 0o644)
    config = {}
    if (src / CONFIG).is_file():
        try:
            config = json.loads((src / CONFIG).read_text(encoding="utf-8"))
        except ValueError as e:
            raise InputError(f"not JSON: {e}", where=str(src / CONFIG)) from e
    if config.get("tokenizer_class", _UNPORTABLE_CLASS) == _UNPORTABLE_CLASS:
        config["tokenizer_class"] = _PORTABLE_CLASS
    if stop is not None:
        config = _stopping(config, stop)
        tokens = dst / "special_tokens_map.json"
        if tokens.is_file():
            write_json(tokens, _stopping(json.loads(tokens.read_text(encoding="utf-8")), stop))
    _write_config(dst, config, chat_template or read_chat_template(src))


def _stopping(config: dict[str, Any], stop: str) -> dict[str, Any]:
    """The special tokens with `stop` as the one that ends a text."""
    former = config.get("eos_token")
    out = {**config, "eos_token": stop}
    if _content(config.get("pad_token")) == stop:
        out["pad_token"] = former if _content(former) != stop else config.get("unk_token")
    return out


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def has_tokenizer(folder: Path) -> bool:
    """True when `folder` holds tokenizer files."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))


def read_chat_template(folder: Path) -> str | None:
    """The default chat template of a folder: chat_template.jinja, else the key of tokenizer_config.json."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    if not (folder / CONFIG).is_file():
        return None
    found = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("chat_template")
    if isinstance(found, list):  # several named templates
        found = next((t["template"] for t in found if t.get("name") == "default"), None)
    return found


def token_id(folder: Path, token: str) -> int:
    """The id of a token of the tokenizer in `folder`.

    Raises:
      InputError: there is no tokenizer.json, or the text is no single token of it.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError("tokenizer.json not found", where=str(folder))
    found = _tokenizer(path).token_to_id(token)
    if found is None:
        raise InputError(
            f"the tokenizer has no token {token!r}",
            where=str(path),
            hint="choose a chat template whose stop token the tokenizer knows",
        )
    return found


def check_vocabulary(folder: Path, vocab_size: int) -> None:
    """Raises InputError when the tokenizer in `folder` makes ids that a model of `vocab_size` rows lacks.

    Fewer tokens than rows are normal: released models pad their embeddings.
    """
    largest = largest_token_id(folder)
    if largest is not None and largest >= vocab_size:
        raise InputError(
            f"the tokenizer has ids up to {largest}, the model has {vocab_size} embeddings",
            where=str(folder / "tokenizer.json"),
            hint="take the tokenizer that belongs to the model",
        )


def largest_token_id(folder: Path) -> int | None:
    """The largest id that the tokenizer in `folder` makes; None without a tokenizer.json."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    vocabulary = _tokenizer(path).get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise InputError("the tokenizer has no tokens", where=str(path), hint="fetch the file again")
    return max(vocabulary.values())


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as e:  # the library raises nothing narrower
        raise InputError(
            f"not readable as a tokenizer: {e}", where=str(path), hint="fetch or export the file again"
        ) from e


def _write_config(dst: Path, config: dict[str, Any], chat_template: str | None) -> None:
    if chat_template is not None:
        config = {**config, "chat_template": chat_template}
        (dst / TEMPLATE).write_text(chat_template, encoding="utf-8", newline="")
        os.chmod(dst / TEMPLATE, 0o644)
    write_json(dst / CONFIG, dict(sorted(config.items())))
