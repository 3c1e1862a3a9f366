"""Typed configs: strict pydantic models, read from YAML, changed by dotted overrides.

An unknown key is an error that names the nearest known one, because a misspelt key that is
silently ignored costs a training run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import pydantic
import yaml

from xlam_jax.errors import InputError


class Config(pydantic.BaseModel):
    """Base of all configs: frozen, no unknown keys, defaults validated."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True)


C = TypeVar("C", bound=Config)


def load_config(cls: type[C], path: str | Path, overrides: Iterable[str] = ()) -> C:
    """Reads `path` (YAML) as a `cls`, then applies `a.b=value` overrides (values are YAML too).

    Raises:
      InputError: missing or unreadable file, unknown key (with the nearest known one), wrong type.

    Example:
      >>> load_config(TrainConfig, "configs/demo/sft.yaml", ["optim.lr=1e-4"])  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        siblings = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(str(path), siblings, n=1, cutoff=0.4)
        raise InputError(
            "config file not found", where=str(path), hint=near[0] if near else "give the path of a YAML file"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise InputError(f"not valid YAML: {e}", where=str(path)) from e
    if not isinstance(values, dict):
        raise InputError(f"expected a mapping of keys, found {type(values).__name__}", where=str(path))
    return make_config(cls, values, overrides, where=str(path))


def make_config(cls: type[C], values: dict[str, Any], overrides: Iterable[str] = (), where: str = "") -> C:
    """Builds a `cls` from a mapping and dotted overrides; errors as in `load_config`."""
    for override in overrides:
        values = _apply(values, override)
    try:
        return cls.model_validate(values)
    except pydantic.ValidationError as e:
        raise _explain(cls, e, where) from e


def _apply(values: dict[str, Any], override: str) -> dict[str, Any]:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InputError(f"override {override!r} is not key=value", hint="for example optim.lr=1e-5")
    out = dict(values)
    node = out
    *parents, leaf = key.strip().split(".")
    for part in parents:
        child = node.get(part)
        if child is not None and not isinstance(child, dict):
            raise InputError(f"override {override!r}: {part!r} holds a value, not a section", where=key)
        node[part] = dict(child or {})
        node = node[part]
    try:
        node[leaf] = _scalar(text)
    except yaml.YAMLError as e:
        raise InputError(
            f"override {override!r}: the value is not valid YAML", where=key, hint="quote it"
        ) from e
    return out


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    plain = text.strip()[:1] not in tuple("\"'[{&*!|>%@`")
    if plain and (isinstance(value, str | dict) or (value is None and "#" in text)):
        # A value of one line has no comment and no key: `runs/a #1` and `a: b` are what they look like.
        try:
            return float(text)  # YAML 1.1 reads 1e-5 as text
        except ValueError:
            return text.strip()
    return value


def _explain(cls: type[Config], error: pydantic.ValidationError, where: str) -> InputError:
    lines, hint = [], ""
    for item in error.errors():
        loc = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_keys(cls, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
            lines.append(f"unknown key {loc!r}")
            if near:
                hint = hint or ".".join([*map(str, item["loc"][:-1]), near[0]])
            else:
                hint = hint or "known keys here: " + ", ".join(known)
        elif item["type"] == "missing":
            lines.append(f"missing key {loc!r}")
        else:
            lines.append(f"{loc or 'config'}: {item['msg']}, found {item['input']!r}")
    return InputError("; ".join(lines), where=where, hint=hint)


def _known_keys(cls: type, loc: tuple) -> list[str]:
    for part in loc:
        if isinstance(part, int):
            continue
        field = getattr(cls, "model_fields", {}).get(part)
        if field is None:
            return []
        cls = _config_inside(field.annotation) or cls
    return list(getattr(cls, "model_fields", {}))


def _config_inside(annotation: Any) -> type | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    if get_origin(annotation) in (Union, UnionType, list, tuple, dict):
        for arg in get_args(annotation):
            if inner := _config_inside(arg):
                return inner
    return None
