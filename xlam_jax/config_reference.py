"""Every key of a config with its type, default and meaning, from the models themselves.

Meanings stand in the `Attributes:` section of a config's docstring, `name: text` or `one, two: text`; so what a
person reads here is what a reader of the code reads.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from xlam_jax.config import Config
from xlam_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a config.

    Attributes:
      name: dotted path; `[]` stands for an item of a list.
      type: as a person would say it: "integer >= 1", "adamw | sgd", "list of text".
      default: as YAML; "required" where there is none, "" for a section, which has those of its keys.
      meaning: sentences; "" where nothing is said.
    """

    name: str
    type: str
    default: str
    meaning: str

    @property
    def example(self) -> str:
        """An override that could be typed."""
        if self.default not in ("required", "null", "", "[]", "{}"):
            return f"{self.name}={self.default}"
        choice = self.type.split(" | ")[0]
        value = {"integer": "1", "number": "0.5", "text": "NAME", "true": "true"}.get(choice.split(" ")[0])
        value = value or ("[]" if choice.startswith("list") else "{}" if choice == "section" else choice)
        return f"{self.name}={value}"


def keys_of(cls: type[Config], prefix: str = "") -> Iterator[Key]:
    """All keys of a config, those of its sections after each section's own."""
    meanings = meanings_of(cls)
    for name, field in cls.model_fields.items():
        path = f"{prefix}{name}"
        inside, many = _section(field.annotation)
        meaning = meanings.get(name) or (summary_of(inside) if inside else "")
        yield Key(path, _type_of(field), _default_of(field, inside is not None), meaning)
        if inside:
            yield from keys_of(inside, f"{path}[]." if many else f"{path}.")


def find_keys(cls: type[Config], key: str) -> list[Key]:
    """The keys that `key` names: one, or a section with all that is in it.

    Raises:
      InputError: there is none, with the nearest.
    """
    every = list(keys_of(cls))
    plain = key.replace("[]", "")
    names = {k.name.replace("[]", ""): k for k in every}
    matches = [k for name, k in names.items() if name == plain or name.startswith(f"{plain}.")]
    if not matches:
        last = {name.rsplit(".", 1)[-1]: name for name in names}
        near = difflib.get_close_matches(plain, names, n=1, cutoff=0.5)
        near = near or [
            last[n] for n in difflib.get_close_matches(plain.rsplit(".", 1)[-1], last, n=1, cutoff=0.6)
        ]
        hint = near[0] if near else ", ".join(cls.model_fields)
        raise InputError(f"no key {key!r}", where="KEY", hint=hint)
    return matches


def meanings_of(cls: type[Config]) -> dict[str, str]:
    """Key -> what its class's docstring says of it; the base classes' too."""
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        doc = inspect.cleandoc(base.__dict__.get("__doc__") or "") if issubclass(base, Config) else ""
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", doc, re.M)
        if not section:
            continue
        for entry in re.split(r"\n(?=  \S)", section[1].rstrip("\n")):
            names, _, text = entry.strip().partition(": ")
            text = re.sub(r"\s+", " ", text).strip()
            meanings |= {name.strip(): text for name in names.split(",")}
    return meanings


def summary_of(cls: type[Config]) -> str:
    """The first paragraph of a config's docstring."""
    return re.sub(r"\s+", " ", inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0])


def markdown(cls: type[Config]) -> str:
    """The keys as a Markdown table."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys_of(cls):
        cells = (f"`{key.name}`", key.type, f"`{key.default}`" if key.default else "", key.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _section(annotation: Any) -> tuple[type[Config] | None, bool]:
    """The config inside an annotation, and whether it holds many of them."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation, False
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated, list, tuple):
        for arg in get_args(annotation):
            inside, many = _section(arg)
            if inside:
                return inside, many or origin in (list, tuple)
    return None, False


def _type_of(field: FieldInfo) -> str:
    words = _words(field.annotation).split(" | ")
    limits = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(item, name):g}"
        for item in field.metadata
        for name, sign in limits.items()
        if isinstance(getattr(item, name, None), int | float)
    ]
    if bounds:
        words = [f"{w} {', '.join(bounds)}" if w in ("integer", "number", "text") else w for w in words]
    return " | ".join(words)


def _words(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(args[0])
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_words(a) for a in args))
    if origin in (list, tuple):
        return f"list of {_words(args[0])}" if args else "list"
    if origin is dict:
        return f"map from {_words(args[0])} to {_words(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "section"
    names = {int: "integer", float: "number", str: "text", bool: "true | false", NoneType: "null"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default_of(field: FieldInfo, is_section: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Config):
        return ""
    if value is PydanticUndefined or (is_section and not value):
        return "null" if value is None else "[]"
    plain = [*value] if isinstance(value, tuple | frozenset | set) else value
    plain = (
        [v.model_dump(mode="json") if isinstance(v, Config) else v for v in plain]
        if isinstance(plain, list)
        else plain
    )
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
