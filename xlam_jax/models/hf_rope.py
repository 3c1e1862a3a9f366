"""The rotary keys of config.json, which three readers spell three ways.

transformers 4 and 5, and vLLM through them, take `rope_scaling` where it holds anything, `rope_parameters` (which
version 4 does not know) where it does not, and for the base what stands inside the one taken, then `rope_theta`,
then their class's default. This does the same. Where the spellings contradict each other so that two readers, or
a reader and the person who edited one of them, may disagree, it refuses.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.models.config import ROPE_KEYS, RopeScaling
from xlam_jax.models.hf_keys import check_kind, shown

_POSITIVE = "a positive number"
_KINDS = {
    "factor": _POSITIVE,
    "rope_theta": _POSITIVE,
    "original_max_position_embeddings": "a positive integer",
    "low_freq_factor": _POSITIVE,
    "high_freq_factor": _POSITIVE,
    "beta_fast": "a number of 0 or more",
    "beta_slow": "a number of 0 or more",
    "attention_factor": "a number of 0 or more",
    "mscale": "a number of 0 or more",
    "mscale_all_dim": "a number of 0 or more",
    "truncate": "true or false",
}
# Of other RoPE types, or of nobody: no type that is computed here reads them.
_INERT = {"finetuned", "short_factor", "long_factor"}
_YARN = ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")


def rope_from_hf(v: dict[str, Any], values: dict[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """(base, stretching) of the settled keys `v` of the mapping `values`.

    Raises:
      InputError: a type that is not computed, a wrong or unknown key, or spellings that contradict each other.
    """
    old, new = v["rope_scaling"] or {}, v["rope_parameters"] or {}
    for name, rope in (("rope_scaling", old), ("rope_parameters", new)):
        for key, value in rope.items():
            _check(f"{name}.{key}", key, value, where)
    name = "rope_scaling" if old else "rope_parameters"
    theta, scaling = _read(old or new, name, v, values, where)
    if (
        old
        and new
        and _kind(new) != "default"
        and _read(new, "rope_parameters", v, values, where)[1] != scaling
    ):
        raise InputError(
            "rope_scaling and rope_parameters contradict each other",
            where=where,
            hint="transformers takes rope_scaling: write the same into rope_parameters, or take one of them out",
        )
    others = (
        (new.get("rope_theta", theta), "rope_parameters"),
        (values.get("rope_theta", theta), "the top level"),
    )
    for other, where_else in others:
        if other != theta:
            raise InputError(
                f"rope_theta is {theta:g} for transformers 5, and {other:g} in {where_else}",
                where=where,
                hint="write the same number in both places",
            )
    return theta, scaling


def _kind(rope: dict[str, Any]) -> Any:
    return rope.get("rope_type", rope.get("type", "default"))


def _read(
    rope: dict[str, Any], name: str, v: dict[str, Any], values: dict[str, Any], where: str
) -> tuple[float, RopeScaling | None]:
    theta, kind = float(rope.get("rope_theta", v["rope_theta"])), _kind(rope)
    if kind == "default":
        return theta, None
    if kind not in ROPE_KEYS:
        raise InputError(
            f"RoPE type {shown(kind)} is not supported",
            where=where,
            hint="supported: default, " + ", ".join(ROPE_KEYS),
        )
    if "kv_lora_rank" in v and kind != "yarn" and rope.get("mscale_all_dim"):
        raise InputError(f"{name}.mscale_all_dim with {kind} RoPE is not supported", where=where)
    if kind == "yarn" and theta <= 1:
        raise InputError(
            f"yarn with rope_theta={theta:g} is not defined: it divides by the logarithm of the base",
            where=where,
            hint="take rope_theta from the model's release, such as 10000.0",
        )
    extra = {key: rope[key] for key in ROPE_KEYS[kind] if rope.get(key) is not None}
    if kind == "yarn":
        # transformers takes its own beta for a 0 too.
        extra |= {k: rope[k] for k in _YARN if rope.get(k) or (rope.get(k) is not None and "beta" not in k)}
    length = v["max_position_embeddings"]
    if "original_max_position_embeddings" in ROPE_KEYS[kind]:
        trained = extra.setdefault("original_max_position_embeddings", length)
        if values.get("original_max_position_embeddings", trained) != trained:
            raise InputError(
                f"original_max_position_embeddings is {shown(values['original_max_position_embeddings'])} at the top "
                f"level, which transformers prefers, and {trained} for {name}",
                where=where,
                hint="write the same number in both places",
            )
    factor = rope.get("factor")
    if kind == "yarn" and "factor" in rope and factor is None:
        factor = length / extra["original_max_position_embeddings"]
    if factor is None:
        raise InputError(
            f"{kind} RoPE without a factor",
            where=where,
            hint=f'"rope_scaling": {{"type": "{kind}", "factor": 4.0}}',
        )
    return theta, RopeScaling(kind, float(factor), **extra)


def _check(name: str, key: str, value: Any, where: str) -> None:
    if key in ("rope_type", "type"):
        check_kind(name, value, "a text", where)
    elif key in _KINDS:
        if value is not None or key in ("rope_theta", "truncate"):  # a null truncate is false to transformers
            check_kind(name, value, _KINDS[key], where)
    elif key == "partial_rotary_factor" and value in (None, 1):
        return
    elif key not in _INERT:
        known = ("rope_type", "partial_rotary_factor", *_KINDS)
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]}?" if close and close[0] != key else f"known: {', '.join(known)}"
        raise InputError(f"{name}={shown(value)} is not supported", where=where, hint=hint)


def rope_to_hf(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """The rotary keys in every spelling, so that each reader finds the one it knows."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    legacy: dict[str, Any] | None = None
    if scaling is not None:
        kind = scaling.type
        keys = ("factor", *ROPE_KEYS[kind], *(_YARN if kind == "yarn" else ()))
        fields = {k: v for k, v in dataclasses.asdict(scaling).items() if k in keys and v is not None}
        if fields.get("truncate", True):  # every reader's default, and vLLM's older ones do not know the key
            fields.pop("truncate", None)
        rope = {"rope_type": kind, **fields, "rope_theta": theta}
        legacy = {"type": kind, "rope_type": kind, **fields}
    return {"rope_parameters": rope, "rope_theta": theta, "rope_scaling": legacy}
