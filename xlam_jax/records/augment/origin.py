"""Which functions a copy was made of, whatever transforms did to it.

The split by functions asks this. A mask hides a function's name; a refusal or a question in place of the
calls hides that the row is about the function at all. So a copy whose calls no longer tell carries the names
in its lineage: `origin_call:NAME` for each function that the original called, or, where it called none and
the copy offers other tools, `origin_tool:NAME` for each that it offered; with `origin_text:HASH=NAME` of what
their descriptions say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xlam_jax.format.record import Record
from xlam_jax.format.values import Tool

_MASKED, _CALLED, _OFFERED = "masked:", "origin_call:", "origin_tool:"
_TEXTS = "origin_text:"
_WORD = re.compile(r"\w+")
# Descriptions of fewer words ("Get data") are shared by functions that have nothing to do with each other.
_FEWEST_WORDS = 3


def mask_notes(masks: Mapping[str, str]) -> tuple[str, ...]:
    """The lineage's notes on functions that got masks; `masks` is name -> mask."""
    return tuple(f"{_MASKED}{mask}={name}" for name, mask in masks.items())


def masks_in(lineage: Iterable[Any]) -> dict[str, str]:
    """Mask -> name of the functions that a lineage says were masked, also where a copy was masked again."""
    names: dict[str, str] = {}
    for note in lineage:
        if isinstance(note, str) and note.startswith(_MASKED):
            mask, _, name = note.removeprefix(_MASKED).partition("=")
            names[mask] = names.get(name, name)
    return names


def functions_of(record: Record) -> tuple[frozenset[str], frozenset[str]]:
    """`(called, offered)` names of the functions of the row itself, or of the row that it is a copy of."""
    before = masks_in(record.lineage)
    called = {before.get(c.name, c.name) for step in record.steps for c in step.tool_calls}
    offered = {before.get(tool.name, tool.name) for tool in record.tools}
    noted_called, noted_offered = _names(record, _CALLED), _names(record, _OFFERED)
    if noted_offered:
        return frozenset(), noted_offered
    return noted_called or frozenset(called), frozenset(offered)


def origin_notes(original: Record, copy: Record) -> tuple[str, ...]:
    """What the lineage of a copy must add, so that `functions_of` answers for it as for the original.

    Of a row that calls nothing the offered functions are told where the copy offers others.
    """
    (called, offered), (now_called, now_offered) = functions_of(original), functions_of(copy)
    if now_called == called and (called or now_offered == offered):
        return ()
    prefix, names = (_CALLED, called) if called else (_OFFERED, offered)
    keys = ((key, name) for key, name in texts_of(original) if name in names)
    texts = (f"{_TEXTS}{key:x}={name}" for key, name in keys)
    return (*(f"{prefix}{name}" for name in sorted(names)), *texts)


def texts_of(record: Record) -> list[tuple[int, str]]:
    """`(hash of all that its descriptions say, name)` of each function of a row, and of its original.

    A function that somebody else renamed or masked keeps its descriptions. One that says little has no hash.
    """
    before, keyed = masks_in(record.lineage), []
    for tool in record.tools:
        if (key := texts_key(tool)) is not None:
            keyed.append((key, before.get(tool.name, tool.name)))
    for note in record.lineage:
        if note.startswith(_TEXTS):
            key, _, name = note.removeprefix(_TEXTS).partition("=")
            keyed.append((int(key, 16), name))
    return keyed


def texts_key(tool: Tool) -> int | None:
    """Hash of all that a tool's descriptions say; None where they say little."""
    told = (tool.description, *_descriptions(tool.parameters))
    joined = "\n".join(sorted(" ".join(_WORD.findall(text.lower())) for text in told))
    if len(joined.split()) < _FEWEST_WORDS:
        return None
    return int.from_bytes(hashlib.blake2b(joined.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _names(record: Record, prefix: str) -> frozenset[str]:
    return frozenset(note.removeprefix(prefix) for note in record.lineage if note.startswith(prefix))


def _descriptions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "description" and isinstance(item, str):
                yield item
            else:
                yield from _descriptions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _descriptions(item)
