"""Sources: public data sets and formats, each one small module with a `SOURCE`.

Others come from files (`my_set.py`) and from installed packages, which name theirs in the entry-point group
`xlam_jax.sources`; nobody edits this package to read a data set of their own.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, unknown
from xlam_jax.records.sources.base import Source

GROUP = "xlam_jax.sources"

# name -> module; a module is imported when its source is asked for.
SOURCES = {
    "agentboard": "agentboard",
    "anthropic": "anthropic",
    "api-bank": "api_bank",
    "apigen-mt": "apigen_mt",
    "bfcl": "bfcl",
    "glaive": "glaive",
    "hermes": "hermes",
    "instruct": "instruct",
    "mcp": "mcp",
    "openai": "openai",
    "openai-responses": "openai_responses",
    "openapi": "openapi",
    "seal-tools": "seal_tools",
    "sharegpt": "sharegpt",
    "tool-alpaca": "tool_alpaca",
    "toolace": "toolace",
    "toolbench": "toolbench",
    "toolbench-tools": "toolbench_tools",
    "unified-v2": "unified_v2",
    "webshop": "webshop",
    "when2call": "when2call",
    "xlam-60k": "xlam_60k",
}


def get_source(name: str) -> Source:
    """The source of that name: ours, that of the file `name.py`, or an installed package's.

    Raises:
      InputError: unknown name (the hint is the nearest known one), or a module that cannot be imported or has
        no `SOURCE`.
    """
    if name in SOURCES:
        return importlib.import_module(f"xlam_jax.records.sources.{SOURCES[name]}").SOURCE
    if name.endswith(".py"):
        return _of_file(str(Path(name).resolve()))
    installed = installed_sources()
    if name in installed:
        point = installed[name]
        try:
            return _checked(point.load(), f"entry point {name} = {point.value}")
        except InputError:
            raise
        except Exception as e:  # whatever a stranger's module raises
            raise _broken(e, f"entry point {name} = {point.value}") from e
    raise unknown("source", name, [*SOURCES, *installed])


def installed_sources() -> dict[str, EntryPoint]:
    """The sources of installed packages by name; a name of ours stays ours."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in SOURCES}


@functools.cache
def _of_file(path: str) -> Source:
    """The `SOURCE` of a file; workers import it anew, by the same path."""
    if not Path(path).is_file():
        raise InputError("source not found", where=path, hint="a Python file with a SOURCE")
    # A name of its own, so that two files called alike do not meet.
    name = f"xlam_jax_source_{hashlib.blake2b(path.encode(), digest_size=6).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        raise _broken(e, path) from e
    return _checked(getattr(module, "SOURCE", None), path)


def _broken(error: Exception, where: str) -> InputError:
    return InputError(f"the source cannot be imported: {type(error).__name__}: {error}", where=where)


def _checked(found: Any, where: str) -> Source:
    if isinstance(found, Source):
        return found
    hint = "SOURCE = Source(name=..., summary=..., license=..., url=..., convert=convert)"
    raise InputError(f"no SOURCE here but {type(found).__name__}", where=where, hint=hint)
