"""What may stand in provenance.json: read back before a card is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from xlam_jax.errors import InputError

_Section = dict[str, Any] | None


def one_line(text: str) -> str:
    """A name, such as a folder's, without what is no sign on a line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _is_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("no line of text")
    return text


_Line = Annotated[str, AfterValidator(_is_line)]


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Licence(_Facts):
    name: str
    link: str = ""
    found_in: str = ""
    named: bool = False
    beside: list[_Licence] = []


class Base(_Facts):
    """Of `provenance.base_facts`."""

    model: str | None
    revision: str | None
    name: str | None
    folder: str | None
    license: _Licence | None
    language: list[str] | None
    weights_xxh3_128: str | None


class _Config(_Facts):
    batch: _Section = None
    optim: _Section = None
    lora: _Section = None
    objective: _Section = None
    mesh: _Section = None


class _Training(_Facts):
    step: int | None
    total_steps: int | None
    started: str | None
    config: _Config
    versions: dict[str, Any]
    git: _Section
    loss: float | None
    eval_loss: float | None


class _DataSource(_Facts):
    name: str
    rows: int
    licences: dict[str, int]
    url: str | None


class _Data(_Facts):
    fingerprint: str | None
    rows: int | None
    records: int | None
    tokens: int | None
    target_tokens: int | None
    seq_len: int | None
    sources: list[_DataSource]


class _Evaluation(_Facts):
    dataset: str
    constrained: bool
    n: int
    ast: float
    ast_low: float
    ast_high: float
    parsable: float


class Provenance(_Facts):
    """The whole file."""

    format_version: int
    name: _Line | None
    base: Base
    made: _Line | None
    training: _Training | None
    data: _Data | None
    license: _Licence | None
    evaluations: list[_Evaluation]


def check(facts: Mapping[str, Any], shape: type[BaseModel], where: str) -> None:
    """Raises InputError, with the first place that is wrong, where the facts cannot make a card."""
    try:
        shape.model_validate(facts)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"no provenance that can be read: {place}: {first['msg']}", where=where,
            hint="convert the model again, or remove the file: what it says will be unknown",
        ) from e  # fmt: skip
