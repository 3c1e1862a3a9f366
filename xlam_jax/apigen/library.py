"""The API library: which functions exist, how they are described, and which are kept for evaluation."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from xlam_jax.apigen import functions as _functions
from xlam_jax.apigen.functions.declare import Declaration, Template
from xlam_jax.apigen.functions.heldout import DEV, HELDOUT
from xlam_jax.apigen.signature import tool_from_function
from xlam_jax.errors import InputError, unknown
from xlam_jax.format import Tool

Split = Literal["train", "dev", "heldout"]
_KINDS = ("stdlib",)


@dataclass(frozen=True)
class ApiFunction:
    """One executable API.

    Attributes:
      tool: name, description and parameter schema, as a model sees them.
      category: domain, such as `dates`.
      target: where the sandbox finds it, `module:function`.
      queries: wordings as plain text with `{param}` placeholders.
      examples: a few realistic values by parameter.
      split: what it serves; a function of `dev` or `heldout` is never shown while training, neither as target nor
        as distractor.
      deterministic: result of the sandbox's probe; None when it was not probed.
      templates, give, joint, edge, alike: see `functions.declare.Declaration`.
    """

    tool: Tool
    category: str
    target: str
    queries: tuple[str, ...]
    examples: Mapping[str, list]
    split: Split
    deterministic: bool | None = None
    templates: tuple[Template, ...] = ()
    give: Mapping[str, Callable[[Random], Any]] = field(default_factory=dict)
    joint: Callable[[Random], dict[str, Any]] | None = None
    edge: Mapping[str, tuple] = field(default_factory=dict)
    alike: str = ""

    @property
    def name(self) -> str:
        return self.tool.name

    @property
    def heldout(self) -> bool:
        """Whether it is kept for the numbers that are reported."""
        return self.split == "heldout"

    @property
    def choices(self) -> frozenset[str]:
        """Parameters with an enum."""
        return frozenset(n for n, schema in self.tool.parameters["properties"].items() if "enum" in schema)

    def sample(self, r: Random) -> dict[str, Any]:
        """Draws a value for every parameter, optional ones too."""
        values = self.joint(r) if self.joint else {}
        for name in self.tool.parameters["properties"]:
            if name not in values:
                values[name] = self._draw(name, r)
        return values

    def _draw(self, name: str, r: Random) -> Any:
        if name in self.give:
            return self.give[name](r)
        schema = self.tool.parameters["properties"][name]
        if "enum" in schema:
            return r.choice(schema["enum"])
        if schema["type"] == "boolean":
            return r.random() < 0.5
        raise InputError(
            f"no way to draw a value for {name!r}", where=self.target, hint="add it to give={...}"
        )


def load_library(kind: str = "stdlib") -> tuple[ApiFunction, ...]:
    """Loads a library, ordered by category and name.

    Raises:
      InputError: unknown kind, or a function whose declaration does not fit its signature.
    """
    if kind not in _KINDS:
        raise unknown("API library", kind, _KINDS, where="library")
    return _load_stdlib()


@functools.cache
def _load_stdlib() -> tuple[ApiFunction, ...]:
    apis = []
    for info in pkgutil.iter_modules(_functions.__path__):
        module = importlib.import_module(f"{_functions.__name__}.{info.name}")
        for function in vars(module).values():
            declared = getattr(function, "__api__", None)
            if declared is not None and function.__module__ == module.__name__:
                apis.append(_describe(function, declared, info.name.rstrip("_")))
    apis.sort(key=lambda api: (api.category, api.name))
    names = [api.name for api in apis]
    if twice := {n for n in names if names.count(n) > 1}:
        raise InputError(f"two functions are called {sorted(twice)[0]!r}", where="library")
    return tuple(apis)


def _describe(function: Callable, declared: Declaration, category: str) -> ApiFunction:
    tool = tool_from_function(function, declared.name)
    target = f"{function.__module__}:{function.__name__}"
    properties, required = tool.parameters["properties"], set(tool.parameters["required"])
    for template in declared.queries:
        if unknown := template.arguments - set(properties):
            raise InputError(f"unknown parameter {min(unknown)!r} in {template.text!r}", where=target)
        if missing := required - template.arguments:
            raise InputError(f"required parameter {min(missing)!r} is not in {template.text!r}", where=target)
    api = ApiFunction(
        tool=tool,
        category=category,
        target=target,
        queries=tuple(t.text for t in declared.queries),
        examples={},
        split="heldout" if tool.name in HELDOUT else "dev" if tool.name in DEV else "train",
        templates=declared.queries,
        give=declared.give,
        joint=declared.joint,
        edge=declared.edge,
        alike=declared.alike,
    )
    r = Random(tool.name)
    draws = [api.sample(r) for _ in range(3)]
    return replace(api, examples={name: [d[name] for d in draws] for name in properties})
