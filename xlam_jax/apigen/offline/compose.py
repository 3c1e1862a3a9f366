"""Rows of a library without a model: which APIs are offered, what is asked, what answers it.

Row i of a split depends on the seed, the split and i alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from xlam_jax.apigen.generate import MixConfig
from xlam_jax.apigen.library import Split
from xlam_jax.apigen.offline.askable import NARROWS, Askable, Parameter, alike
from xlam_jax.apigen.offline.draws import World
from xlam_jax.apigen.offline.requests import REGISTERS, Asked, ask, sentence, together
from xlam_jax.format import Record, Step, ToolCall
from xlam_jax.records.augment.wordings import QUESTIONS, REFUSALS

STYLES = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance")
ABSTENTIONS = ("far_domain", "tool_missing", "argument_missing")
_LIKE = 0.34  # descriptions that share more of their words may answer each other's requests
_DISTRACTS = 0.5  # and with the right tool beside it, one that shares more makes the choice a guess
_REGISTER_WEIGHTS = (0.36, 0.32, 0.24, 0.08)


@dataclass(frozen=True)
class Composed:
    """A row, and the APIs it offers by name."""

    record: Record
    by_name: dict[str, Askable]


class Composer:
    """Draws rows of one split.

    Args:
      apis: the APIs of the split, in the order of the library.
      mix: weights of the styles.
    """

    def __init__(self, apis: Sequence[Askable], mix: MixConfig, split: Split, seed: int):
        self.apis, self.mix, self.split, self.seed = list(apis), mix, split, seed
        self.groups: dict[str, list[Askable]] = defaultdict(list)
        self.categories: dict[str, list[Askable]] = defaultdict(list)
        for api in self.apis:
            self.groups[api.api.group].append(api)
            self.categories[api.category].append(api)
        self.wanting = [api for api in self.apis if _wanting(api)]
        self._order: tuple[int, list[Askable]] = (-1, [])

    def compose(self, index: int) -> Composed:
        """Draws row `index` (unverified)."""
        r = Random(f"{self.seed}/{self.split}/{index}")
        style = r.choices(STYLES, self.mix.weights())[0]
        target = self._turn_of(index)
        world = target.world(r)
        register = r.choices(REGISTERS, _REGISTER_WEIGHTS)[0]
        kind = ""
        thought = ""
        if style == "irrelevance":
            # Thirds by the index, so that each has its share of every prefix.
            kind = ABSTENTIONS[index % 3]
            if kind == "argument_missing" and not _wanting(target):
                target = r.choice(self.wanting or [target])
                kind = kind if self.wanting else "far_domain"
                world = target.world(r)
            query, offered, thought = self._abstain(kind, target, world, register, r)
            calls: tuple[ToolCall, ...] = ()
        else:
            query, calls, offered = self._answerable(style, target, world, register, r)
        r.shuffle(offered)
        lineage = (
            f"style:{style}", *((f"abstain:{kind}",) if kind else ()), f"category:{target.category}",
            "generator:frames", f"register:{register}",
        )  # fmt: skip
        licenses = sorted({api.api.license for api in offered} - {""})
        record = Record(
            id=f"apigen-{self.split}-{self.seed}-{index:07d}",
            query=query,
            tools=tuple(api.api.tool for api in offered),
            steps=(Step(thought=thought, tool_calls=calls),),
            source=f"apigen/{target.api.door}",
            license=" AND ".join(licenses),
            lineage=lineage,
        )
        return Composed(record, {api.name: api for api in offered})

    def _turn_of(self, index: int) -> Askable:
        """Every API has its turn before one has a second."""
        around, place = divmod(index, len(self.apis))
        if self._order[0] != around:
            order = list(self.apis)
            Random(f"{self.seed}/{self.split}/order/{around}").shuffle(order)
            self._order = (around, order)
        return self._order[1][place]

    def _answerable(
        self, style: str, target: Askable, world: World, register: str, r: Random
    ) -> tuple[str, tuple[ToolCall, ...], list[Askable]]:
        offered = [target]
        if style == "parallel_multiple":
            other = self._related(target, r)
            offered.append(other)
            asked = [ask(target, world, r), ask(other, world, r)]
            if r.random() < 0.2:
                again = r.choice(offered)
                once_more = ask(again, target.world(r), r)
                if _told(again, once_more) not in [_told(again, a) for a in asked]:
                    asked.append(once_more)
            query = together(asked, register, r)
        elif style == "parallel":
            asked = _different(target, r.choices((2, 3, 4), (0.6, 0.3, 0.1))[0], r)
            query = together(asked, register, r)
        else:
            asked = [ask(target, world, r, relative=True)]
            query = sentence(asked[0], register, r)
        if style in ("multiple", "parallel_multiple") or (style == "parallel" and r.random() < 0.4):
            self._distract(offered, r.choices((1, 2, 3), (0.4, 0.35, 0.25))[0], r)
        return query, tuple(a.call for a in asked), offered

    def _abstain(
        self, kind: str, target: Askable, world: World, register: str, r: Random
    ) -> tuple[str, list[Askable], str]:
        """A query that the offered tools cannot answer: the query, the tools, what is said instead of a call."""
        if kind == "argument_missing":
            missing = r.choice(_wanting(target))
            asked = ask(target, world, r, leave_out=missing.name)
            offered = [target]
            self._distract(offered, r.randint(0, 2), r)
            return (
                sentence(asked, register, r),
                offered,
                r.choice(QUESTIONS).format(what=missing.label if len(missing.label) > 2 else "number"),
            )
        refuse = r.choice(REFUSALS) if r.random() < 0.5 else ""
        query = sentence(ask(target, world, r), register, r)
        if kind == "tool_missing":
            near = [a for a in self.groups[target.api.group] if a is not target]
            alike_ones = self.categories[target.category]
            near += r.sample(alike_ones, min(20, len(alike_ones)))
        else:
            near = [a for a in r.sample(self.apis, min(40, len(self.apis))) if a.category != target.category]
        offered: list[Askable] = []
        r.shuffle(near)
        for api in near:
            if len(offered) < r.choice((1, 2, 3, 4)) and self._apart(api, [target, *offered], _LIKE):
                offered.append(api)
        if not offered:
            self._distract(offered := [target], 2, r)
            offered.remove(target)
        return query, offered, refuse

    def _related(self, target: Askable, r: Random) -> Askable:
        """Another API of the same service or domain, so that two requests belong together."""
        for pool in (self.groups[target.api.group], self.categories[target.category], self.apis):
            fitting = [
                a
                for a in r.sample(pool, min(12, len(pool)))
                if a.name != target.name and alike(a, target) < 0.6
            ]
            if fitting:
                return r.choice(fitting)
        return next(a for a in self.apis if a.name != target.name)

    def _distract(self, offered: list[Askable], count: int, r: Random) -> None:
        """Adds tools that answer none of what is asked: of the same domain half of the time."""
        needed = list(offered)
        for _ in range(count * 8):
            if len(offered) - len(needed) == count:
                return
            near = [*self.groups[needed[0].api.group], *self.categories[needed[0].category][:200]]
            api = r.choice(near if r.random() < 0.7 else self.apis)
            if self._apart(api, offered, _DISTRACTS):
                offered.append(api)

    def _apart(self, api: Askable, others: Sequence[Askable], most: float) -> bool:
        return all(api.name != other.name and alike(api, other) < most for other in others)


def _different(target: Askable, count: int, r: Random) -> list[Asked]:
    """Requests of one API with different calls; half of the time in one wording, so that they can be joined."""
    asked: list[Asked] = []
    wording = r.random()
    alike_said = r.random() < 0.5
    for _ in range(count * 6):
        if len(asked) == count:
            break
        one = ask(target, target.world(r), Random(wording) if alike_said else r)
        if _told(target, one) not in [_told(target, a) for a in asked]:
            asked.append(one)
    return asked


def _told(target: Askable, asked: Asked) -> list[tuple[str, str]]:
    """What a call is about, without switches and the number of results: two calls that differ by those are a whim."""
    minor = {p.name for p in target.parameters if p.kind and p.kind.name in NARROWS}
    return sorted((n, repr(v)) for n, v in asked.call.arguments.items() if n not in minor)


def _wanting(api: Askable) -> list[Parameter]:
    """The parameters that a request can lack so that the call cannot be made."""
    if api.frame is None:
        return []
    return [
        p for p in api.parameters if p.required and p.schema.get("type") != "boolean" and "default" not in p.schema
    ]  # fmt: skip


def rarity(apis: Sequence[Askable]) -> dict[str, float]:
    """How much each content word tells tools apart: the logarithm of one over its share of the APIs."""
    counts: dict[str, int] = defaultdict(int)
    for api in apis:
        for word in api.words:
            counts[word] += 1
    return {word: math.log(len(apis) / n) for word, n in counts.items()}
