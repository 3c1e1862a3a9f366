"""Mixtures: how often each input's rows are used; and the split that keeps functions unseen.

A random split of function-calling rows leaves almost every validation function in the training set too, so
that a validation score measures memory. Here functions are held out, and rows follow them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydantic

from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.format.opening import as_text
from xlam_jax.format.record import Record, parse_line
from xlam_jax.format.tools import normalise_tool
from xlam_jax.records.augment.origin import functions_of, masks_in, texts_key, texts_of
from xlam_jax.records.augment.words import is_identifier


class InputConfig(Config):
    """One input of a mixture.

    Attributes:
      path: Records (JSONL, gzip by name), or a pattern such as `runs/data/agent/*.jsonl.gz`, whose files
        are one input together: each of their rows is drawn equally often.
      epochs: how often each row is used; 1.5 means every row once and a seeded half of them again. With
        `share`, the most often a row may be used.
      share: wished share of the mixture's rows, 0 to 1. All inputs have one, or none.
      license: of its rows that name none, such as CC-BY-4.0; it goes into the manifest and a model's card.
    """

    path: str
    epochs: float = pydantic.Field(default=1.0, gt=0)
    share: float | None = pydantic.Field(default=None, gt=0, le=1)
    license: str = ""

    @property
    def files(self) -> list[Path]:
        """The files, in the order of their paths; empty when there are none."""
        if Path(self.path).is_file():
            return [Path(self.path)]
        return sorted(Path(name) for name in glob.glob(self.path, recursive=True) if Path(name).is_file())


class ValidationConfig(Config):
    """Rows whose functions the training rows never show.

    Attributes:
      functions: fraction of the function names to hold out; 0 makes no validation set.
      out: data folder for the validation rows; "" puts them beside `out`, with `-validation` at the end.
    """

    functions: float = pydantic.Field(default=0.0, ge=0, lt=1)
    out: str = ""


@dataclass(frozen=True)
class Holdout:
    """Which functions are held out: a hash of the name decides, so every input and run agrees.

    Attributes:
      texts: `texts_key` of the held-out functions (`held_functions`): one that says the same under another name
        is a renamed copy, and held out too.
      names: those of the held-out functions, in plain letters; few-shot examples that show one go.
    """

    fraction: float
    seed: int = 0
    texts: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        digest = hashlib.blake2b(f"{self.seed}/{_plain(name)}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.fraction * 2**64

    def assign(self, record: Record) -> tuple[str, Record]:
        """`(part, record)` with part `train`, `validation` or `straddles`.

        A row all of whose called functions are held out is validation, one that calls none of them is
        training, and loses held-out tools that it only offers and few-shot examples that show one. One that
        calls nothing and offers held-out tools only is validation. What calls both kinds, or has no tool left
        to learn with, straddles.
        A copy goes where the row goes that it was made of (`functions_of`).
        """
        if not self.fraction:
            return "train", record
        before, (called, offered) = masks_in(record.lineage), functions_of(record)
        renamed = self._renamed(record)
        held = {name for name in called if name in self or name in renamed}
        if held:
            return ("validation" if held == called else "straddles"), record
        if not called and offered and all(name in self or name in renamed for name in offered):
            return "validation", record
        kept = tuple(
            tool
            for tool in record.tools
            if (name := before.get(tool.name, tool.name)) not in self and name not in renamed
        )
        if record.tools and not kept:
            return "straddles", record
        hidden = self.names | set(map(_plain, renamed))
        shots = tuple(
            example
            for example in record.few_shot_examples
            if hidden.isdisjoint(_plain(before.get(name, name)) for name in _names_in(as_text(example)))
        )
        if len(kept) == len(record.tools) and len(shots) == len(record.few_shot_examples):
            return "train", record
        return "train", replace(record, tools=kept, few_shot_examples=shots)

    def _renamed(self, record: Record) -> set[str]:
        """Names of the record's tools that say what a held-out function says."""
        return {name for key, name in texts_of(record) if key in self.texts} if self.texts else set()


