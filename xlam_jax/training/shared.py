"""What the processes of a run must see alike: the run folder, and whether a thing worked."""

from __future__ import annotations

import time
from pathlib import Path

from xlam_jax.errors import InputError

_WAIT_SECONDS = 15  # network file systems show a new file late


def check_shared(run: Path) -> None:
    """Raises InputError, on every process, when `run` is not on storage that all of them share.

    A process that wrote its part of a checkpoint to a disk of its own would be noticed at the restart only.
    """
    import jax

    if jax.process_count() == 1:
        return
    import numpy as np
    from jax.experimental import multihost_utils

    token = int(multihost_utils.broadcast_one_to_all(np.int32(time.time_ns() % 2**31)))
    file = run / f".seen-by-all-{token}"
    if jax.process_index() == 0:
        file.touch()
    multihost_utils.sync_global_devices("run folder")
    end = time.monotonic() + _WAIT_SECONDS
    while not (seen := file.exists()) and time.monotonic() < end:
        time.sleep(0.1)
    everyone = np.atleast_1d(multihost_utils.process_allgather(np.bool_(seen)))
    if jax.process_index() == 0:
        file.unlink()
    if blind := [str(i) for i, saw in enumerate(everyone) if not saw]:
        raise InputError(
            f"process {', '.join(blind)} sees another folder than process 0",
            where=f"out: {run.absolute()}",
            hint="a path on storage that all hosts share",
        )


def all_agree(fine: bool) -> bool:
    """Whether `fine` holds in every process; all of them wait for each other here."""
    import jax

    if jax.process_count() == 1:
        return fine
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.bool_(fine))))
