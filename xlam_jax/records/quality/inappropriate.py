"""Words that no training text should hold, by a list: ours, or one of the user's.

Our list is short on purpose: insults and obscenities that are nothing else, written for this product and under
its licence (Apache-2.0). Words that medicine, law or the kitchen use too are not on it. A longer one, such as
LDNOOBW's (CC-BY-4.0, to be named where data made with it is published), is a file with a word or phrase a line.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from pathlib import Path

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record
from xlam_jax.records.quality.pii import record_texts

_WORD = re.compile(r"[^\W_]+")


def inappropriate_words(record: Record, path: str = "") -> list[str]:
    """Entries of the list at `path` (ours where it is empty) that what was said in a record holds, each once.

    Raises:
      InputError: no such file, or one without a word.
    """
    words, phrases = _list(path)
    spoken = [word for text in record_texts(record) for word in _WORD.findall(text.lower())]
    entries = [word for word in dict.fromkeys(spoken) if word in words]
    if phrases:
        running = f" {' '.join(spoken)} "
        entries += [phrase for phrase in phrases if f" {phrase} " in running]
    return entries


@functools.lru_cache(maxsize=8)
def _list(path: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Single words, and phrases of several; lines that begin with # are remarks."""
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            hint = "a text file with a word or phrase a line"
            raise InputError(f"no readable word list: {e}", where=path, hint=hint) from None
    else:
        text = (
            importlib.resources.files("xlam_jax.records.quality")
            .joinpath("inappropriate.txt")
            .read_text("utf-8")
        )
    lines = (line.strip() for line in text.splitlines())
    entries = [" ".join(_WORD.findall(line.lower())) for line in lines if not line.startswith("#")]
    entries = [entry for entry in entries if entry]
    if not entries:
        raise InputError("the word list is empty", where=path)
    return frozenset(e for e in entries if " " not in e), tuple(e for e in entries if " " in e)
