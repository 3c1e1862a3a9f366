"""Tokenizer files of a released folder: copied, readable for old and new transformers, chat template set."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from xlam_jax.errors import InputError
from xlam_jax.files import read_object, read_text, whole_file, write_json

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
NAMED = "additional_chat_templates"
_SPECIAL = {f"{kind}_token" for kind in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")}
_TEMPLATE_HINT = "fetch the file again, or save the template as UTF-8"
TOOLS_NAME = "tool_use"  # transformers takes the template of this name as soon as there are tools
COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
# Written by transformers 5, unknown to transformers 4, which both read the class below.
_UNPORTABLE_CLASS = "TokenizersBackend"
_OWN_CLASS = "auto_map"
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
    """Writes a tokenizers object as the files AutoTokenizer reads, without importing transformers.

    Args:
      special: texts of the special tokens, which the tokenizer has.
      dst: folder that exists.
      model_max_length: positions of the model, by which transformers cuts or warns.
      chat_template: Jinja, None for none.
    """
    with whole_file(dst / "tokenizer.json", 0o644) as partial:
        tokenizer.save(str(partial))
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
    into tokenizer_config.json; named ones beside it, but for one that would go before a given `chat_template`.

    Args:
      stop: the token that ends an answer; it becomes the end-of-sequence token that the files name, and what
        pads where it did is the former one, since padding must not mean stop.

    Raises:
      InputError: `src` holds no tokenizer, or one of its files is not readable.
    """
    src, dst = Path(src), Path(dst)
    if not has_tokenizer(src):
        raise InputError(
            "no tokenizer found (tokenizer.json or tokenizer.model)",
            where=str(src),
            hint="name a folder that has one",
        )
    largest_token_id(src)  # says where an unreadable one lies before its copy is found to be so
    for name in COPIED:
        if (src / name).is_file():
            shutil.copyfile(src / name, dst / name)
            os.chmod(dst / name, 0o644)
    config = _read_config(src)
    if own_tokenizer_class(src):
        if not (src / "tokenizer.json").is_file():
            raise InputError(
                "the tokenizer is a program of the model's own (auto_map), and there is no tokenizer.json",
                where=str(src / CONFIG),
                hint="save it as tokenizer.json (AutoTokenizer with trust_remote_code, save_pretrained)",
            )
        config = {k: v for k, v in config.items() if k not in (_OWN_CLASS, "tokenizer_class")}
    if config.get("tokenizer_class", _UNPORTABLE_CLASS) == _UNPORTABLE_CLASS:
        config["tokenizer_class"] = _PORTABLE_CLASS
    if stop is not None:
        config = _stopping(config, stop)
        tokens = dst / "special_tokens_map.json"
        if tokens.is_file():
            write_json(tokens, _stopping(read_object(src / tokens.name), stop))
    named = named_templates(src)
    if chat_template is not None:
        named.pop(TOOLS_NAME, None)
    _write_config(dst, config, chat_template or read_chat_template(src), named)


def own_tokenizer_class(folder: Path) -> bool:
    """Whether the tokenizer's class is code that the model brings; what is computed here is tokenizer.json."""
    return _OWN_CLASS in _read_config(folder)


def special_tokens(folder: Path) -> dict[str, str]:
    """`{"bos_token": ..., "eos_token": ...}` as the tokenizer config names them."""
    config = {key: _content(value) for key, value in _read_config(folder).items() if key in _SPECIAL}
    return {key: text for key, text in config.items() if isinstance(text, str)}


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
        return read_text(folder / TEMPLATE, _TEMPLATE_HINT)
    template = _read_config(folder).get("chat_template")
    if not isinstance(template, str | list | None):
        raise InputError(
            f"chat_template is no text but {type(template).__name__}", where=str(folder / CONFIG),
            hint=_TEMPLATE_HINT,
        )  # fmt: skip
    return _by_name(template, folder).get("default") if isinstance(template, list) else template


def named_templates(folder: Path) -> dict[str, str]:
    """Chat templates beside the default one: name -> text, of files and of tokenizer_config.json."""
    template = _read_config(folder).get("chat_template")
    out = _by_name(template, folder) if isinstance(template, list) else {}
    for path in sorted((folder / NAMED).glob("*.jinja")):
        out[path.stem] = read_text(path, _TEMPLATE_HINT)
    out.pop("default", None)
    return out


