"""Which files the inside of the walls sees: the interpreter, the environment's packages, the modules that are called.

Nothing else of the disk is bound. Of a user's folder that is its Python files and its packages: what lies beside
them (data, keys, a `.env`) stays outside. Modules stand inside under `/modules`, packages where they are.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xlam_jax.errors import InputError

_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")


@dataclass(frozen=True)
class View:
    """What is to be seen inside.

    Attributes:
      binds: `(path outside, path inside)`, in the order in which they are bound.
      path: entries for the front of `sys.path` inside.
    """

    binds: tuple[tuple[str, str], ...]
    path: tuple[str, ...]


def interpreter() -> str:
    """The interpreter behind a virtual environment's link."""
    return os.path.realpath(sys.executable)


def packages() -> View:
    """The interpreter's own files and the folders of installed packages, each at its place."""
    library = sysconfig.get_config_var("LIBDIR") or ""
    shared = os.path.join(library, sysconfig.get_config_var("INSTSONAME") or "")
    folders = [
        *_SYSTEM,
        os.path.join(sys.base_prefix, "lib"),
        os.path.join(sys.base_exec_prefix, "lib"),
        *_site_folders(),
        *_FILES,
        *([shared] if os.path.isfile(shared) else []),
        interpreter(),
    ]
    binds: list[tuple[str, str]] = []
    for folder in dict.fromkeys(folders):
        if os.path.exists(folder) and not _covered(folder, [inside for _, inside in binds]):
            binds.append((os.path.realpath(folder), folder))
    return View(tuple(binds), tuple(_site_folders()))


def modules(names: Iterable[str], folders: Sequence[str | os.PathLike[str]]) -> View:
    """The modules that are called, by the first part of their names, with what lies beside them as Python.

    Raises:
      InputError: one is found nowhere.
    """
    binds: dict[str, str] = {}
    path: list[str] = []
    for i, folder in enumerate(folders):
        inside = f"/modules/{i}"
        path.append(inside)
        for entry in sorted(Path(folder).resolve().iterdir()):
            if _is_python(entry):
                binds[str(entry.resolve())] = f"{inside}/{entry.name}"
    seen = {Path(inside).name.partition(".")[0] for inside in binds.values()}
    roots = [
        *_site_folders(),
        os.path.join(sys.base_prefix, "lib"),
        os.path.join(sys.base_exec_prefix, "lib"),
    ]
    for name in dict.fromkeys(names):
        if name in seen or name in sys.stdlib_module_names:
            continue
        place = _place(name)
        if not _covered(place, roots):
            binds[place] = f"/modules/own/{os.path.basename(place)}"
            path = [*dict.fromkeys([*path, "/modules/own"])]
    return View(tuple(binds.items()), tuple(path))


def _place(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise InputError(
            f"there is no module {name!r}", hint="install its package here, or name the folder of its file"
        )
    if spec.submodule_search_locations:
        return os.path.realpath(next(iter(spec.submodule_search_locations)))
    return os.path.realpath(spec.origin or "")


def _is_python(entry: Path) -> bool:
    return (entry.is_file() and entry.suffix in (".py", ".so")) or (entry / "__init__.py").is_file()


def _site_folders() -> list[str]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    user = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    return [f for f in dict.fromkeys([*folders, user]) if f and os.path.isdir(f)]


def _covered(path: str, folders: Iterable[str]) -> bool:
    return any(path == f or path.startswith(f.rstrip("/") + "/") for f in folders)
