"""Joining the processes of one run, in one place, before anything else uses JAX.

Where this process stands among the others is read from the environment, the first that says so:

1. `XLAM_COORDINATOR=HOST:PORT`, `XLAM_NUM_PROCESSES`, `XLAM_PROCESS_ID` (in an Indexed Job or a JobSet of
   Kubernetes, `JOB_COMPLETION_INDEX` stands in for the last).
2. TPU slices of several hosts, which JAX recognises itself: `XLAM_DISTRIBUTED=tpu` on a TPU VM; the variables
   that GKE sets.
3. A Slurm step (`srun`) of several tasks.

`XLAM_DISTRIBUTED=off` says that this process is alone whatever the rest says. JAX aborts the process when a
peer is missing, and does not notice when two processes are told different numbers of processes; so the
processes first call a roll over one TCP connection each, which names what is wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xlam_jax.errors import InputError, WorkError, XlamError
from xlam_jax.parallel.early_signals import end_at_once

_TIMEOUT = "XLAM_INIT_TIMEOUT"
_HEARTBEAT = "XLAM_HEARTBEAT_TIMEOUT"
_RESTART = "XLAM_RESTART"
_FIRST_WAIT, _LONGEST_WAIT = 10, 300  # seconds before the first restart; each further one waits twice as long
_ANSWER_SECONDS = 5
_SHUTDOWN_SECONDS = 60  # a process that ends because of an error of its own waits so long for the others


@dataclasses.dataclass(frozen=True)
class Group:
    """This process among the processes of one run.

    Attributes:
      coordinator: HOST:PORT of process 0; "" leaves all of it to JAX's own detection.
      local_devices: the accelerators of this host that are this process's; None for all that it sees.
      found_by: what said so: environment, kubernetes, tpu or slurm.
    """

    coordinator: str
    count: int
    index: int
    found_by: str
    local_devices: tuple[int, ...] | None = None


def detect(env: Mapping[str, str] = os.environ) -> Group | None:
    """Where this process stands, or None when it is alone.

    Raises:
      InputError: some of the variables are missing, or they contradict each other.
    """
    how = env.get("XLAM_DISTRIBUTED", "")
    if how not in ("", "off", "tpu"):
        raise InputError(f"XLAM_DISTRIBUTED is {how!r}", hint="off, tpu, or unset")
    if how == "off":
        return None
    if how == "tpu":
        return Group("", 0, 0, "tpu")
    group = _explicit(env) or _tpu(env) or _slurm(env)
    return None if group and group.count == 1 else group


def start(settings: str = "", env: Mapping[str, str] = os.environ) -> Group | None:
    """Joins the other processes of the run, if there are any; to be called before JAX is used.

    SIGTERM, SIGUSR1 and SIGUSR2 end the process at once meanwhile, with status 75. Where a launcher says in
    `XLAM_RESTART` which restart this is, since it has no back-off of its own, there is a wait first.

    Args:
      settings: text that must be the same in all processes, such as the config of the run.

    Raises:
      InputError: the environment contradicts itself, or the processes contradict each other.
      WorkError: the coordinator or another process did not come in time (`XLAM_INIT_TIMEOUT` seconds, 300).
    """
    with end_at_once():
        if restart := _integer(env, _RESTART, default=0):
            time.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (restart - 1)))
        group = detect(env)
        if group is not None:
            _join(group, settings, env)
    return group


def _join(group: Group, settings: str, env: Mapping[str, str]) -> None:
    import jax

    if jax.distributed.is_initialized():
        return
    timeout = _seconds(env, _TIMEOUT, 300)
    if group.coordinator:
        _roll_call(group, timeout, jax.__version__, settings)
    # The CPU has no collectives between processes without it; accelerators do not look at it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's service catches SIGTERM and does nothing more; a run that has not begun must die of it, and one
    # that has saves (training/signals.py).
    jax.config.update("jax_enable_preemption_service", False)
    limits: dict[str, Any] = {
        "initialization_timeout": timeout,
        "heartbeat_timeout_seconds": _seconds(env, _HEARTBEAT, 100),
        "shutdown_timeout_seconds": _SHUTDOWN_SECONDS,
    }
    try:
        if group.coordinator:
            # Under Slurm JAX's detection would give a process one GPU only, however many are its own.
            jax.distributed.initialize(
                group.coordinator,
                group.count,
                group.index,
                local_device_ids=group.local_devices,
                cluster_detection_method="deactivate",
                **limits,
            )
        else:
            jax.distributed.initialize(**limits)
    except (RuntimeError, ValueError) as e:
        raise WorkError(
            f"the processes could not be joined: {str(e).splitlines()[0]}",
            where=group.coordinator or "JAX's detection of the TPU slice",
            hint="every process of the run must be started with the same settings",
        ) from e


def is_first() -> bool:
    """Whether this is process 0 of the run, which writes and prints for all of them."""
    import jax

    return jax.process_index() == 0


# -- what the environment says ----


def _explicit(env: Mapping[str, str]) -> Group | None:
    names = ("XLAM_COORDINATOR", "XLAM_NUM_PROCESSES", "XLAM_PROCESS_ID")
    values = [env.get(name, "") for name in names]
    by = "environment"
    if not values[2] and "JOB_COMPLETION_INDEX" in env and (values[0] or values[1]):
        values[2], by = env["JOB_COMPLETION_INDEX"], "kubernetes"
    if not any(values):
        if _integer(env, "JOB_COMPLETION_INDEX", default=0) > 0:
            raise InputError(
                f"pod {env['JOB_COMPLETION_INDEX']} of an Indexed Job does not know of the others",
                where="XLAM_COORDINATOR, XLAM_NUM_PROCESSES",
                hint="set both in the pod template as launch/k8s does, or XLAM_DISTRIBUTED=off",
            )
        return None
    if missing := [name for name, value in zip(names, values, strict=True) if not value]:
        raise InputError(
            f"{', '.join(missing)} missing beside {', '.join(n for n in names if n not in missing)}",
            where="environment",
            hint="set all three, or none of them",
        )
    named: dict[str, str] = dict(zip(names, values, strict=True))
    count, index = (_integer(named, name) for name in names[1:])
    return _checked(Group(values[0], count, index, by), "XLAM_PROCESS_ID of XLAM_NUM_PROCESSES")


def _tpu(env: Mapping[str, str]) -> Group | None:
    hosts = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES") or ""
    several = "," in hosts or _integer(env, "MEGASCALE_NUM_SLICES", default=1) > 1
    return Group("", 0, 0, "tpu") if several else None


def _slurm(env: Mapping[str, str]) -> Group | None:
    if "SLURM_STEP_NODELIST" not in env:  # a batch script or an allocation without srun: alone
        return None
    count = _integer(env, "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in env else "SLURM_NTASKS")
    if count == 1:
        return None
    # Jobs that share a node must not share a port. The range is that of JAX's own detection.
    port = 61440 + _integer(env, "SLURM_JOB_ID") % 4096
    first = _first_host(env["SLURM_STEP_NODELIST"])
    index = _integer(env, "SLURM_PROCID")
    several_here = count > _integer(env, "SLURM_STEP_NUM_NODES", default=1)
    bound = "," not in env.get("CUDA_VISIBLE_DEVICES", ",")  # srun has already given each task its GPU
    mine = (_integer(env, "SLURM_LOCALID"),) if several_here and not bound else None
    return _checked(Group(f"{first}:{port}", count, index, "slurm", mine), "SLURM_PROCID of the step's tasks")


def _first_host(nodes: str) -> str:
    """First host of Slurm's list: a-[03-07,9],b -> a-03."""
    match = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)  # up to a comma outside of brackets
    if not match:
        raise InputError(f"no host in {nodes!r}", where="SLURM_STEP_NODELIST")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", match[0])


