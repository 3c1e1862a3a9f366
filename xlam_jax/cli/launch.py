"""`xlam launch`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, err, write_json


class TargetChoice(StrEnum):
    local = "local"
    slurm = "slurm"
    k8s = "k8s"
    tpu = "tpu"


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: xlam launch slurm configs/demo/sft.yaml --dry-run batch.rows=16 mesh.fsdp=-1"
    )(launch)


def launch(
    target: Annotated[TargetChoice, typer.Argument(metavar="TARGET", help="local, slurm, k8s or tpu.")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a training run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Handed to `xlam train`.")
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="Hosts, a process each; processes for local. Else as the script says."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="k8s: jobset (default) or job. tpu: vm (default) or jobset.")
    ] = "",
    name: Annotated[str, typer.Option(help="Of the job; by default from CONFIG's path.")] = "",
    image: Annotated[
        str, typer.Option(help="Container image; this and what follows for k8s and tpu --kind jobset.")
    ] = "",
    network: Annotated[
        str,
        typer.Option(help="Between GPU hosts: infiniband, gke, gke-rdma, efa or oke (launch/k8s/overlays)."),
    ] = "",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a host; 0 for the manifest's eight.")] = 0,
    gpu_type: Annotated[
        str, typer.Option(help="Value of the manifest's node selector, such as NVIDIA-H200.")
    ] = "",
    topology: Annotated[str, typer.Option(help="Of a TPU slice, such as 4x4; says how many hosts.")] = "",
    namespace: Annotated[str, typer.Option(help="Kubernetes namespace; by default kubectl's own.")] = "",
    queue: Annotated[str, typer.Option(help="Local queue of Kueue.")] = "",
    claim: Annotated[
        str, typer.Option(help="Volume claim that is mounted at /workspace; by default xlam-work.")
    ] = "",
    secret: Annotated[
        list[str] | None, typer.Option(help="Secret whose keys become variables of the run; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the script or manifest and the command; start nothing.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Start `xlam train CONFIG` here, on Slurm, on Kubernetes or on a TPU slice.

    The config is checked before anything is queued. Options of sbatch, kubectl and gcloud come from their own
    variables and settings (SBATCH_PARTITION, the current context, TPU_NAME and TPU_ZONE).

    On Kubernetes a run that has ended is started again, and one that still runs is left alone.

    Also: xlam launch local CONFIG --nodes 2, xlam launch k8s CONFIG --nodes 4 --image REGISTRY/xlam-jax:cuda,
    xlam launch tpu CONFIG --kind jobset --dry-run.
    """
    from xlam_jax import launchers
    from xlam_jax.config import load_config
    from xlam_jax.manifests import Options
    from xlam_jax.training.config import TrainConfig
    from xlam_jax.training.notice import notice_seconds

    # %a is the number of a task in a Slurm array (launch/slurm.sbatch).
    settings = load_config(TrainConfig, config, [word.replace("%a", "0") for word in overrides or ()])
    options = Options(
        image=image, namespace=namespace, queue=queue, gpu_type=gpu_type, gpus=gpus, topology=topology,
        claim=claim, secrets=tuple(secret or ()), network=network,
    )  # fmt: skip
    # A notice of one's own goes before what the run measured.
    notice = None if "SBATCH_SIGNAL" in os.environ else notice_seconds(settings.out)
    if notice and target == TargetChoice.slurm:
        err.print(
            f"notice before the time limit: {notice} s, by the saves of {settings.out}", highlight=False
        )
    plan = launchers.launch(
        target.value, config, overrides or (), nodes=nodes, kind=kind, name=name, out=str(settings.out),
        options=options, notice=notice,
    )  # fmt: skip
    # Where tensor or context split, several nodes may share rows; rows made from samples always divide.
    if settings.mesh.tensor == settings.mesh.context == 1 and not settings.batch.samples:
        devices = plan.manifest.devices if plan.manifest else 1
        launchers.check_rows(settings.batch.rows, settings.batch.accumulation, plan.nodes, devices)
    if dry_run:
        # Plain, so that it can be piped into a file.
        print(plan.text, end="" if plan.text.endswith("\n") else "\n")
        print(f"# {plan.file}, run by:\n# {plan.shown()}")
    else:
        err.print(plan.shown(), highlight=False, soft_wrap=True)
        if done := plan.run():
            err.print(done, highlight=False, soft_wrap=True)
    result = {"target": target.value, "command": list(plan.command), "env": plan.env, "file": plan.file}
    write_json(json_file, {**result, "text": plan.text, "started": not dry_run})
