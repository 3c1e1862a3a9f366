"""The model-free generator: draws functions, arguments and wordings, and puts Records together.

Row i of a split is a function of (seed, split, i) alone, so asking for more rows never changes earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

import pydantic

from xlam_jax.apigen import smalltalk, wording
from xlam_jax.apigen.functions.declare import Template
from xlam_jax.apigen.library import ApiFunction, Split
from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Tool, ToolCall

STYLES = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance")

# Domains that could answer each other's questions; an irrelevance sample never mixes members of one cluster.
_CLUSTERS = (
    {"arithmetic", "numerals", "fractions", "stats", "collections", "finance", "randomness"},
    {"text", "encoding", "characters"},
    {"dates", "calendars"},
    {"geometry", "science", "units"},
)


class MixConfig(Config):
    """Weights of the styles; they need not sum to one.

    Attributes:
      simple: one tool, one call.
      multiple: several tools, one call.
      parallel: one tool, several calls.
      parallel_multiple: several tools, several calls.
      irrelevance: no tool fits, no call.
    """

    simple: float = pydantic.Field(default=0.3, ge=0)
    multiple: float = pydantic.Field(default=0.3, ge=0)
    parallel: float = pydantic.Field(default=0.15, ge=0)
    parallel_multiple: float = pydantic.Field(default=0.15, ge=0)
    irrelevance: float = pydantic.Field(default=0.1, ge=0)

    @pydantic.model_validator(mode="after")
    def _some_weight(self) -> MixConfig:
        if not sum(self.weights()):
            raise ValueError("at least one style needs a weight above 0")
        return self

    def weights(self) -> list[float]:
        """Weights in the order of STYLES."""
        return [getattr(self, style) for style in STYLES]


class GenerateConfig(Config):
    """How rows are drawn.

    Attributes:
      mix: weights of the styles (of a conversation's first turn).
      turns: fewest and most user turns of a training record; later turns reuse the first turn's tools.
      ask: what becomes of a training record's turns: one "conversation", or "separately" a record each, which
        `data build` packs with `share_prompts` at the cost of one list of tools.
      distractors: most unneeded tools beside the needed ones.
      lookalike: chance that a distractor comes from the target's own domain.
      wrappers: share of queries with a greeting, a context or thanks.
      typos: share of wordings with a typo (training only).
      edge_cases: share of calls with a careless value that may fail verification.
    """

    mix: MixConfig = MixConfig()
    turns: tuple[int, int] = (1, 1)
    ask: Literal["conversation", "separately"] = "conversation"
    distractors: int = pydantic.Field(default=3, ge=1, le=8)
    lookalike: float = pydantic.Field(default=0.5, ge=0, le=1)
    wrappers: float = pydantic.Field(default=0.25, ge=0, le=1)
    typos: float = pydantic.Field(default=0.03, ge=0, le=1)
    edge_cases: float = pydantic.Field(default=0.03, ge=0, le=1)

    @pydantic.model_validator(mode="after")
    def _turns_ordered(self) -> GenerateConfig:
        if not 1 <= self.turns[0] <= self.turns[1]:
            raise ValueError("turns needs 1 <= fewest <= most")
        return self


@dataclass(frozen=True)
class Asked:
    """One turn before it becomes a Step: what the user says and the calls that answer it."""

    query: str
    calls: tuple[ToolCall, ...]
    style: str


class Generator:
    """Makes rows of one split; each sees functions of that split only.

    Example:
      >>> from xlam_jax.apigen.library import load_library
      >>> rows = Generator(load_library(), GenerateConfig(), "train", seed=0)
      >>> rows.row(3) == rows.row(3)
      True
    """

    def __init__(self, library: Sequence[ApiFunction], config: GenerateConfig, split: Split, seed: int):
        self.apis = tuple(api for api in library if api.split == split)
        if len(self.apis) < 2:
            raise InputError(f"the library has no functions for the {split} split", where="library")
        self.config, self.seed = config, seed
        self.split: Split = split
        self.turns = config.turns if split == "train" else (1, 1)
        self.typos = config.typos if split == "train" else 0.0
        self.smalltalk = {"train": smalltalk.TRAIN, "dev": smalltalk.DEV, "heldout": smalltalk.HELDOUT}[split]

    def row(self, index: int) -> Record:
        """Draws row `index` (unverified)."""
        r = Random(f"{self.seed}/{self.split}/{index}")
        style = r.choices(STYLES, self.config.mix.weights())[0]
        apis = self._offer(self._turn_of(index), style, r)
        used: set[str] = set()
        turns = [self._ask(style, apis, r, used, apis[0])]
        for _ in range(r.randint(*self.turns) - 1):
            turns.append(self._ask(self._later_style(apis, r), apis, r, used))
        share = self.config.wrappers
        later = self.config.ask == "conversation"
        queries = [wording.dress(turn.query, r, share, later=later and i > 0) for i, turn in enumerate(turns)]
        steps = tuple(
            Step(tool_calls=turn.calls, user_input=following)
            for turn, following in zip(turns, [*queries[1:], ""], strict=True)
        )
        tools = [api.tool for api in apis]
        r.shuffle(tools)
        lineage = (f"style:{style}",) + ((f"turns:{len(turns)}",) if len(turns) > 1 else ())
        return Record(
            id=f"apigen-{self.split}-{self.seed}-{index:06d}",
            query=queries[0],
            tools=tuple(tools),
            steps=steps,
            source="apigen/stdlib",
            license="Apache-2.0",
            lineage=lineage,
        )

    def _turn_of(self, index: int) -> ApiFunction:
        """The function a row is about: all have their turn, in a new order each round."""
        around, place = divmod(index, len(self.apis))
        order = list(self.apis)
        Random(f"{self.seed}/{self.split}/order/{around}").shuffle(order)
        return order[place]

    def _offer(self, target: ApiFunction, style: str, r: Random) -> list[ApiFunction]:
        """Draws the tools that stand beside the target's."""
        apis = [target]
        extra = r.randint(1, self.config.distractors)
        if style == "simple" or (style in ("parallel", "irrelevance") and r.random() < 0.4):
            extra = 0
        if style == "parallel_multiple":
            extra = max(1, extra)
        for _ in range(extra):
            apis.append(self._another(apis, r))
        return apis

    def _another(self, apis: list[ApiFunction], r: Random) -> ApiFunction:
        """Draws a further tool; none that could answer a query meant for one of the others."""
        names, groups = {api.name for api in apis}, {api.alike for api in apis} - {""}
        fitting = [api for api in self.apis if api.name not in names and api.alike not in groups]
        near = [api for api in fitting if api.category == apis[0].category]
        return r.choice(near if near and r.random() < self.config.lookalike else fitting)

    def _later_style(self, apis: list[ApiFunction], r: Random) -> str:
        if len(apis) == 1:
            return r.choices(("simple", "parallel", "irrelevance"), (0.75, 0.17, 0.08))[0]
        return r.choices(
            ("multiple", "parallel", "parallel_multiple", "irrelevance"), (0.6, 0.14, 0.18, 0.08)
        )[0]

    def _ask(
        self,
        style: str,
        apis: list[ApiFunction],
        r: Random,
        used: set[str],
        target: ApiFunction | None = None,
    ) -> Asked:
        if style == "irrelevance":
            return Asked(self._unanswerable(apis, r), (), style)
        if style == "parallel_multiple":
            wanted = r.sample(apis, min(len(apis), r.choices((2, 3), (0.8, 0.2))[0]))
            pairs = [self._request(api, r, used) for api in wanted]
            clauses = [clause for clause, _, _ in pairs]
            return Asked(wording.join_clauses(clauses, r), tuple(call for _, call, _ in pairs), style)
        api = target or r.choice(apis)
        first = self._request(api, r, used)
        if style == "parallel":
            return self._parallel(api, first, r, used)
        return Asked(first[0], (first[1],), style)

    def _parallel(
        self, api: ApiFunction, first: tuple[str, ToolCall, Template], r: Random, used: set[str]
    ) -> Asked:
        clause, call, template = first
        clauses, calls, seen = [clause], [call], {_key(call.arguments)}
        wanted = r.choices((2, 3, 4), (0.55, 0.32, 0.13))[0]
        brief = not template.fixed and r.random() < 0.5
        for _ in range(12):
            if len(calls) == wanted:
                break
            if brief:
                arguments = self._arguments(api, template, r)
                following = wording.repeat_clause(template, arguments, r, api.choices)
                call = ToolCall(api.name, arguments)
            else:
                following, call, _ = self._request(api, r, used)
            if _key(call.arguments) not in seen:
                seen.add(_key(call.arguments))
                clauses.append(following)
                calls.append(call)
        query = " ".join(map(wording.finish, clauses)) if brief else wording.join_clauses(clauses, r)
        return Asked(query, tuple(calls), "parallel")

    def _request(self, api: ApiFunction, r: Random, used: set[str]) -> tuple[str, ToolCall, Template]:
        """Words one request and its call; a conversation uses up all wordings before it repeats one."""
        fresh = [template for template in api.templates if template.text not in used]
        template = r.choice(fresh or api.templates)
        used.add(template.text)
        arguments = self._arguments(api, template, r)
        query = wording.fill(template, arguments, r, self.typos, api.choices)
        return query, ToolCall(api.name, arguments), template

    def _arguments(self, api: ApiFunction, template: Template, r: Random) -> dict[str, Any]:
        values = {**api.sample(r), **template.fixed}
        used = [name for name in api.tool.parameters["properties"] if name in template.arguments]
        careless = [name for name in used if name in api.edge and name not in template.fixed]
        if careless and r.random() < self.config.edge_cases:
            name = r.choice(careless)
            values[name] = r.choice(api.edge[name])
        return {name: values[name] for name in used}

    def _unanswerable(self, apis: list[ApiFunction], r: Random) -> str:
        far = [api for api in self.apis if all(unrelated(api.category, other.category) for other in apis)]
        if not far or r.random() < 0.3:
            return r.choice(self.smalltalk)
        return self._request(r.choice(far), r, set())[0]


def unrelated(first: str, second: str) -> bool:
    """Whether two domains are so far apart that no function of one answers a question of the other."""
    return first != second and not any(first in cluster and second in cluster for cluster in _CLUSTERS)


def mask_names(record: Record, r: Random) -> Record:
    """Replaces function and parameter names by meaningless ones, alike in tools and calls (Hammer's masking).

    What is left to go by is the descriptions, so names seen while training lose their weight.
    """
    names = {tool.name: f"func_{r.randrange(16**4):04x}{i}" for i, tool in enumerate(record.tools)}
    parameters = {
        tool.name: {old: f"arg{i}" for i, old in enumerate(tool.parameters["properties"], 1)}
        for tool in record.tools
    }

    def tool_of(tool: Tool) -> Tool:
        new, old = parameters[tool.name], tool.parameters
        schema = {
            **old,
            "properties": {new[k]: v for k, v in old["properties"].items()},
            "required": [new[k] for k in old["required"]],
        }
        return Tool(names[tool.name], tool.description, schema)

    def step_of(step: Step) -> Step:
        calls = tuple(
            ToolCall(names[c.name], {parameters[c.name][k]: v for k, v in c.arguments.items()})
            for c in step.tool_calls
        )
        return Step(step.thought, calls, step.next_observation, step.user_input)

    return Record(
        **{
            **{name: getattr(record, name) for name in record.__dataclass_fields__},
            "tools": tuple(map(tool_of, record.tools)),
            "steps": tuple(map(step_of, record.steps)),
            "lineage": (*record.lineage, "rename:mask"),
        }
    )


def separate(record: Record) -> list[Record]:
    """A record of one turn for each turn of `record`, with the same tools in the same order."""
    queries = [record.query, *(step.user_input for step in record.steps[:-1])]
    others = tuple(mark for mark in record.lineage if not mark.startswith(("style:", "turns:")))
    return [
        replace(
            record,
            id=f"{record.id}-{i}",
            query=query,
            steps=(replace(step, user_input=""),),
            lineage=(f"style:{_style(record.tools, step)}", *others),
        )
        for i, (query, step) in enumerate(zip(queries, record.steps, strict=True))
    ]


def _style(tools: Sequence[Tool], step: Step) -> str:
    names = [call.name for call in step.tool_calls]
    if len(names) < 2:
        return "irrelevance" if not names else "simple" if len(tools) == 1 else "multiple"
    return "parallel" if len(set(names)) == 1 else "parallel_multiple"


def _key(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True)
