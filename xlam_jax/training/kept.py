"""What a run folder keeps of its checkpoints, read without Orbax."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlam_jax.errors import NoRoomError, is_no_room
from xlam_jax.training.run_folder import EVENTS, read_lines

FOLDER = "checkpoints"
BEST = "best.json"
UNREADABLE = "checkpoints.unreadable"


def complete_steps(run: str | Path) -> list[int]:
    """Steps of a run's complete checkpoints, oldest first; unfinished ones have a longer name."""
    folder = Path(run) / FOLDER
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def no_room(run: Path, what: str) -> NoRoomError:
    """The error of a run whose disk is full, with what is kept."""
    steps = ", ".join(map(str, complete_steps(run))) or "none"
    hint = f"complete checkpoints: {steps}; free some space, the same command goes on from there"
    return NoRoomError(what, where=str(run), hint=hint)


@contextmanager
def room_for(run: Path) -> Iterator[None]:
    """A full disk is told in one way, wherever it is met: in metrics, events, the log, a profile."""
    try:
        yield
    except NoRoomError:
        raise
    except (OSError, ValueError, RuntimeError) as e:
        if not is_no_room(e):
            raise
        file = getattr(e, "filename", None)
        raise no_room(run, f"the disk is full{f' ({file})' if file else ''}") from e


def lost(run: str | Path) -> bool:
    """Whether a run had complete checkpoints since it was last started from nothing, and none is left."""
    if complete_steps(run):
        return False
    found = [row.get("event") for row in read_lines(Path(run) / EVENTS)]
    begins = len(found) - found[::-1].index("started") if "started" in found else 0
    return not {"complete", "set_aside"}.isdisjoint(found[begins:])


def newest_meta(run: str | Path) -> dict[str, Any]:
    """The `meta` item of the newest complete checkpoint; empty without one that can be read."""
    steps = complete_steps(run)
    path = (
        Path(run) / FOLDER / str(steps[-1]) / "meta" / "metadata" if steps else None
    )  # as Orbax writes JSON
    if path is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # damaged, which the restore finds by its checksums
        return {}
    return found if isinstance(found, dict) else {}


def best_of(run: str | Path) -> dict[str, Any] | None:
    """What `best.json` of a run says, None without one: `{step, metric, value}`."""
    path = Path(run) / BEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
