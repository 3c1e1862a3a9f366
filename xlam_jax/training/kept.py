"""What a run folder keeps of its checkpoints, read without Orbax."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, NoRoomError, is_no_room
from xlam_jax.files import read_object
from xlam_jax.training.run_folder import EVENTS, read_lines, read_own
from xlam_jax.weights.intact import damage

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
    events = [row.get("event") for row in read_lines(Path(run) / EVENTS)]
    begins = len(events) - events[::-1].index("started") if "started" in events else 0
    return not {"complete", "set_aside"}.isdisjoint(events[begins:])


def newest_meta(run: str | Path) -> dict[str, Any]:
    """The `meta` item of the newest complete checkpoint where it is as it was written; empty without one."""
    for step in reversed(complete_steps(run)):
        folder = Path(run) / FOLDER / str(step)
        path = folder / "meta" / "metadata"  # as Orbax writes JSON
        if path.is_file() and not damage(folder, under="meta/"):
            try:
                return read_object(path)
            except InputError:  # never sealed, and damaged
                continue
    return {}


def best_of(run: str | Path) -> dict[str, Any] | None:
    """What `best.json` of a run says, None without one: `{step, metric, value}`; InputError when it is damaged."""
    return read_own(Path(run) / BEST) or None
