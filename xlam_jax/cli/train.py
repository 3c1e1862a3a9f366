"""`xlam train`."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xlam_jax.cli.common import JsonOption, err, out, print_table, write_json


class ResumeChoice(StrEnum):
    auto = "auto"
    never = "never"
    must = "must"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam train configs/demo/sft.yaml steps=20 out=runs/sft --resume auto")(train)


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a training run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="For example optim.lr=1e-5")
    ] = None,
    resume: Annotated[
        ResumeChoice,
        typer.Option(
            help="auto: go on from the newest checkpoint, if any; must: only from one; never: only without."
        ),
    ] = ResumeChoice.auto,
    profile: Annotated[
        str | None,
        typer.Option(metavar="FIRST:LAST", help="Trace these steps into RUN/profile (also log.profile)."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Fine-tune a model on packed data; stop it with SIGTERM, and the same command goes on."""
    from xlam_jax.config import load_config
    from xlam_jax.errors import Stopped
    from xlam_jax.parallel.early_signals import end_at_once

    with (
        end_at_once()
    ):  # the imports take seconds, and as the first process of a container nothing would end them
        from xlam_jax.parallel import distributed
        from xlam_jax.plan.remat import choose
        from xlam_jax.training.config import TrainConfig
        from xlam_jax.training.loop import train as run

    changes = [*(overrides or ()), *([f"log.profile='{profile}'"] if profile else [])]
    settings = load_config(TrainConfig, config, changes)
    use_flag_profile()
    distributed.start(settings.model_dump_json())
    evaluators = []
    if settings.log.calls:
        from xlam_jax.cli.train_calls import CallAccuracy

        evaluators.append(CallAccuracy(settings, settings.log.calls))
    first = distributed.is_first()  # speaks for all
    console = err if first else Console(quiet=True)
    result = run(settings, evaluators=evaluators, console=console, resume=resume.value, choose_remat=choose)
    keys = (
        "step",
        "total_steps",
        "loss",
        "accuracy",
        "tokens_per_second",
        "target_tokens_per_second",
        "seconds_per_step",
        "tflops_per_device",
        "seconds",
    )
    row = {key: getattr(result, key) for key in keys}
    row |= {"MFU": f"{result.mfu:.1%}"} if result.mfu is not None else {}
    row |= {**result.eval, "goodput": result.goodput, "peak GiB": result.peak_rss_gib}
    if first:
        write_json(json_file, asdict(result))
        print_table(f"run {result.run}", [row])
    if result.best and first:
        out.print("best checkpoint: step {step}, {metric} {value:.4f}".format(**result.best), highlight=False)
    if result.stopped.startswith("SIG"):
        raise Stopped(
            f"stopped by {result.stopped}, saved at step {result.step} of {result.total_steps}",
            where=result.run,
            hint="the same command goes on from there",
        )
    if not result.finished and first:
        out.print(f"stopped at step {result.step} of {result.total_steps} as asked (stop_at)")


def use_flag_profile() -> None:
    """Sets the flag profile named by XLAM_XLA_PROFILE, which JAX reads when it first looks for devices.

    What is already in the environment wins. Where it asks for several fake devices, theirs is the default.
    """
    fake = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    name = os.environ.get("XLAM_XLA_PROFILE", "fake-devices" if fake else "")
    if not name:
        return
    from xlam_jax.parallel.xla_flags import profile, profile_flags

    for key, value in profile(name).env.items():
        os.environ.setdefault(key, value)
    os.environ["XLA_FLAGS"] = f"{profile_flags(name)} {os.environ.get('XLA_FLAGS', '')}".strip()
