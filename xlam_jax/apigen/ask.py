"""Questions by a language model: what it is shown, what it must answer, and how its answer is read.

After APIGen (arXiv 2406.18518, figures 2 and 8): a data labeler writes several pairs of a query and its calls for
sampled APIs, in one of the styles, shown pairs that passed before. Request i depends on the seed, i and those
pairs alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from xlam_jax.apigen.api import Api
from xlam_jax.apigen.generate import STYLES, MixConfig
from xlam_jax.format import ToolCall
from xlam_jax.format.tools import xlam_view
from xlam_jax.llm import Messages

_SYSTEM = (
    "You are a data labeler. You write questions that people would ask, and the function calls that answer them.\n"
    "The query: clear; a typical use; names every value that its calls need, as people say it (numbers in digits or in "
    "words, dates as people write them); from easy to hard; never names a function or a parameter.\n"
    "The answers: a list of calls, as many as the query asks for; only the functions given; only their parameters, "
    "of the given types; optional parameters only where the query asks for them; nothing that the query does not say."
)
_STYLE = {
    "simple": "Each query needs exactly one call.",
    "multiple": "Each query needs exactly one call, of the one function that fits best.",
    "parallel": "Each query asks for several things at once: two to four calls of the function, with different values.",
    "parallel_multiple": (
        "Each query asks for several things that belong together: two to four calls, of two functions or more."
    ),
    "irrelevance": (
        "No function given can answer the query: it asks for something near to them that none does, or lacks a value "
        "that a call needs. The answers are an empty list."
    ),
}
_REGISTERS = (
    "", "Write as commands.", "Write as questions.", "Write as somebody who tells what they need and why.",
    "Write short, as in a chat.", "Write formally.", "One of the queries may have a typing error.",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is asked of the generator: `pairs` pairs of `style` for the APIs `offered`."""

    index: int
    style: str
    offered: tuple[Api, ...]
    pairs: int
    messages: Messages


@dataclass(frozen=True)
class Pair:
    """A query with its calls, as the generator wrote it."""

    query: str
    calls: tuple[ToolCall, ...]
    text: str


class Asker:
    """Draws requests.

    Args:
      apis: what may be offered.
      mix: weights of the styles.
      pairs: pairs a request.
      shots: most pairs that passed before that a request shows.
    """

    def __init__(self, apis: Sequence[Api], mix: MixConfig, pairs: int, shots: int, seed: int):
        self.apis, self.mix, self.pairs, self.shots, self.seed = list(apis), mix, pairs, shots, seed
        self.groups: dict[str, list[Api]] = {}
        for api in self.apis:
            self.groups.setdefault(api.group, []).append(api)

    def request(self, index: int, passed: Sequence[dict[str, Any]]) -> Request:
        """Request number `index`, given the pairs that passed so far."""
        r = Random(f"{self.seed}/ask/{index}")
        style = r.choices(STYLES, self.mix.weights())[0]
        # Every API has its turn before one has a second.
        order = Random(f"{self.seed}/order/{index // len(self.apis)}").sample(self.apis, len(self.apis))
        target = order[index % len(self.apis)]
        count = 1 if style in ("simple", "parallel") else r.randint(2, 4)
        offered = [target]
        near = [a for a in self.groups[target.group] if a is not target]
        far = [a for a in self.apis if a.group != target.group]
        while len(offered) < count and (near or far):
            pool = near if near and (not far or r.random() < 0.7) else far
            offered.append(pool.pop(r.randrange(len(pool))))
        names: dict[str, Api] = {}
        for api in offered:  # two servers may have tools of one name
            names.setdefault(api.tool.name, api)
        offered = list(names.values())
        r.shuffle(offered)
        shown = r.sample(list(passed), min(self.shots, len(passed))) if style != "irrelevance" else []
        return Request(index, style, tuple(offered), self.pairs, self._messages(style, offered, shown, r))

    def _messages(
        self, style: str, offered: Sequence[Api], shown: Sequence[dict[str, Any]], r: Random
    ) -> Messages:
        parts = []
        if shown:
            parts.append(
                "Pairs for other functions, as examples:\n"
                + "\n".join(json.dumps(s, ensure_ascii=False) for s in shown)
            )
        tools = [xlam_view(api.tool) for api in offered]
        parts.append("The functions:\n" + "\n".join(json.dumps(t, ensure_ascii=False) for t in tools))
        real = [{"name": a.tool.name, "arguments": r.choice(a.examples)} for a in offered if a.examples]
        if real and style != "irrelevance":
            parts.append(
                "Calls that are known to work:\n" + "\n".join(json.dumps(c, ensure_ascii=False) for c in real)
            )
        parts.append(f"{_STYLE[style]} {r.choice(_REGISTERS)}".strip())
        parts.append(
            f"Write {self.pairs} diverse pairs. Answer with one JSON object and nothing else: "
            '{"pairs": [{"query": "...", "answers": [{"name": "...", "arguments": {...}}]}, ...]}, '
            f"with {self.pairs} pairs."
        )
        return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}]


def read_pairs(text: str) -> list[Pair | str]:
    """The pairs of an answer; in the place of one that cannot be read, what is wrong with it.

    Reads what models make of the task: words or a fence around the object, a bare list, arguments as JSON text.
    """
    value = _json_in(text)
    if isinstance(value, dict):
        value = value.get("pairs", [value] if "query" in value else None)
    if not isinstance(value, list):
        return ["no JSON with pairs"]
    return [_pair(item) for item in value]


def _json_in(text: str) -> Any:
    text = re.sub(r"(?s)<think>.*?</think>", "", text)
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[{\[]", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if (isinstance(value, dict) and ("pairs" in value or "query" in value)) or (
            isinstance(value, list) and value and isinstance(value[0], dict)
        ):
            return value
    return None


def _pair(item: Any) -> Pair | str:
    if not isinstance(item, dict) or not isinstance(item.get("query"), str):
        return "a pair without a query"
    calls = []
    answers = item.get("answers")
    if not isinstance(answers, list):
        return "answers that are no list"
    for answer in answers:
        arguments = answer.get("arguments") if isinstance(answer, dict) else None
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                arguments = None
        if (
            not isinstance(answer, dict)
            or not isinstance(answer.get("name"), str)
            or not isinstance(arguments, dict)
        ):
            return "an answer that is no call"
        calls.append(ToolCall(answer["name"], arguments))
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return "text that is no JSON or no Unicode"
    return Pair(item["query"].strip(), tuple(calls), text)
