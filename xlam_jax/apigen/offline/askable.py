"""An API that can be asked for without a model: its frame, and for each parameter a meaning and a label."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from xlam_jax.apigen.api import Api, Refusal
from xlam_jax.apigen.offline.categories import category_of, topic_of
from xlam_jax.apigen.offline.draws import Draw, World, ending_of, fitting, path
from xlam_jax.apigen.offline.frames import Frame, frame_of, label_of, unit_said
from xlam_jax.apigen.offline.kinds import Kind, kind_of
from xlam_jax.apigen.offline.tables import words
from xlam_jax.apigen.signature import words_of


@dataclass(frozen=True)
class Parameter:
    """One parameter as it is asked for.

    Attributes:
      kind: what it means; None where values come from examples alone.
      unit: said after a number, such as `m/s`.
    """

    name: str
    label: str
    schema: Mapping[str, Any]
    required: bool
    kind: Kind | None
    unit: str = ""


@dataclass(frozen=True)
class Askable:
    """An API with what it takes to ask for it.

    Attributes:
      frame: the sentence; None where the API brings templates only.
      parameters: those that can be asked for, required ones first.
      topic: the category that what is searched for comes from.
      content: parameters that say what to write.
      writes: the request changes something, and one of `content` has to say what to.
      words: content words of name and description, for likeness.
    """

    api: Api
    frame: Frame | None
    parameters: tuple[Parameter, ...]
    category: str
    topic: str = ""
    words: frozenset[str] = field(default_factory=frozenset)
    content: frozenset[str] = frozenset()
    writes: bool = False

    @property
    def name(self) -> str:
        return self.api.tool.name

    def world(self, r: Random) -> World:
        """A world for one row about this API."""
        return World(r, self.topic, self.words)

    def arguments(self, world: World, r: Random) -> dict[str, Any]:
        """Values for the required parameters and some of the others, in the order of the schema.

        Args:
          world: draws the values.
          r: draws which of the optional parameters have one.
        """
        properties = self.api.tool.parameters["properties"]
        optional = [p for p in self.parameters if not p.required]
        wanted = r.choices((0, 1, 2), (0.45, 0.38, 0.17))[0]
        if len(optional) == len(self.parameters):
            wanted = max(1, wanted)  # a call with no argument at all asks for nothing in particular
        chosen = {p.name for p in r.sample(optional, min(wanted, len(optional)))}
        if self.writes and not chosen & self.content:
            chosen.add(r.choice(sorted(self.content)))
        places = {p.name for p in self.parameters if p.kind and p.kind.name in ("latitude", "longitude")}
        chosen |= places if len(places) == 2 and chosen & places else set()
        chosen |= set(self.frame.slots if self.frame else ())  # what the sentence speaks of is said
        if self.api.examples:
            example = world.r.choice(self.api.examples)
            if self.api.run.get("kept"):  # drawn as it should be, every parameter of it
                asked_for = {p.name for p in self.parameters if p.required} | chosen
                return {name: value for name, value in example.items() if name in asked_for}
            return {n: _moved(v, properties.get(n) or {}, world.r) for n, v in example.items()}
        values = {
            p.name: p.kind.draw(world) for p in self.parameters if p.kind and (p.required or p.name in chosen)
        }
        return _ordered({name: values[name] for name in properties if name in values})


_WRITES = frozenset(words("writes"))
# Meanings that tell which thing, and nothing of what becomes of it.
_NAMES_ONLY = frozenset(
    ("id", "ids", "uuid", "uuids", "flag", "limit", "page", "offset", "owner", "repo", "folder")
)
# Meanings that narrow a search without saying what is searched for.
NARROWS = frozenset(("limit", "page", "offset", "flag"))
# Meanings that a parameter of a Python function shares with those of services.
_SAID_ALIKE = frozenset(
    ("choice", "flag", "city", "country", "country_code", "currency", "language_code", "date", "timezone")
)


def askable(api: Api) -> Askable | Refusal:
    """What it takes to ask for an API, or why it cannot be asked for: `no_sensible_value` or `no_sentence`."""
    tool = api.tool
    properties = tool.parameters.get("properties", {})
    required = set(tool.parameters.get("required", ()))
    parameters = []
    content = content_words(f"{words_of(tool.name)} {tool.description}")
    for name, schema in properties.items():
        if not isinstance(schema, dict):
            continue
        # Letters and quantities with units are a formula's; other names are words.
        formula = api.door == "python" and (len(name) <= 3 or "[" in str(schema.get("description")))
        label = label_of(name, schema, symbols=formula)
        # A header is the client's business.
        spoken = label and api.run.get("places", {}).get(name) != "header"
        kind = kind_of(name, words_of(name), schema) if spoken else None
        if kind is None and name in required and not api.examples:
            return Refusal(api.id, api.door, "no_sensible_value", name)
        if api.door == "python" and kind is not None and kind.name not in _SAID_ALIKE:
            kind = None  # `count` of a function is rarely how many results it shows
        if kind is not None and kind.name in ("path", "out_path", "file"):
            ending = ending_of(f"{schema.get('description') or ''} {tool.description}")
            kind = (
                replace(kind, draw=_file(ending) if kind.name == "file" else path(ending)) if ending else kind
            )
        if kind is not None:
            kind = replace(kind, draw=fitting(kind.name, kind.draw, content))
        if label and (kind is not None or api.examples):
            parameters.append(Parameter(name, label, schema, name in required, kind, unit_said(schema)))
    if not parameters:
        return Refusal(api.id, api.door, "no_sensible_value")
    twice = {p.label for p in parameters if sum(p.label == q.label for q in parameters) > 1}
    if api.door == "python":  # quantities of a formula, told apart by their letters
        parameters = [replace(p, label=f"{p.label} {p.name}") if p.label in twice else p for p in parameters]
    elif any(p.required and p.label in twice for p in parameters):
        return Refusal(api.id, api.door, "no_sensible_value", f"two parameters called {sorted(twice)[0]}")
    else:
        parameters = [p for p in parameters if p.label not in twice]
    parameters.sort(key=lambda p: not p.required)
    frame = frame_of(tool.description, properties, [p.name for p in parameters])
    if frame is None and not api.templates:
        return Refusal(api.id, api.door, "no_sentence", tool.description[:80])
    seeks = frame is not None and frame.verbs[0] in ("search", "query", "filter") and not api.examples
    if seeks and all(p.kind is None or p.kind.name in (*NARROWS, "choice") for p in parameters):
        return Refusal(api.id, api.door, "no_sensible_value", "nothing to search for")
    said = frozenset(p.name for p in parameters if p.kind is None or p.kind.name not in _NAMES_ONLY)
    writes = frame is not None and frame.verbs[0] in _WRITES and not api.examples
    if writes and not said:
        return Refusal(api.id, api.door, "no_sensible_value", "nothing to write")
    writes = writes and not any(p.required and p.name in said for p in parameters)
    return Askable(api, frame, tuple(parameters), category_of(api), topic_of(api), content, said, writes)


def _file(ending: str) -> Draw:
    return lambda w: path(ending)(w).rpartition("/")[2]


def told_apart(apis: Sequence[Askable]) -> list[Askable]:
    """Names the method where several APIs do the same by different ones: "... with the Darby3K method"."""
    same = Counter((a.api.group, a.frame.rest) for a in apis if a.frame)
    return [_with_method(a) if a.frame and same[a.api.group, a.frame.rest] > 1 else a for a in apis]


def _with_method(api: Askable) -> Askable:
    frame, name = api.frame, api.api.tool.name
    assert frame is not None
    words = [w for w in name.split("_") if w]
    named = "-".join(w for w in words if (w[0].isupper() and len(w) > 2) or w.isdigit())
    if (
        api.api.door != "python"
        or "to" in words
        or not any(w[0].isupper() and len(w) > 2 for w in words)
        or named in frame.rest
    ):
        return api
    return replace(api, frame=replace(frame, rest=f"{frame.rest} with the {named} method"))


_STOP = frozenset(words("stop"))


def content_words(text: str) -> frozenset[str]:
    """Stems of the words of a text that say what it is about."""
    words = re.findall(r"[a-z]{3,}", text.lower())
    return frozenset(
        w.removesuffix("ies").removesuffix("es").removesuffix("s") for w in words if w not in _STOP
    )


def alike(first: Askable, second: Askable) -> float:
    """How much of the smaller description the two share, 0 to 1."""
    small = min(len(first.words), len(second.words))
    return len(first.words & second.words) / small if small else 0.0


def _ordered(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the start of a range below its end."""
    for name, value in list(values.items()):
        for low, high in (("start", "end"), ("min", "max"), ("from", "to")):
            other = re.sub(rf"(?i)^{low}(?=[A-Z_]|$)", high, name)
            first, second = value, values.get(other)
            if other != name and _is_number(first) and _is_number(second) and first > second:
                values[name], values[other] = second, first
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moved(value: Any, schema: Mapping[str, Any], r: Random) -> Any:
    """A value whose numbers are moved a little, so that more is asked of a function than its document shows."""
    if isinstance(value, bool) or "enum" in schema or value in (0, 1, -1):
        return value
    if isinstance(value, int):
        wide = max(2, abs(value) // 3)
        moved = value + r.randint(-wide, wide)
        return moved if (moved > 0) == (value > 0) and moved != 0 else value
    if isinstance(value, float):
        if not math.isfinite(value) or abs(value) > 1e12:
            return value
        digits = max(1, min(4, len(repr(abs(value)).split("e")[0].replace(".", "").strip("0"))))
        most = min(1.4, 0.99 / value) if 0 < value < 1 else 1.4  # a share stays one
        moved = float(f"{value * r.uniform(min(0.7, most), most):.{digits}g}")
        return moved if moved else value
    about = schema.get("description")
    if isinstance(value, list) and isinstance(about, str) and "fraction" in about.lower():
        return list(value)  # shares that add up to one
    if (
        isinstance(value, list)
        and value
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    ):
        return [_moved(v, {}, r) for v in value]
    return json.loads(json.dumps(value))
