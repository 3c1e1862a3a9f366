"""Kubernetes manifests of a run: the files of `launch/k8s` and `launch/tpu` with their places filled in, and
what is done with them through kubectl.

Names: a workload is called after the config and `out`, so that one `out` has one workload whatever is typed
and two never meet; a ConfigMap after its content as well, and it cannot be changed, so that pods that start
late read what the first ones read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import posixpath
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from xlam_jax.errors import InputError, WorkError

NETWORKS = ("infiniband", "gke", "gke-rdma", "efa", "oke")
WORKSPACE = "/workspace"  # where the volume claim is mounted and pods start
LONGEST_NAME = 40  # pods add "-train-0-0-" and five letters, and Kubernetes allows 63
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_COORDINATOR_PORT = 61500
_CONTENT = "xlam-jax/content"
_WHOLE_MACHINE = 8  # GPUs of every machine that an overlay is for


@dataclasses.dataclass(frozen=True)
class Options:
    """What a person may choose for a manifest; "" and 0 leave the file's own.

    Attributes:
      image: container image.
      namespace: of everything that is made.
      queue: local queue of Kueue.
      gpu_type: value of the node selector of the GPU (or TPU) type.
      gpus: GPUs of a host; processor and memory requests follow.
      topology: of a TPU slice, such as 4x4.
      claim: volume claim that is mounted at /workspace.
      secrets: their keys become variables of the process.
      network: one of `NETWORKS`.
    """

    image: str = ""
    namespace: str = ""
    queue: str = ""
    gpu_type: str = ""
    gpus: int = 0
    topology: str = ""
    claim: str = ""
    secrets: tuple[str, ...] = ()
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is handed to `kubectl apply`.

    Attributes:
      text: all documents.
      kind: of the workload, JobSet or Job.
      name: of the workload.
      namespace: "" for kubectl's own.
      nodes: hosts, a process each.
      content: digest of the documents, which the workload carries too.
      devices: GPUs or TPU chips of a host.
    """

    text: str
    kind: str
    name: str
    namespace: str
    nodes: int
    content: str
    devices: int = 1

    def kubectl(self, *words: str) -> tuple[str, ...]:
        """The words of a kubectl command in the workload's namespace."""
        return ("kubectl", *((f"--namespace={self.namespace}",) if self.namespace else ()), *words)

    def submit(self) -> str:
        """Starts the workload, and says in a sentence what was done.

        One that has ended is deleted first, since Kubernetes starts none again; its checkpoints are on the
        volume. One that still runs with the same content is left alone.

        Raises:
          InputError: one of this name runs, with another content.
          WorkError: kubectl failed.
        """
        where = f"{self.kind} {self.name}"
        reply = self._run("get", self.kind.lower(), self.name, "--ignore-not-found", "--output=json")
        before = json.loads(reply) if reply.strip() else None
        if before and not _has_ended(before):
            if before["metadata"].get("annotations", {}).get(_CONTENT) == self.content:
                return f"{where} runs already: nothing was started"
            delete = " ".join(self.kubectl("delete", self.kind.lower(), self.name))
            raise InputError(
                f"{where} runs with other settings", where="out",
                hint=f"another `out`, or first let it save and end: {delete}",
            )  # fmt: skip
        if before:
            self._run("delete", self.kind.lower(), self.name, "--cascade=foreground", "--wait")
        self._run("apply", "--filename=-", given=self.text)
        return f"{where} {'had ended and was started again' if before else 'was started'}"

    def _run(self, *words: str, given: str | None = None) -> str:
        command = self.kubectl(*words)
        got = subprocess.run(command, input=given, capture_output=True, text=True)
        if got.returncode:
            no_jobset = self.kind == "JobSet" and "resource type" in got.stderr
            raise WorkError(
                f"ended with status {got.returncode}: {got.stderr.strip()[-500:]}",
                where=" ".join(command),
                hint="install JobSet (https://jobset.sigs.k8s.io), or use --kind job" if no_jobset else "",
            )
        return got.stdout


def _has_ended(workload: dict[str, Any]) -> bool:
    conditions = workload.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Completed", "Failed") and c["status"] == "True" for c in conditions)


def name_for(base: str, out: str) -> str:
    """The workload's name: what is readable of the config's, and a digest of the folder that `out` leads to."""
    digest = _digest(posixpath.normpath(posixpath.join(WORKSPACE, out)))
    return f"{base[: LONGEST_NAME - len(digest) - 1].strip('-')}-{digest}"