def _checked(group: Group, what: str) -> Group:
    if not 0 <= group.index < group.count:
        raise InputError(
            f"process {group.index} of {group.count}: indices go from 0 to {group.count - 1}", where=what
        )
    _address(group.coordinator)
    return group


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(
            f"the coordinator is {text!r}", where="XLAM_COORDINATOR", hint="HOST:PORT, such as node-0:61500"
        )
    return host.strip("[]"), int(port)


def _integer(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = env.get(name) or ("" if default is None else str(default))
    if not text.isdigit():
        raise InputError(f"{name} is {text!r}", where="environment", hint="a whole number")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: int) -> int:
    seconds = _integer(env, name, default)
    if not seconds:
        raise InputError(f"{name} is 0", where="environment", hint="seconds, 1 or more")
    return seconds


# -- the roll ----


def _roll_call(group: Group, timeout: int, version: str, settings: str = "") -> None:
    """Returns when all processes have said that they are there and agree.

    Process 0 listens at the coordinator's own port; each of the others sends a line of JSON and gets one
    back when all have come, or when something is wrong.
    """
    digest = hashlib.sha256(settings.encode()).hexdigest()
    me = {"xlam": "roll", "index": group.index, "count": group.count, "jax": version, "settings": digest}
    end = time.monotonic() + timeout
    if group.index:
        _report(group, me, end, timeout)
        return
    there: dict[int, socket.socket] = {}
    verdict: dict[str, Any] = {}
    try:
        with _server(group) as server:
            while len(there) < group.count - 1:
                _admit(_next(server, group, there, end, timeout), me, there)
    except XlamError as e:
        e.where = f"coordinator {group.coordinator}"
        verdict = {"problem": e.what, "code": e.exit_code}
        raise
    finally:
        for peer in there.values():
            _dismiss(peer, verdict)


