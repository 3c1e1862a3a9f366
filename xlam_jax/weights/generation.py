"""generation_config.json: a base model's own settings go on, and all of its stop tokens count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.files import read_object
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.hf_keys import check_kind, shown

GENERATION = "generation_config.json"
# What transformers' generate, or the requests that vLLM makes of these, want them to be.
_SETTINGS = {
    "do_sample": "true or false",
    "temperature": "a number of 0 or more",
    "top_k": "an integer",
    "top_p": "a number from 0 to 1",
    "min_p": "a number from 0 to 1",
    "typical_p": "a number from 0 to 1",
    "repetition_penalty": "a positive number",
    "no_repeat_ngram_size": "an integer of 0 or more",
    "max_new_tokens": "a positive integer",
    "max_length": "a positive integer",
    "min_new_tokens": "an integer of 0 or more",
    "min_length": "an integer of 0 or more",
    "num_beams": "a positive integer",
    "num_return_sequences": "a positive integer",
}
_SAMPLED = {"temperature": 0.0, "top_p": 0.0, "top_k": -1}  # where do_sample is true they are above these
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_generation(folder: str | Path | None) -> dict[str, Any]:
    """The generation_config.json of a folder, {} where there is none.

    Raises:
      InputError: not a JSON object, or stop tokens that are no token ids.
    """
    path = Path(folder or "") / GENERATION
    if folder is None or not path.is_file():
        return {}
    settings = read_object(path)
    try:
        json.dumps(settings, allow_nan=False)
    except ValueError as e:
        hint = "a number: NaN and Infinity are not JSON, and servers refuse the file"
        raise InputError("it holds NaN or Infinity", where=str(path), hint=hint) from e
    ids = listed(settings.get("eos_token_id"))
    if odd := [i for i in ids if not isinstance(i, int) or isinstance(i, bool) or i < 0]:
        raise InputError(
            f"eos_token_id holds {odd[0]!r}", where=str(path), hint="a token id, or a list of them"
        )
    return settings


def stop_ids(folder: str | Path | None) -> tuple[int, ...]:
    """The tokens that end an answer by a folder's generation_config.json; InputError as `read_generation`."""
    return tuple(listed(read_generation(folder).get("eos_token_id")))


def generation_config(cfg: ModelConfig, base: Mapping[str, Any]) -> dict[str, Any]:
    """What a written folder says: `base` (from `read_generation`) whole, with the tokens of `cfg` first among those
    that stop; the padding and the first token are those of `cfg` where `base` does not name them.

    transformers generates by these and not by config.json, so where the two differ both stay as they are.

    Raises:
      InputError: a token that ends an answer, begins or pads a text is none of the vocabulary; settings with which
        transformers or vLLM refuse to generate.
    """
    _check_settings(base)
    for key in ("bos_token_id", "pad_token_id"):
        stated = base.get(key)
        if stated is not None and not (_is_id(stated, cfg) or (key == "pad_token_id" and stated == -1)):
            raise InputError(
                f"{key} is {shown(stated)}, and the model has {cfg.vocab_size} tokens",
                where=GENERATION,
                hint="a token id, or null",
            )
    ends = [*dict.fromkeys((*cfg.eos_token_ids, *listed(base.get("eos_token_id"))))]
    if beyond := [i for i in ends if not _is_id(i, cfg)]:
        raise InputError(
            f"the answer would end at token {beyond[0]}, and the model has {cfg.vocab_size} tokens",
            where=f"eos_token_id of config.json or {GENERATION}",
            hint="correct the id: no answer would ever end there",
        )
    own = {"bos_token_id": cfg.bos_token_id, "pad_token_id": cfg.pad_token_id}
    eos = {"eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else {}
    return {**{key: value for key, value in own.items() if value is not None}, **base, **eos}


def _is_id(value: Any, cfg: ModelConfig) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < cfg.vocab_size


def _check_settings(base: Mapping[str, Any]) -> None:
    """Raises InputError for what stops every generation; None means the reader's own default."""
    for key, kind in _SETTINGS.items():
        if base.get(key) is not None:
            check_kind(key, base[key], kind, GENERATION)
    for key, least in _SAMPLED.items() if base.get("do_sample") else ():
        if base.get(key) is not None and base[key] <= least:
            raise InputError(
                f"{key} is {shown(base[key])} where do_sample is true",
                where=GENERATION,
                hint="leave it out, or set do_sample to false: nothing can be sampled so",
            )


def listed(ids: Any) -> list[Any]:
    """Of a token id, a list of them, or None."""
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
