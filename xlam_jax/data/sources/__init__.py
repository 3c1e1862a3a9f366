"""Sources: public data sets and formats, each one small module with a `SOURCE`."""

from __future__ import annotations

import difflib
import importlib

from xlam_jax.data.sources.base import Source
from xlam_jax.errors import InputError

# name -> module; a module is imported when its source is asked for.
SOURCES = {"xlam-60k": "xlam_60k"}


def get_source(name: str) -> Source:
    """The source of that name.

    Raises:
      InputError: unknown name; the hint is the nearest known one.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.4)
        raise InputError(f"unknown source {name!r}", hint=near[0] if near else "one of " + ", ".join(SOURCES))
    return importlib.import_module(f"xlam_jax.data.sources.{SOURCES[name]}").SOURCE
