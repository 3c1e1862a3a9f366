"""The `@api` decorator: what signature and docstring cannot say, which is how people ask for a function.

A query template is plain text with `{param}` placeholders. It must name every required parameter; an
optional one is part of a call only when the template mentions it. A pair `(text, {param: value})` fixes
arguments that the text states in words, such as a flag ("ignoring case").
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

Sampler = Callable[[Random], Any]
F = TypeVar("F", bound=Callable)


@dataclass(frozen=True)
class Template:
    """A wording: `text` with placeholders, and the arguments that its words fix."""

    text: str
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Parameter names in order of appearance."""
        return tuple(name for _, name, _, _ in string.Formatter().parse(self.text) if name)

    @property
    def arguments(self) -> frozenset[str]:
        """Every parameter that a call made from this wording carries."""
        return frozenset(self.placeholders) | frozenset(self.fixed)


@dataclass(frozen=True)
class Declaration:
    """What `@api` records on a function.

    Attributes:
      queries: wordings of a request that this function answers.
      name: public name where it differs from the Python name (dotted and camelCase names).
      alike: functions of one group could answer each other's queries, so they are never offered together.
      give: sampler by parameter.
      joint: sampler of several parameters that depend on each other.
      edge: values by parameter that a careless caller would pass and that may fail.
    """

    queries: tuple[Template, ...]
    name: str = ""
    alike: str = ""
    give: Mapping[str, Sampler] = field(default_factory=dict)
    joint: Callable[[Random], dict[str, Any]] | None = None
    edge: Mapping[str, tuple] = field(default_factory=dict)


def api(
    *queries: str | tuple[str, dict[str, Any]],
    name: str = "",
    alike: str = "",
    give: Mapping[str, Sampler] | None = None,
    joint: Callable[[Random], dict[str, Any]] | None = None,
    edge: Mapping[str, list] | None = None,
) -> Callable[[F], F]:
    """Declares a function as part of the library.

    Args:
      queries: wordings; a pair is a wording and the arguments that it fixes, as in `Template`.
      name: public name; empty for the Python name.
      alike, give, joint, edge: as in `Declaration`.
    """

    def mark(function: F) -> F:
        function.__api__ = Declaration(  # type: ignore[attr-defined]
            queries=tuple(Template(q) if isinstance(q, str) else Template(*q) for q in queries),
            name=name or function.__name__,
            alike=alike,
            give=dict(give or {}),
            joint=joint,
            edge={key: tuple(values) for key, values in (edge or {}).items()},
        )
        return function

    return mark
