"""The engine of a name, as commands take it."""

from __future__ import annotations

from xlam_jax.errors import InputError
from xlam_jax.records.engine import LocalEngine, RowEngine

ENGINES = ("local", "ray")


def make_engine(name: str = "local", workers: int = 1, address: str = "") -> RowEngine:
    """The engine `name`.

    Args:
      workers: processes of the local engine, 0 for one a core; see `RayEngine` for Ray's.
      address: of a running Ray cluster, such as `10.0.0.1:6379`; empty starts one on this machine.

    Raises:
      InputError: unknown name, or Ray is not installed.
    """
    if name == "local":
        return LocalEngine(workers)
    if name == "ray":
        from xlam_jax.records.ray_engine import RayEngine

        return RayEngine(workers, address)
    raise InputError(f"unknown engine {name!r}", hint=" or ".join(ENGINES))
