"""Trackers beside metrics.jsonl: TensorBoard, Weights & Biases, Trackio, each by its name in `track`.

A tracker is anything with `log(step, values)` and `close()`. metrics.jsonl is the record of a run and a tracker
is a view of it, so a tracker that fails while a run goes on is left out and the run is not touched.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from xlam_jax.extras import need

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}
_UPLOAD = 60  # seconds that the end of a run waits for an upload; what is late stays in the run folder


class Tracker(Protocol):
    """Somewhere to send the numbers of a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers as of `step`; steps never fall within a session, and one step may come several times."""
        ...

    def close(self) -> None:
        """Ends the session; nothing is logged after it."""
        ...


def need_packages(names: Sequence[str]) -> None:
    """Looks for the trackers' packages without importing them.

    Raises:
      InputError: one is not installed.
    """
    for package in (PACKAGES[name] for name in names):
        need(package, "track", where="track", instead=f"pip install {package} for this tracker alone")


class Trackers:
    """The trackers of a session of a run, as one that never raises.

    Args:
      names: keys of `PACKAGES`.
      run: the run folder; the run is called as it is.
      id: of the run, the same over resumes. Trackers find the run to go on with by it.
      start: steps done before this session.
      project: group of runs in wandb and Trackio.
      config: shown beside the run there.
      say: takes a line for the person at the screen.
      failed: takes (tracker's name, error) when one is left out.
    """

    def __init__(
        self,
        names: Sequence[str],
        run: Path,
        *,
        id: str,
        start: int,
        project: str,
        config: dict[str, Any],
        say: Callable[[str], None],
        failed: Callable[[str, str], None],
    ):
        self._say, self._failed = say, failed
        self._open: dict[str, Tracker] = {}
        makers: dict[str, Callable[[], Tracker]] = {
            "tensorboard": lambda: _TensorBoard(run, start),
            "wandb": lambda: _Wandb(run, id, project, config, say),
            "trackio": lambda: _Trackio(run, id, project, config, say),
        }
        for name in dict.fromkeys(names):
            with self._guard(name):
                self._open[name] = makers[name]()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, tracker in list(self._open.items()):
            with self._guard(name):
                tracker.log(step, values)

    def close(self) -> None:
        for name, tracker in list(self._open.items()):
            with self._guard(name):
                tracker.close()
        self._open.clear()

    @contextlib.contextmanager
    def _guard(self, name: str) -> Any:
        try:
            yield
        except Exception as e:  # whatever a tracker's package raises, of a network, a disk or an account
            self._open.pop(name, None)
            error = " ".join(f"{type(e).__name__}: {e}".split())[:300]
            self._say(f"warning: {name} failed and is left out from here; metrics.jsonl has it all ({error})")
            self._failed(name, error)


class _TensorBoard:
    def __init__(self, run: Path, start: int):
        from tensorboardX import SummaryWriter

        # Steps that a session logged after its last checkpoint are made again. Files are named by whole seconds, and
        # a session that began within the second of another would write over the other's file.
        suffix = f".{time.time_ns()}"
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1, filename_suffix=suffix)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Online where wandb knows a key and nobody chose another mode (WANDB_MODE); offline in the run folder else."""

    def __init__(self, run: Path, id: str, project: str, config: dict[str, Any], say: Callable[[str], None]):
        import wandb  # pyright: ignore[reportMissingImports]

        mode = wandb.setup().settings.mode
        if mode in ("online", "run", "shared") and not wandb.login(prompt=False, verify=False):
            mode = "offline"  # online it would ask for a key, and wait
        self._run = wandb.init(
            project=project,
            name=run.name,
            id=id,
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(run)),
            mode=cast("Any", mode),  # init takes fewer modes by its types than settings knows
            config=config,
            # The screen is the run's own, and an end that waits for a network must not last.
            settings=wandb.Settings(console="off", silent=True, finish_timeout=_UPLOAD),
        )
        if mode != "disabled" and self._run.offline:
            say(f"wandb: offline, in {Path(self._run.dir).parent}; `wandb sync` of that folder uploads it")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """In Trackio's own local database (TRACKIO_DIR), unless its variables name a Space or a server."""

    def __init__(self, run: Path, id: str, project: str, config: dict[str, Any], say: Callable[[str], None]):
        import trackio  # pyright: ignore[reportMissingImports]

        # Trackio finds a run by its name, and many run folders are called `run`.
        name = f"{run.name}-{id}"
        with contextlib.redirect_stdout(io.StringIO()):
            self._run = trackio.init(project=project, name=name, resume="allow", config=config, embed=False)
        self._finish = trackio.finish
        say(f"trackio: run {name}; `trackio show --project {project}` shows it")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._finish()