def _plain(name: str) -> str:
    """Spelling variants of a name are one function: getWeather, get_weather, Get Weather."""
    return re.sub(r"[\W_]", "", name).lower() or name


# What may name a function in an example: before a bracket, in quotes, in tags, behind a colon or an equals sign.
_NAMED = re.compile(
    r"([\w.\-]+)\s*\(|['\"]([^'\"\n]{1,120})\\?['\"]|>([^<>\n]+)<|[:=][ \t]*([^:=\n]+)$", re.MULTILINE
)
_WORD = re.compile(r"[\w.\-]+")


def _names_in(text: str) -> set[str]:
    """What may be the name of a function in a text; an ordinary word only where calls have their names."""
    names = {name.strip().rstrip("\\") for match in _NAMED.finditer(text) for name in match.groups() if name}
    return names | set(filter(is_identifier, _WORD.findall(text)))


def held_functions(lines: Iterable[tuple[bytes, str]], holdout: Holdout) -> Holdout:
    """The holdout that knows names and descriptions of the held-out functions in all the rows of a mixture;
    lines of no Record are skipped."""
    keys: set[int] = set()
    names: set[str] = set()
    seen: set[str] = set()
    for line, where in lines:
        try:
            obj = parse_line(line, where)
        except InputError:
            continue  # the build's own pass says so
        obj = obj.get("chosen", obj) if isinstance(obj, dict) else {}
        tools, notes = (obj.get(key) if isinstance(obj, dict) else None for key in ("tools", "lineage"))
        before = masks_in(notes if isinstance(notes, list) else ())
        for raw in tools if isinstance(tools, list) else ():
            text = json.dumps(raw)
            if text in seen:
                continue
            seen.add(text)
            try:
                tool = normalise_tool(raw)
            except InputError:
                continue
            if (name := before.get(tool.name, tool.name)) in holdout:
                names.add(_plain(name))
                keys |= {key for key in (texts_key(tool),) if key is not None}
    return replace(holdout, texts=frozenset(keys), names=frozenset(names))


def epochs_of(inputs: Sequence[InputConfig], rows: Sequence[int], total: int | None) -> list[float]:
    """How often each input's rows are used.

    Args:
      rows: usable rows of each input.
      total: wished rows of the whole mixture; None takes as many as the shares allow.

    Raises:
      InputError: shares on some inputs only, shares that do not add up to 1, an input without rows, or more
        rows asked for than the inputs' `epochs` allow.
    """
    shares = [i.share for i in inputs]
    if all(s is None for s in shares):
        if total is None:
            return [i.epochs for i in inputs]
        raise InputError("`rows` needs a share on every input", where="rows", hint="inputs: [{share: 0.5}]")
    given = [s for s in shares if s is not None]
    if len(given) < len(shares) or abs(sum(given) - 1) > 1e-6:
        raise InputError(
            f"shares add up to {sum(given):g} over {len(given)} of {len(shares)} inputs",
            where="inputs",
            hint="give every input a share; together 1",
        )
    most = []
    for config, share, n in zip(inputs, given, rows, strict=True):
        if not n:
            raise InputError("an input with a share has no usable row", where=config.path)
        most.append(n * config.epochs / share)
    limit = min(most)
    if total is not None and total > limit + 1e-6:
        tight = inputs[most.index(limit)]
        raise InputError(
            f"{total} rows were asked for, the inputs give {int(limit)}",
            where=tight.path,
            hint=f"raise its epochs (now {tight.epochs:g}), or lower `rows`",
        )
    size = limit if total is None else total
    return [size * share / n for share, n in zip(given, rows, strict=True)]


def choose(count: int, epochs: float, seed: int) -> np.ndarray:
    """Which of `count` rows are used, `[round(count * epochs)]` indices: each `floor(epochs)` times, and a
    seeded choice once more."""
    whole, extra = divmod(round(count * epochs), count) if count else (0, 0)
    some = np.sort(np.random.default_rng([seed, 2]).permutation(count)[:extra])
    return np.concatenate([np.tile(np.arange(count, dtype=np.int64), whole), some.astype(np.int64)])
