"""An API as synthesis sees it, whichever door it came in by, and the folder that a library of them is kept in.

A library folder holds `apis.jsonl`, one API a line; `refused.jsonl`, what was left out and why; and
`library.json`, how many of which, from where.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xlam_jax.apigen.library import Split
from xlam_jax.errors import InputError
from xlam_jax.files import read_object, whole_folder
from xlam_jax.format import Tool
from xlam_jax.format.tools import normalise_tool, openai_view

Door = Literal["python", "openapi", "mcp", "standard"]
DOORS: tuple[Door, ...] = ("python", "openapi", "mcp", "standard")


@dataclass(frozen=True)
class Api:
    """One API.

    Attributes:
      tool: name, description and parameter schema, as a model sees them.
      door: how it came in.
      group: APIs that belong together: a module, a service, a server. Names are unique within it.
      run: how a call is executed; `target` and `path` of a Python function (`kept`: its examples are drawn as they
        should be), `method`, `server`, `route` and `places` (parameter: path, query, header or body) of an
        operation, `server` of a tool whose MCP server can be started or reached.
      examples: arguments known to be real, from doctests and documents.
      templates: wordings of a request with `{parameter}` slots, each with the arguments that its words fix.
      answers: an example of an answer, where the document has one.
      license: of the description.
      split: what it serves.
    """

    tool: Tool
    door: Door
    group: str
    run: dict[str, Any]
    examples: tuple[dict[str, Any], ...] = ()
    answers: tuple[Any, ...] = ()
    category: str = ""
    license: str = ""
    split: Split = "train"
    templates: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def id(self) -> str:
        return f"{self.group}/{self.tool.name}"

    def to_json(self) -> dict[str, Any]:
        """The API as a line of `apis.jsonl`."""
        return {
            "id": self.id, **openai_view(self.tool)["function"], "door": self.door, "group": self.group,
            "category": self.category, "run": self.run, "examples": list(self.examples),
            "answers": list(self.answers), "license": self.license, "split": self.split,
            **({"templates": [list(t) for t in self.templates]} if self.templates else {}),
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Api:
        """Reads a line of `apis.jsonl`."""
        if missing := [key for key in _NEEDED.get(row["door"], ()) if key not in row["run"]]:
            raise KeyError(f"run.{missing[0]}")
        tool = normalise_tool({k: row[k] for k in ("name", "description", "parameters")})
        return cls(
            tool, row["door"], row["group"], row["run"], tuple(row["examples"]), tuple(row["answers"]),
            row["category"], row["license"], row["split"], tuple((t, f) for t, f in row.get("templates", ())),
        )  # fmt: skip


_NEEDED = {
    "python": ("target", "path"), "standard": ("target",), "openapi": ("method", "server", "route", "places"),
}  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """An API that was left out: a reason code and what was found."""

    id: str
    door: Door
    reason: str
    detail: str = ""


def split_of(name: str, heldout: float) -> Split:
    """Held out or not by the name alone: a library that grows keeps its split, and so do namesakes of two services."""
    return "heldout" if _share(name.lower()) < heldout else "train"


def _share(api_id: str) -> float:
    return int.from_bytes(hashlib.sha256(api_id.encode(errors="replace")).digest()[:8]) / 2**64


def write_library(
    out: str | os.PathLike[str], found: Iterable[Api | Refusal], sources: Sequence[str], per_group: int = 0
) -> dict[str, Any]:
    """Writes a library folder, whole or not at all, and returns its summary.

    An API whose name was met before in its group is refused as `name_twice`.

    Args:
      per_group: most APIs of a service or server, 0 for all; which ones depends on their names alone, the others
        are refused as `over_the_cap`.

    Raises:
      InputError: nothing is left to write.
    """
    apis: dict[str, Api] = {}
    refused: list[Refusal] = []
    for one in found:
        if isinstance(one, Refusal):
            refused.append(one)
        elif one.id in apis:
            refused.append(Refusal(one.id, one.door, "name_twice"))
        else:
            apis[one.id] = one
    if per_group:
        ranks: Counter[str] = Counter()
        for one in sorted(apis.values(), key=lambda a: _share(f"cap {a.id}")):
            ranks[one.group] += one.door in ("openapi", "mcp")
            if ranks[one.group] > per_group:
                refused.append(Refusal(one.id, one.door, "over_the_cap"))
                del apis[one.id]
    if not apis:
        reasons = ", ".join(f"{n} {r}" for r, n in Counter(r.reason for r in refused).most_common())
        raise InputError(
            "no API is left for the library", where=", ".join(sources), hint=reasons or "no API was found"
        )
    summary = {
        "apis": len(apis),
        "refused": dict(Counter(r.reason for r in refused).most_common()),
        "doors": dict(Counter(a.door for a in apis.values())),
        "groups": len({a.group for a in apis.values()}),
        "categories": dict(Counter(a.category for a in apis.values()).most_common()),
        "splits": dict(Counter(a.split for a in apis.values())),
        "with_examples": sum(bool(a.examples) for a in apis.values()),
        "sources": list(sources),
    }
    with whole_folder(Path(out), what="library") as folder:
        _write_lines(folder / "apis.jsonl", (a.to_json() for a in apis.values()))
        _write_lines(folder / "refused.jsonl", (vars(r) for r in refused))
        (folder / "library.json").write_text(
            json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
    return summary


def read_library(folder: str | os.PathLike[str]) -> list[Api]:
    """The APIs of a library folder.

    Raises:
      InputError: no such folder, or a damaged line.
    """
    path = Path(folder) / "apis.jsonl"
    if not path.is_file():
        raise InputError(
            "no library of APIs",
            where=str(folder),
            hint=f"xlam apigen library build python=FILE.py --out {folder}",
        )
    return list(_read(path))


def read_summary(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_library` wrote of a library folder.

    Raises:
      InputError: no such folder, or a damaged file.
    """
    path, hint = Path(folder) / "library.json", f"xlam apigen library build python=FILE.py --out {folder}"
    if not path.is_file():
        raise InputError("no library of APIs", where=str(folder), hint=hint)
    return read_object(path, hint)


def _read(path: Path) -> Iterator[Api]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield Api.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, InputError) as e:
                raise InputError(f"not an API of a library: {e}", where=f"{path}:{number}") from e


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="replace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
