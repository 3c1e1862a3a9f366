"""Runs what an ablation lacks, a command at a time; what was killed goes on with the same command."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import Stopped, WorkError
from xlam_jax.evaluation.ablation.config import AblationConfig
from xlam_jax.evaluation.ablation.plan import Stage, plan
from xlam_jax.files import read_object, write_json
from xlam_jax.lease import Lease

# These go on in their own folder by themselves; what others left half made is removed.
_GO_ON = (("train",), ("apigen", "run"))
# Into how many parts XLA cuts a product decides the order of its sums, and after some steps another model.
_THREADS = "4"
_LEASE = "lease.json"  # of run folders, of kept answers, and of an ablation
_LAST_LINES = 15
_SAVING = 600  # seconds that a step and a save may take


@dataclass(frozen=True)
class Result:
    """What an arm came to with one seed.

    Attributes:
      stage: the one whose folder has generations.jsonl.
      training: what the training command said of itself (`--json`); empty without one.
    """

    arm: str
    seed: int
    stage: Stage
    training: dict[str, Any]


def run(config: AblationConfig, say: Callable[[str], None]) -> list[Result]:
    """Makes every result that is not there; equal stages are made once.

    Raises:
      InputError: a config that does not hold together.
      WorkError: a command failed (with its last lines), or another process works in the folder.
      Stopped: a command was stopped by a signal.
    """
    plans = [(arm, seed, plan(config, arm, seed)) for seed in config.seeds for arm in config.arms]
    out = Path(config.out)
    with Lease(out / _LEASE, "ablation", say):
        runner = _Runner(out, missing([stage for *_, stage in plans]), say)
        for _, _, stage in plans:
            runner.make(stage)
            runner.discard(config.discard, [s for *_, s in plans])
    return [Result(arm, seed, stage, _training(stage, config.training)) for arm, seed, stage in plans]


def missing(results: Sequence[Stage]) -> dict[str, Stage]:
    """Key -> stage of all that has to be run, in order: a result that is there needs nothing of what it was made of."""
    stages: dict[str, Stage] = {}
    for stage in results:
        if not is_made(stage):
            stages |= missing(stage.needs)
            stages[stage.key] = stage
    return stages


def is_made(stage: Stage) -> bool:
    """Whether its command ended well."""
    return _marker(stage).is_file()


def _marker(stage: Stage) -> Path:
    return stage.folder.with_name(stage.folder.name + ".json")


def _training(result: Stage, name: str) -> dict[str, Any]:
    """Of the training stage below a result, wherever it is written: the stage itself may be discarded."""
    for stage in result.ancestry().values():
        if stage.name == name:
            notes = result.folder.parent / f"{stage.name}-{stage.key}.said.json"
            return read_object(notes) if notes.is_file() else {}
    return {}


class _Runner:
    def __init__(self, out: Path, to_do: dict[str, Stage], say: Callable[[str], None]):
        self.out, self.say = out, say
        self.all, self.done = len(to_do), 0
        self.left = [stage.name for stage in to_do.values()]
        self.seconds: dict[str, list[float]] = {}

    def make(self, stage: Stage) -> None:
        if is_made(stage):
            return
        for needed in stage.needs:
            self.make(needed)
        self.done += 1
        self.say(f"[{self.done}/{self.all}] {stage.name}  {stage.folder}{self._rest()}")
        begun = time.monotonic()
        self._wait_for(stage.folder)
        if tuple(stage.command[:1]) not in _GO_ON and tuple(stage.command[:2]) not in _GO_ON:
            _remove(stage.folder)
        said = stage.folder.with_name(stage.folder.name + ".said.json")
        self._command(stage, said)
        seconds = round(time.monotonic() - begun, 1)
        self.seconds.setdefault(stage.name, []).append(seconds)
        self.left.remove(stage.name)
        write_json(
            _marker(stage), {"stage": stage.name, "command": ["xlam", *stage.command], "seconds": seconds}
        )

    def _wait_for(self, folder: Path) -> None:
        """Until a command that outlived a killed ablation has saved what it has, and gone."""
        said, until = False, time.monotonic() + _SAVING
        while (folder / _LEASE).is_file():
            try:
                with Lease(folder / _LEASE, "stage"):
                    return
            except WorkError as e:
                if time.monotonic() > until:
                    raise
                if not said:
                    self.say(f"waiting for the one before to save: {e.what}")
                said = True
                time.sleep(1)

    def _command(self, stage: Stage, said: Path) -> None:
        said.parent.mkdir(parents=True, exist_ok=True)
        log = stage.folder.with_name(stage.folder.name + ".log")
        words = [*stage.command, *(() if "--json" in stage.command else ("--json", str(said)))]
        environment = {**os.environ, "PJRT_NPROC": _THREADS}
        environment.setdefault("JAX_COMPILATION_CACHE_DIR", str((self.out / "compiled").resolve()))
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ xlam {' '.join(words)}\n")
            file.flush()
            status = subprocess.run(
                [sys.executable, "-m", "xlam_jax.cli.main", *words],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            ).returncode  # fmt: skip
        if status == Stopped.exit_code:
            raise Stopped(f"stage {stage.name} was stopped", where=str(log), hint="the same command goes on")
        if status:
            last = log.read_text("utf-8", "replace").rstrip().splitlines()[-_LAST_LINES:]
            raise WorkError(
                "\n".join([f"stage {stage.name} failed with exit status {status}; its last lines:", *last]),
                where=str(log),
                hint="mend it, and the same command goes on from there",
            )

    def _rest(self) -> str:
        """How long the rest takes by the stages of the same names so far, where they are all known."""
        if not all(name in self.seconds for name in self.left):
            return ""
        rest = sum(sum(self.seconds[name]) / len(self.seconds[name]) for name in self.left)
        return f"  about {rest / 60:.0f} min left" if rest >= 60 else ""

    def discard(self, names: Sequence[str], results: Sequence[Stage]) -> None:
        """Removes the folders of stages that no result to come needs; they are made again if one is asked for."""
        needed = missing(results)
        wanted = {key for stage in needed.values() for key in stage.ancestry()}
        for stage in {
            k: s for result in results if is_made(result) for k, s in result.ancestry().items()
        }.values():
            if stage.name in names and stage.key not in wanted and stage.folder.exists():
                _marker(stage).unlink(missing_ok=True)
                _remove(stage.folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """A killed ablation leaves no command at work; training saves itself at SIGTERM."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def describe(plans: Sequence[tuple[str, int, Stage]]) -> list[dict[str, Any]]:
    """A line a stage: for which arms and seeds it is made, and whether it has to be run."""
    to_do = missing([result for *_, result in plans])
    users: dict[str, tuple[Stage, dict[str, None], dict[str, None]]] = {}
    for arm, seed, result in plans:
        for key, stage in result.ancestry().items():
            _, arms, seeds = users.setdefault(key, (stage, {}, {}))
            arms[arm] = seeds[str(seed)] = None
    return [
        {
            "stage": stage.folder.name,
            "arms": ", ".join(arms),
            "seeds": ", ".join(seeds),
            "to run": "yes" if key in to_do else "no",
        }
        for key, (stage, arms, seeds) in users.items()
    ]
