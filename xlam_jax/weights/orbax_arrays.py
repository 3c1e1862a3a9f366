"""One Orbax item of named arrays, read straight to its devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding

from xlam_jax.errors import InputError


def read_item(
    path: str | Path,
    check: Callable[[dict[str, Any]], None],
    place: Callable[[str], Sharding],
    *,
    dtype_of: Callable[[str, Any], Any] = lambda name, stored: stored,
) -> dict[str, jax.Array]:
    """Name -> array of the item at `path` (`RUN/checkpoints/STEP/params`, say).

    The host holds two or three times the largest array beside those on the devices: the copies of
    tensorstore and Orbax.

    Args:
      check: called with what is stored (anything with a shape) before it is read; raises when it is not wanted.
      dtype_of: (name, stored dtype) -> dtype of the array.

    Raises:
      InputError: not an Orbax item, or damaged.
    """
    path = Path(path).absolute()
    stored = stored_arrays(path)
    check(stored)
    target = {
        name: jax.ShapeDtypeStruct(meta.shape, np.dtype(dtype_of(name, meta.dtype)), sharding=place(name))
        for name, meta in stored.items()
    }
    args = ocp.args.PyTreeRestore(  # type: ignore[call-arg]
        target, restore_args=ocp.checkpoint_utils.construct_restore_args(target)
    )
    largest = max(math.prod(meta.shape) * np.dtype(meta.dtype).itemsize for meta in stored.values())
    with checkpointer(largest) as reader:
        try:
            return reader.restore(path, args=args)
        except Exception as e:
            raise InputError(
                f"the parameters are damaged: {first_line(e)}",
                where=str(path),
                hint="take another checkpoint",
            ) from e


def stored_arrays(path: Path) -> dict[str, Any]:
    """Dotted path -> shape and dtype of the arrays of an Orbax item.

    Raises:
      InputError: not an Orbax item.
    """
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        try:
            return dict(reader.metadata(path.absolute()).item_metadata.tree)
        except Exception as e:  # Orbax has no error class of its own for what is no checkpoint
            raise InputError(
                f"not readable as Orbax parameters: {first_line(e)}", where=str(path), hint="check the path"
            ) from e


def checkpointer(largest_array_bytes: int) -> ocp.Checkpointer:
    """A reader that has one array in flight, which bounds host memory."""
    # Orbax refuses an array that is not smaller than the bound.
    handler = ocp.BasePyTreeCheckpointHandler(restore_concurrent_bytes=largest_array_bytes + 1)
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(handler_impl=handler))


def first_line(error: Exception) -> str:
    """What to print of an error of Orbax or tensorstore, which span pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