def _by_name(templates: list[Any], folder: Path) -> dict[str, str]:
    try:
        named = {str(t["name"]): str(t["template"]) for t in templates}
    except (KeyError, TypeError) as e:
        raise InputError("chat_template is no list of names and templates", where=str(folder / CONFIG)) from e
    if odd := [name for name in named if not re.fullmatch(r"\w[\w.-]*", name)]:
        raise InputError(
            f"a chat template is called {odd[0]!r}", where=str(folder / CONFIG), hint="a plain name"
        )
    return named


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        return {}
    return read_object(path)


def token_id(folder: Path, token: str) -> int:
    """The id of a token of the tokenizer in `folder`.

    Raises:
      InputError: there is no tokenizer.json, or the text is no single token of it.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError("tokenizer.json not found", where=str(folder))
    id = _tokenizer(path).token_to_id(token)
    if id is None:
        raise InputError(
            f"the tokenizer has no token {token!r}",
            where=str(path),
            hint="choose a chat template whose stop token the tokenizer knows",
        )
    return id


def check_vocabulary(folder: Path, vocab_size: int, where: str | Path) -> None:
    """Raises InputError when the tokenizer in `folder` makes ids that a model of `vocab_size` rows lacks.

    Fewer tokens than rows are normal: released models pad their embeddings.
    """
    largest = largest_token_id(folder)
    if largest is not None and largest >= vocab_size:
        raise InputError(
            f"the tokenizer has ids up to {largest}, the model has {vocab_size} embeddings",
            where=str(where),
            hint="take the tokenizer that belongs to the model, or add rows: xlam convert to-hf ... --vocab-size "
            f"{largest + 1}",
        )


def largest_token_id(folder: Path) -> int | None:
    """The largest id that transformers' tokenizer of `folder` makes; None without a tokenizer.json.

    Tokens that only the files beside it add count, and special tokens that it does not hold: transformers gives them
    the ids behind the others.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    vocabulary = _tokenizer(path).get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise InputError("the tokenizer has no tokens", where=str(path), hint="fetch the file again")
    config = _read_config(folder)
    added = _added_tokens(folder, config)
    named = [config, *(read_object(p) for p in (folder / "special_tokens_map.json",) if p.is_file())]
    special = {token for settings in named for token in _special_tokens(settings)}
    unknown = special - vocabulary.keys() - added.keys()
    return max([*vocabulary.values(), *added.values()]) + len(unknown)


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """Text -> id of the tokens that stand beside tokenizer.json."""
    path = folder / "added_tokens.json"
    added = read_object(path) if path.is_file() else {}
    try:
        vocabulary = {
            str(_content(token)): int(i) for i, token in (config.get("added_tokens_decoder") or {}).items()
        }
        return {**vocabulary, **{text: int(i) for text, i in added.items()}}
    except (ValueError, TypeError, AttributeError) as e:
        raise InputError(
            "added tokens are no list of ids and tokens",
            where=f"{folder / CONFIG} or {path.name}",
            hint="fetch the files again",
        ) from e


def _special_tokens(config: Mapping[str, Any]) -> Iterator[str]:
    """Texts of the tokens that a config names for a purpose: `pad_token`, `additional_special_tokens`."""
    for key, value in config.items():
        if key.endswith("_special_tokens"):
            values = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        else:
            values = [value] if key in _SPECIAL else ()
        yield from (token for token in map(_content, values) if isinstance(token, str) and token)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as e:  # the library raises nothing narrower
        raise InputError(
            f"not readable as a tokenizer: {e}", where=str(path), hint="fetch or export the file again"
        ) from e


def _write_config(
    dst: Path, config: dict[str, Any], chat_template: str | None, named: Mapping[str, str] | None = None
) -> None:
    every = {**({} if chat_template is None else {"default": chat_template}), **(named or {})}
    for name, text in every.items():
        path = dst / (TEMPLATE if name == "default" else f"{NAMED}/{name}.jinja")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        os.chmod(path, 0o644)
    if named:
        config = {**config, "chat_template": [{"name": n, "template": t} for n, t in every.items()]}
    elif chat_template is not None:
        config = {**config, "chat_template": chat_template}
    write_json(dst / CONFIG, dict(sorted(config.items())))
