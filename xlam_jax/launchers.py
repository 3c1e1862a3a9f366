"""What starts a training run somewhere: the command, and the script or manifest that it is given.

The scripts and manifests stand in `launch/` of the clone and work without this module; here their few
variable places are filled in.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from xlam_jax.errors import InputError, WorkError
from xlam_jax.manifests import LONGEST_NAME, Manifest, Options, fill, name_for

Target = Literal["local", "slurm", "k8s", "tpu"]
KINDS: dict[str, tuple[str, ...]] = {
    "local": ("processes",),
    "slurm": ("batch",),
    "k8s": ("jobset", "job"),
    "tpu": ("vm", "jobset"),
}


@dataclasses.dataclass(frozen=True)
class Launch:
    """One start of a run.

    Attributes:
      command: what is run here, the program first.
      env: variables set for it.
      text: the script or manifest that it runs or reads.
      file: where `text` comes from.
      nodes: hosts that it asks for, where that is known here.
      manifest: what Kubernetes is given; None elsewhere.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    text: str
    file: str
    nodes: int = 1
    manifest: Manifest | None = None

    def shown(self) -> str:
        """The command as one would type it."""
        words = [f"{key}={shlex.quote(value)}" for key, value in self.env.items()]
        return " ".join([*words, shlex.join(self.command)])

    def run(self) -> str:
        """Runs the command to its end; on Kubernetes what was done, in a sentence.

        Raises:
          InputError: the program is not installed, or the workload runs with other settings.
          WorkError: the command failed.
        """
        program = self.command[0]
        needed = "gcloud" if self.file.endswith("tpu/vm.sh") else program
        if not shutil.which(needed):
            raise InputError(
                f"{needed} is not installed here",
                hint="run this where it is, or print what would run with --dry-run",
            )
        if self.manifest:
            return self.manifest.submit()
        process = subprocess.run(self.command, env={**os.environ, **self.env})
        if process.returncode:
            raise WorkError(f"ended with status {process.returncode}", where=self.shown())
        return ""


def launch(
    target: Target, config: Path, overrides: Sequence[str], *,
    nodes: int | None = None, kind: str = "", name: str = "", out: str = "", options: Options = Options(),
    folder: Path | None = None, notice: int | None = None,
) -> Launch:  # fmt: skip
    """How `xlam train CONFIG OVERRIDES` is started on `target`.

    Args:
      nodes: hosts, one process each; on `local` processes on this machine. None: what the file says.
      kind: one of `KINDS[target]`, the first by default.
      name: of the job; by default from the config's path, on Kubernetes with a digest of `out`.
      out: the run's folder.
      notice: seconds before the time limit at which Slurm says so; None as the script says.
      options: for manifests.
      folder: where `launch/` is; by default found beside the working folder or the package.

    Raises:
      InputError: a choice that the target does not have, or no `launch/` folder.
    """
    kind = kind or KINDS[target][0]
    if kind not in KINDS[target]:
        raise InputError(f"{target} has no kind {kind!r}", where="--kind", hint=" or ".join(KINDS[target]))
    manifest = kind in ("job", "jobset")
    if not manifest and (given := [f.name for f in dataclasses.fields(options) if getattr(options, f.name)]):
        where = ", ".join(f"--{name.removesuffix('s') if name == 'secrets' else name}" for name in given)
        raise InputError(
            f"{target} ({kind}) runs no container", where=where.replace("_", "-"), hint="leave it out"
        )
    if options.network and target == "tpu":
        raise InputError("TPUs have a network of their own", where="--network", hint="leave it out")
    if nodes and target == "tpu" and kind == "vm":
        raise InputError("a TPU VM has the hosts it was made with", where="--nodes", hint="leave it out")
    folder = folder or _find_folder()
    name = name or (name_for(job_name(config), out) if manifest else job_name(config))
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > LONGEST_NAME:
        raise InputError(
            f"{name!r} is no name for a job", where="--name",
            hint=f"small letters, digits and -, beginning with a letter, {LONGEST_NAME} at most",
        )  # fmt: skip
    arguments = (str(config), *overrides)
    if manifest:
        file = folder / target / f"{kind}.yaml"
        made = fill(file, config.read_text("utf-8"), overrides, name, nodes, options)
        command = made.kubectl("apply", "-f", "-")
        return Launch(command, {}, made.text, str(file), made.nodes, made)
    if target == "slurm":
        return _slurm(folder, arguments, nodes, name, notice)
    make: Callable[..., Launch] = {"local": _local, "tpu": _tpu_vm}[target]
    return make(folder, arguments, nodes, name)


def job_name(config: Path) -> str:
    """configs/xlam-7b-r/sft.yaml -> xlam-7b-r-sft."""
    text = re.sub(r"[^a-z0-9]+", "-", f"{config.absolute().parent.name}-{config.stem}".lower())
    return re.sub(r"^[^a-z]+", "", text)[:LONGEST_NAME].strip("-") or "xlam"


def _find_folder() -> Path:
    places = (Path.cwd(), Path(__file__).resolve().parents[1])
    for place in places:
        if (place / "launch" / "slurm.sbatch").is_file():
            return place / "launch"
    raise InputError(
        "the launch/ folder of the repository is not here",
        where=", ".join(str(place / "launch") for place in places),
        hint="run this in a clone of the repository; the wheel does not carry it",
    )


def _xlam() -> str:
    """The `xlam` beside this Python, so that a script finds it without an activated environment."""
    beside = Path(sys.executable).with_name("xlam")
    return str(beside) if beside.is_file() else "xlam"


def _local(folder: Path, arguments: Sequence[str], nodes: int | None, name: str) -> Launch:
    script = folder / "local.sh"
    env = {"XLAM": _xlam(), "PROCESSES": str(nodes or 1)}
    return Launch((str(script), *arguments), env, script.read_text("utf-8"), str(script), nodes or 1)


def _slurm(
    folder: Path, arguments: Sequence[str], nodes: int | None, name: str, notice: int | None
) -> Launch:
    script = folder / "slurm.sbatch"
    text = script.read_text("utf-8")
    if nodes is None:
        stated = re.search(r"^#SBATCH --nodes=(\d+)", text, re.M)
        nodes = int(stated[1]) if stated else 1
    signal = (f"--signal=B:USR1@{notice}",) if notice else ()
    command = ("sbatch", f"--job-name={name}", f"--nodes={nodes}", *signal, str(script), *arguments)
    return Launch(command, {"XLAM": _xlam()}, text, str(script), nodes)


def _tpu_vm(folder: Path, arguments: Sequence[str], nodes: int | None, name: str) -> Launch:
    script = folder / "tpu" / "vm.sh"
    return Launch((str(script), *arguments), {}, script.read_text("utf-8"), str(script))


def check_rows(rows: int, accumulation: int, nodes: int, devices: int = 1) -> None:
    """Raises InputError when a step's rows do not split over the hosts and the devices of each.

    Args:
      rows: of a step, over all nodes.
      accumulation: micro-batches of a step.
      devices: of each node.
    """
    if rows % (parts := accumulation * nodes * devices):
        each = f" of {devices} devices" if devices > 1 else ""
        raise InputError(
            f"{rows} rows a step do not split over {nodes} nodes{each} and {accumulation} micro-batches",
            where="batch.rows",
            hint=f"a multiple of {parts}",
        )