def _server(group: Group) -> socket.socket:
    _, port = _address(group.coordinator)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=group.count)
    except OSError as e:
        hint = "another port in XLAM_COORDINATOR, or end what still uses it"
        raise WorkError(f"port {port} cannot be opened: {e.strerror}", hint=hint) from e


def _next(
    server: socket.socket, group: Group, there: dict[int, socket.socket], end: float, timeout: int
) -> socket.socket:
    server.settimeout(max(0.01, end - time.monotonic()))
    try:
        peer, _ = server.accept()
    except TimeoutError:
        missing = [i for i in range(1, group.count) if i not in there]
        shown = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
        raise WorkError(
            f"of {group.count} processes, {len(missing)} did not come within {timeout} seconds: {shown}",
            hint=f"look at their logs; {_TIMEOUT}=SECONDS waits longer",
        ) from None
    peer.settimeout(_ANSWER_SECONDS)
    return peer


def _admit(peer: socket.socket, me: dict[str, Any], there: dict[int, socket.socket]) -> None:
    """Adds `peer` to those who are there, or raises InputError, told to it as well."""
    said = _line(peer)
    if said.get("xlam") != "roll":  # no process of ours: a scanner, or one left from an earlier start
        peer.close()
        return
    index, problem = said["index"], ""
    if index in there and _has_left(there[index]):
        there.pop(index).close()  # it was restarted
    if index in there or index == 0:
        problem = f"two processes say that they are number {index} of {said['count']}"
    elif said["count"] != me["count"]:
        problem = f"process 0 was told of {me['count']} processes, process {index} of {said['count']}"
    elif said["jax"] != me["jax"]:
        problem = f"process 0 runs jax {me['jax']}, process {index} runs jax {said['jax']}"
    elif said["settings"] != me["settings"]:
        problem = f"process 0 and process {index} were given different settings"
    if problem:
        error = InputError(problem, hint="start every process with the same settings")
        _dismiss(peer, {"problem": problem, "code": error.exit_code})
        raise error
    there[index] = peer


def _report(group: Group, me: dict[str, Any], end: float, timeout: int) -> None:
    why = "no answer"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection(_address(group.coordinator), timeout=left) as peer:
                peer.sendall(json.dumps(me).encode() + b"\n")
                peer.settimeout(left + _ANSWER_SECONDS)  # process 0 gives up first, and says on whom
                said = _line(peer)
            if "problem" in said:
                kind = InputError if said["code"] == InputError.exit_code else WorkError
                raise kind(said["problem"], where=f"coordinator {group.coordinator}")
            if said.get("xlam") == "roll":
                return
            why = "something else listens there"
        except socket.gaierror as e:
            why = f"its name is not known ({e.strerror})"
        except OSError as e:
            why = e.strerror or str(e)
        time.sleep(0.2)
    raise WorkError(
        f"process {group.index} of {group.count} could not reach the coordinator in {timeout} seconds: {why}",
        where=f"coordinator {group.coordinator}",
        hint="is process 0 running, and its port open between the hosts?",
    )


def _dismiss(peer: socket.socket, verdict: dict[str, Any]) -> None:
    with suppress(OSError):  # who has gone needs no answer
        peer.sendall(json.dumps({"xlam": "roll", **verdict}).encode() + b"\n")
        peer.recv(1)  # the other side closes first, so that the port is free for JAX at once
    peer.close()


def _has_left(peer: socket.socket) -> bool:
    with suppress(OSError):
        peer.setblocking(False)
        try:
            return not peer.recv(1)
        except BlockingIOError:
            return False
        finally:
            peer.settimeout(_ANSWER_SECONDS)
    return True


def _line(peer: socket.socket) -> dict[str, Any]:
    """The JSON object of one line from `peer`; {} when it is something else."""
    text = b""
    try:
        while not text.endswith(b"\n") and len(text) < 4096:
            part = peer.recv(4096)
            if not part:
                break
            text += part
        said = json.loads(text)
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
