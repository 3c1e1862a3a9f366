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
from typing import Any, Literal

import yaml

from xlam_jax.errors import InputError, WorkError

Target = Literal["local", "slurm", "k8s", "tpu"]
KINDS: dict[str, tuple[str, ...]] = {
    "local": ("processes",),
    "slurm": ("batch",),
    "k8s": ("jobset", "job"),
    "tpu": ("vm", "jobset"),
}
_COORDINATOR_PORT = 61500
_LONGEST_NAME = 40  # pods add "-train-0-0-" and five letters, and Kubernetes allows 63


@dataclasses.dataclass(frozen=True)
class Launch:
    """One start of a run.

    Attributes:
      command: what is run here, the program first.
      env: variables set for it.
      text: the script or manifest that it runs or reads.
      file: where `text` comes from.
      nodes: hosts that it asks for, where that is known here.
      stdin: whether `text` is handed over on standard input, since some of it was filled in.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    text: str
    file: str
    nodes: int = 1
    stdin: bool = False

    def shown(self) -> str:
        """The command as one would type it."""
        words = [f"{key}={shlex.quote(value)}" for key, value in self.env.items()]
        return " ".join([*words, shlex.join(self.command)])

    def run(self) -> int:
        """Runs the command to its end and returns its exit status.

        Raises:
          InputError: the program is not installed.
        """
        program = self.command[0]
        needed = "gcloud" if self.file.endswith("tpu/vm.sh") else program
        if not shutil.which(needed):
            raise InputError(
                f"{needed} is not installed here",
                hint="run this where it is, or print what would run with --dry-run",
            )
        given = self.text if self.stdin else None
        process = subprocess.run(self.command, env={**os.environ, **self.env}, input=given, text=True)
        return process.returncode


def launch(
    target: Target, config: Path, overrides: Sequence[str], *,
    nodes: int | None = None, kind: str = "", name: str = "", image: str = "", folder: Path | None = None,
) -> Launch:  # fmt: skip
    """How `xlam train CONFIG OVERRIDES` is started on `target`.

    Args:
      nodes: hosts, one process each; on `local` processes on this machine. None: what the file says.
      kind: one of `KINDS[target]`, the first by default.
      name: of the job; by default from the config's path.
      image: container image, for manifests.
      folder: where `launch/` is; by default found beside the working folder or the package.

    Raises:
      InputError: a choice that the target does not have, or no `launch/` folder.
    """
    kind = kind or KINDS[target][0]
    if kind not in KINDS[target]:
        raise InputError(f"{target} has no kind {kind!r}", where="--kind", hint=" or ".join(KINDS[target]))
    manifest = kind in ("job", "jobset")
    if image and not manifest:
        raise InputError(f"{target} ({kind}) runs no container", where="--image", hint="leave it out")
    if nodes and target == "tpu" and kind == "vm":
        raise InputError("a TPU VM has the hosts it was made with", where="--nodes", hint="leave it out")
    folder = folder or _find_folder()
    name = name or job_name(config)
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > _LONGEST_NAME:
        raise InputError(
            f"{name!r} is no name for a job", where="--name",
            hint=f"small letters, digits and -, beginning with a letter, {_LONGEST_NAME} at most",
        )  # fmt: skip
    arguments = (str(config), *overrides)
    if manifest:
        return _manifest(folder / target / f"{kind}.yaml", config, overrides, nodes, name, image)
    make: Callable[..., Launch] = {"local": _local, "slurm": _slurm, "tpu": _tpu_vm}[target]
    return make(folder, arguments, nodes, name)


def job_name(config: Path) -> str:
    """configs/xlam-7b-r/sft.yaml -> xlam-7b-r-sft."""
    text = re.sub(r"[^a-z0-9]+", "-", f"{config.absolute().parent.name}-{config.stem}".lower())
    return re.sub(r"^[^a-z]+", "", text)[:_LONGEST_NAME].strip("-") or "xlam"


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


def _slurm(folder: Path, arguments: Sequence[str], nodes: int | None, name: str) -> Launch:
    script = folder / "slurm.sbatch"
    text = script.read_text("utf-8")
    if nodes is None:
        stated = re.search(r"^#SBATCH --nodes=(\d+)", text, re.M)
        nodes = int(stated[1]) if stated else 1
    command = ("sbatch", f"--job-name={name}", f"--nodes={nodes}", str(script), *arguments)
    return Launch(command, {"XLAM": _xlam()}, text, str(script), nodes)


def _tpu_vm(folder: Path, arguments: Sequence[str], nodes: int | None, name: str) -> Launch:
    script = folder / "tpu" / "vm.sh"
    return Launch((str(script), *arguments), {}, script.read_text("utf-8"), str(script))


def _manifest(
    file: Path, config: Path, overrides: Sequence[str], nodes: int | None, name: str, image: str
) -> Launch:
    documents = list(yaml.safe_load_all(file.read_text("utf-8")))
    old = documents[-1]["metadata"]["name"]
    for document in documents:
        document["metadata"]["name"] = name
        if document["kind"] == "ConfigMap":
            document["data"]["config.yaml"] = config.read_text("utf-8")
        elif document["kind"] == "Service":
            document["spec"]["selector"]["batch.kubernetes.io/job-name"] = name
    spec = documents[-1]["spec"]
    if "replicatedJobs" in spec:
        spec["network"]["subdomain"] = name
        spec, first = spec["replicatedJobs"][0]["template"]["spec"], f"{name}-train-0-0.{name}"
    else:
        spec["template"]["spec"]["subdomain"], first = name, f"{name}-0.{name}"
    hosts: int = nodes or spec["completions"]
    spec["parallelism"] = spec["completions"] = hosts
    pod = spec["template"]["spec"]
    for volume in pod["volumes"]:
        if volume.get("configMap", {}).get("name") == old:
            volume["configMap"]["name"] = name
    container = pod["containers"][0]
    # Kubernetes replaces $(NAME) in arguments; $$ stands for $.
    container["args"] = [word.replace("$(", "$$(") for word in overrides]
    container["image"] = image or container["image"]
    values = {"XLAM_COORDINATOR": f"{first}:{_COORDINATOR_PORT}", "XLAM_NUM_PROCESSES": str(hosts)}
    for variable in container["env"]:
        variable["value"] = values.get(variable["name"], variable["value"])
    text = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120)
    return Launch(("kubectl", "apply", "-f", "-"), {}, text, str(file), hosts, stdin=True)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def check_rows(rows: int, accumulation: int, nodes: int) -> None:
    """Raises InputError when a step's rows do not split over the hosts."""
    if rows % (accumulation * nodes):
        raise InputError(
            f"{rows} rows a step do not split over {nodes} nodes and {accumulation} micro-batches",
            where="batch.rows",
            hint=f"a multiple of {accumulation * nodes}",
        )


def failed(status: int, shown: str) -> WorkError:
    """The error of a command that ended with `status`."""
    return WorkError(f"ended with status {status}", where=shown)
