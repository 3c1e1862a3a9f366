"""Packages that this one does without until a feature needs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from xlam_jax.errors import InputError


def need(
    package: str, extra: str = "", *, install: str = "", where: str = "", instead: str = ""
) -> list[Path]:
    """Looks for a package that is about to be imported, or whose files are, without importing it.

    Args:
      package: as it is imported: "pyarrow".
      extra: of pyproject.toml, which brings it: "data". Without one it is a requirement of this package.
      install: what to type, for a package that no extra brings because it goes without its own requirements.
      where: the config key, path or option that wants it.
      instead: what works without it.

    Returns:
      its folders; none for a package of one file.

    Raises:
      InputError: it is not installed; the hint is what to type.

    Example:
      >>> [folder.name for folder in need("numpy")]
      ['numpy']
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        name = package.replace("_", "-")
        hint = install or ("pip install " + (f"'xlam-jax[{extra}]'" if extra else name))
        raise InputError(
            f"{name} is not installed", where=where, hint=f"{hint}, or {instead}" if instead else hint
        )
    return [Path(folder) for folder in spec.submodule_search_locations or ()]