def fill(
    file: Path, config: str, overrides: Sequence[str], name: str, nodes: int | None, options: Options
) -> Manifest:
    """Fills in the manifest of `file`.

    Args:
      config: text of the run's config.
      overrides: arguments after it.
      name: of the workload.
      nodes: hosts; None for what the file says, or what `options.topology` needs.

    Raises:
      InputError: an option that does not fit the manifest.
    """
    for option, values in (
        ("--namespace", [options.namespace]), ("--queue", [options.queue]),
        ("--claim", [options.claim]), ("--secret", options.secrets),
    ):  # fmt: skip
        if odd := [value for value in values if value and not _NAME.fullmatch(value)]:
            raise InputError(
                f"Kubernetes has no names like {odd[0]!r}", where=option,
                hint="small letters a-z, digits, - and ., a letter or digit at both ends",
            )  # fmt: skip
    documents = list(yaml.safe_load_all(file.read_text("utf-8")))
    workload = documents[-1]
    spec, first = workload["spec"], f"{name}-0.{name}"
    if "replicatedJobs" in spec:
        spec["network"]["subdomain"], first = name, f"{name}-train-0-0.{name}"
        spec = spec["replicatedJobs"][0]["template"]["spec"]
    else:
        spec["template"]["spec"]["subdomain"] = name
    template = spec["template"]
    if options.network:
        _lay_over(template, _overlay(file.parent / "overlays", options))
    pod = template["spec"]
    container = next(c for c in pod["containers"] if c["name"] == "train")
    hosts: int = _tpu_hosts(pod, container, nodes, options) or nodes or spec["completions"]
    spec["parallelism"] = spec["completions"] = hosts
    _choose(pod, container, options)
    # Kubernetes replaces $(NAME) in arguments; $$ stands for $.
    container["args"] = [word.replace("$", "$$") for word in overrides]
    values = {"XLAM_COORDINATOR": f"{first}:{_COORDINATOR_PORT}", "XLAM_NUM_PROCESSES": str(hosts)}
    for variable in container["env"]:
        if variable["name"] in values:
            variable["value"] = values[variable["name"]]
    config_name = f"{name}-{_digest(config)}"
    next(v for v in pod["volumes"] if v["name"] == "config")["configMap"]["name"] = config_name
    for document in documents:
        is_config = document["kind"] == "ConfigMap"
        document["metadata"]["name"] = config_name if is_config else name
        document["metadata"]["labels"]["app.kubernetes.io/instance"] = name
        if options.namespace:
            document["metadata"]["namespace"] = options.namespace
        if is_config:
            document["data"]["config.yaml"] = config
        elif document["kind"] == "Service":
            document["spec"]["selector"]["batch.kubernetes.io/job-name"] = name
    if options.queue:
        workload["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = options.queue
    content = _digest(_dump(documents))
    workload["metadata"]["annotations"] = {_CONTENT: content}
    limits = container["resources"]["limits"]
    devices = int(limits.get("nvidia.com/gpu") or limits.get("google.com/tpu") or 1)
    return Manifest(_dump(documents), workload["kind"], name, options.namespace, hosts, content, devices)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _choose(pod: dict[str, Any], container: dict[str, Any], options: Options) -> None:
    if options.image:
        container["image"] = options.image
    if options.gpu_type:
        # The first selector is that of the type, whatever the cloud calls it.
        pod["nodeSelector"][next(iter(pod["nodeSelector"]))] = options.gpu_type
    resources = container["resources"]
    if options.gpus:
        if "nvidia.com/gpu" not in resources["limits"]:
            raise InputError("the manifest is one for TPUs", where="--gpus", hint="--topology says how many")
        share = options.gpus / resources["limits"]["nvidia.com/gpu"]
        resources["limits"]["nvidia.com/gpu"] = options.gpus
        memory = int(resources["requests"]["memory"].removesuffix("Gi"))
        cpus = int(resources["requests"]["cpu"])
        resources["requests"] = {
            "cpu": str(max(1, int(cpus * share))), "memory": f"{max(1, int(memory * share))}Gi",
        }  # fmt: skip
    if options.claim:
        claim = next(v for v in pod["volumes"] if v["name"] == "work")["persistentVolumeClaim"]
        claim["claimName"] = options.claim
    if options.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in options.secrets]


def _tpu_hosts(
    pod: dict[str, Any], container: dict[str, Any], nodes: int | None, options: Options
) -> int | None:
    """Hosts of a TPU slice of the topology, which is written into `pod`; None where there are no TPUs."""
    key = "cloud.google.com/gke-tpu-topology"
    chips = container["resources"]["limits"].get("google.com/tpu")
    if not chips:
        if options.topology:
            raise InputError("only TPU slices have a topology", where="--topology", hint="leave it out")
        return None
    topology = options.topology or pod["nodeSelector"][key]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", topology):
        raise InputError(f"{topology!r} is no topology", where="--topology", hint="such as 4x4 or 2x2x4")
    all_chips = math.prod(map(int, topology.split("x")))
    hosts, rest = divmod(all_chips, chips)
    if rest or not hosts:
        raise InputError(
            f"a slice of {topology} has {all_chips} chips, and each of its hosts has {chips}",
            where="--topology", hint=f"a multiple of {chips} chips",
        )  # fmt: skip
    if nodes and nodes != hosts:
        raise InputError(
            f"{nodes} hosts of {chips} chips are no slice of {topology}, which has {hosts}", where="--nodes",
            hint=f"--nodes {hosts}, or the --topology of {nodes * chips} chips",
        )  # fmt: skip
    pod["nodeSelector"][key] = topology
    return hosts


# -- overlays ----


def _overlay(folder: Path, options: Options) -> dict[str, Any]:
    if options.network not in NETWORKS:
        raise InputError(f"no network {options.network!r}", where="--network", hint=", ".join(NETWORKS))
    if options.gpus not in (0, _WHOLE_MACHINE):
        raise InputError(
            f"the network {options.network} is set up for machines of {_WHOLE_MACHINE} GPUs", where="--gpus",
            hint="leave --gpus out, or --network",
        )  # fmt: skip
    return yaml.safe_load((folder / f"{options.network}.yaml").read_text("utf-8"))


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Maps are joined, None takes away, entries of lists are matched by `name`, other lists are replaced."""
    for key, value in above.items():
        there = below.get(key)
        if value is None:
            below.pop(key, None)
        elif isinstance(value, dict) and isinstance(there, dict):
            _lay_over(there, value)
        elif isinstance(value, list) and isinstance(there, list) and _are_named(value) and _are_named(there):
            by_name = {entry["name"]: entry for entry in there}
            for entry in value:
                if entry["name"] in by_name:
                    _lay_over(by_name[entry["name"]], entry)
                else:
                    there.append(entry)
        else:
            below[key] = value


def _are_named(entries: list[Any]) -> bool:
    return all(isinstance(entry, dict) and "name" in entry for entry in entries)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _dump(documents: list[dict[str, Any]]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120)
