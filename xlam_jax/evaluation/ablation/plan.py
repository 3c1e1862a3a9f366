"""Stages of an ablation, each named by what it is made of: its command, its files, and the stages before it.

Two arms whose commands are equal share a stage; a changed command or file gives it, and what stands on it, new names.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xlam_jax import __version__
from xlam_jax.errors import InputError, unknown
from xlam_jax.evaluation.ablation.config import AblationConfig
from xlam_jax.files import sha256_of

_GAP = re.compile(r"\{([A-Za-z_][\w-]*)\}")
_HERE, _SEED = "here", "seed"


@dataclass(frozen=True)
class Stage:
    """One command to run.

    Attributes:
      key: hash of all that decides what it writes.
      command: words behind `xlam`.
      folder: what it writes, `{here}`.
      needs: the stages whose folders it reads.
    """

    name: str
    key: str
    command: tuple[str, ...]
    folder: Path
    needs: tuple[Stage, ...]

    def ancestry(self) -> dict[str, Stage]:
        """Key -> stage, of this one and all that it stands on; those first that others need."""
        earlier: dict[str, Stage] = {}
        for stage in self.needs:
            earlier |= stage.ancestry()
        return {**earlier, self.key: self}


def plan(config: AblationConfig, arm: str, seed: int) -> Stage:
    """The stage that holds the result of an arm and a seed.

    Raises:
      InputError: a gap that nothing fills, or stages that need each other.
    """
    return _Planner(config, arm, seed).stage(config.result, ())


class _Planner:
    def __init__(self, config: AblationConfig, arm: str, seed: int):
        self.config, self.arm = config, arm
        self.variables = {**config.variables, **config.arms[arm], _SEED: seed}
        self.made: dict[str, Stage] = {}

    def stage(self, name: str, inside: tuple[str, ...]) -> Stage:
        if name in inside:
            way = " -> ".join([*inside, name])
            raise InputError(f"stages need each other: {way}", where=f"stages.{name}")
        if name not in self.made:
            self.made[name] = self._make(name, (*inside, name))
        return self.made[name]

    def _make(self, name: str, inside: tuple[str, ...]) -> Stage:
        text = self.config.stages[name]
        try:
            words = shlex.split(text) if isinstance(text, str) else list(text)
        except ValueError as e:
            raise InputError(f"not a command: {e}", where=f"stages.{name}") from e
        if not words or words[0] == "xlam":
            raise InputError(
                "a stage is the words behind `xlam`", where=f"stages.{name}", hint="data build ..."
            )
        needs: dict[str, Stage] = {}
        # Words with a mark in the place of every folder, which decide the key; then with the folders themselves.
        marked = [self._fill(word, name, inside, needs, ()) for word in words]
        made_of = [
            __version__,
            marked,
            {path: digest(Path(path)) for word in marked for path in _files(word)},
        ]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
        folder = Path(self.config.out) / "stages" / f"{name}-{key}"
        places = {stage.key: str(stage.folder) for stage in needs.values()} | {_HERE: str(folder)}
        command = tuple(re.sub("\0(.*?)\0", lambda m: places[m[1]], word) for word in marked)
        return Stage(name, key, command, folder, tuple(needs.values()))

    def _fill(
        self, word: str, name: str, inside: tuple[str, ...], needs: dict[str, Stage], within: tuple[str, ...]
    ) -> str:  # fmt: skip
        def put(match: re.Match[str]) -> str:
            gap = match[1]
            if gap == _HERE:
                return f"\0{_HERE}\0"
            if gap in within:
                raise InputError(
                    f"variables name each other: {' -> '.join([*within, gap])}", where=f"arms.{self.arm}"
                )
            if gap in self.variables:
                return self._fill(str(self.variables[gap]), name, inside, needs, (*within, gap))
            if gap in self.config.stages:
                needs[gap] = self.stage(gap, inside)
                return f"\0{needs[gap].key}\0"
            known = [*self.variables, *self.config.stages, _HERE]
            raise unknown("name in braces", gap, known, where=f"stages.{name}")

        return _GAP.sub(put, word)


def _files(word: str) -> list[str]:
    """Paths in a word that are there: a bare word is one only if it looks like a file's name."""
    parts = re.split(r"[\s=,\[\]\"']+", word)
    return [p for p in parts if p and "\0" not in p and ("/" in p or "." in p) and _exists(p)]


def _exists(path: str) -> bool:
    try:
        return Path(path).is_file() or (Path(path).is_dir() and Path(path).name not in ("", ".."))
    except OSError:  # too long for a name
        return False


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of all files of a folder."""
    if path.is_file():
        return _digest(str(path), path.stat().st_size, path.stat().st_mtime_ns)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    lines = [f"{p.relative_to(path).as_posix()} {digest(p)}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def _digest(path: str, size: int, changed: int) -> str:
    del size, changed  # a file that changed is another one
    return sha256_of(Path(path))
