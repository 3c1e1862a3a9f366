"""Where BFCL's files are: a folder, an unpacked wheel, or the installed `bfcl-eval`; and which ones they are.

A file is known by its SHA-256. Answers were changed between the leaderboard's versions without new names, so a score
means something only beside the commit of its data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.bfcl.categories import VERSIONS, Category
from xlam_jax.extras import need
from xlam_jax.files import sha256_of

ANSWERS = "possible_answer"
FUNCTIONS = "multi_turn_func_doc"  # what the functions of multi-turn rows are
_FILE = re.compile(r"BFCL_(v\d)_\w+\.json")
_INSIDE = (".", "data", "bfcl_eval/data")
_INSTALL = "pip install --no-deps bfcl-eval"
_FOLDER = "name a folder with BFCL_v2_simple.json and its like"


@dataclass(frozen=True)
class Data:
    """The files of one version in a folder."""

    folder: Path
    version: str

    def file(self, category: Category) -> Path:
        """The questions of a category.

        Raises:
          InputError: not there.
        """
        names = [
            f"BFCL_{self.version}_{name}.json" for name in dict.fromkeys((category.name, category.v4_name))
        ]
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        raise InputError(
            f"no file of BFCL category {category.name!r}",
            where=str(self.folder / names[0]),
            hint="check the folder",
        )

    def has(self, category: Category) -> bool:
        """Whether the questions of a category are there."""
        try:
            return self.file(category).is_file()
        except InputError:
            return False

    def answers(self, category: Category) -> Path:
        """Its possible answers, there or not."""
        return self.folder / ANSWERS / self.file(category).name

    def hashes(self, categories: list[Category]) -> dict[str, str]:
        """SHA-256 of every file of the categories, by its path inside the folder."""
        files = [self.file(c) for c in categories]
        files += [self.answers(c) for c in categories if c.has_answers]
        if any(c.kind == "multi_turn" for c in categories):
            files += sorted((self.folder / FUNCTIONS).glob("*.json"))
        return {str(path.relative_to(self.folder)): sha256_of(path) for path in files if path.is_file()}

    def source(self, hashes: dict[str, str]) -> str:
        """In words, which published files these are."""
        known = json.loads((Path(__file__).with_name("known_files.json")).read_text("utf-8"))
        releases = {known.get(digest) for digest in hashes.values()}
        if releases and None not in releases:
            return " and ".join(sorted(name for name in releases if name))
        strange = [name for name, digest in hashes.items() if digest not in known]
        return f"files of an unknown commit ({', '.join(strange[:2])}{', ...' if len(strange) > 2 else ''})"


def find_data(folder: Path | None, version: str | None = None) -> Data:
    """The data in `folder`, or in the installed `bfcl-eval` where none is named.

    Args:
      version: v2, v3 or v4; by default the newest that is there.

    Raises:
      InputError: no such folder, no BFCL files in it, or none of the version.
    """
    if version is not None and version not in VERSIONS:
        raise InputError(f"unknown BFCL version {version!r}", where="--version", hint=", ".join(VERSIONS))
    if folder is None:
        (folder,) = need("bfcl_eval", install=_INSTALL, instead=_FOLDER)
    elif not folder.is_dir():
        raise InputError("BFCL folder not found", where=str(folder), hint="check the path")
    for inside in _INSIDE:
        place = folder / inside
        there = {m[1] for path in place.glob("BFCL_v*.json") if (m := _FILE.fullmatch(path.name))}
        if not there:
            continue
        wanted = version or max(there)
        if wanted not in there:
            raise InputError(
                f"no files of BFCL {wanted}",
                where=str(place),
                hint=f"--version {' or '.join(sorted(there))}",
            )
        return Data(place if inside != "." else folder, wanted)
    raise InputError("no BFCL files in the folder", where=str(folder), hint=_FOLDER)


def read_rows(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields `("path:line", object)`.

    Raises:
      InputError: no such file, broken JSON, or an object without one of `keys` (names the line).
    """
    if not path.is_file():
        raise InputError("BFCL file not found", where=str(path), hint="check the folder")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except ValueError as e:
                raise InputError(f"not valid JSON: {e}", where=where) from e
            if not isinstance(row, dict):
                raise InputError(f"no JSON object but {type(row).__name__}", where=where)
            if missing := [key for key in keys if key not in row]:
                raise InputError(f"no key {missing[0]!r}", where=where)
            yield where, row
