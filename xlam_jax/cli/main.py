"""The `xlam` command. Modules import their heavy parts inside the commands, so that help is instant."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import absl.logging
import typer
from rich.text import Text

from xlam_jax import __version__
from xlam_jax.cli.common import err
from xlam_jax.errors import NoRoomError, XlamError, is_no_room

app = typer.Typer(
    name="xlam",
    help="Train, evaluate and release models that call functions.",
    epilog="Example: xlam data show configs/demo/records.jsonl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# A module either offers `app` (a command group of its name) or `register(app)` (plain commands).
_MODULES = (
    "convert",
    "data",
    "apigen",
    "plan",
    "train",
    "launch",
    "doctor",
    "call",
    "eval",
    "ablate",
    "bench",
    "config",
    "demo",
)


def _version(value: bool) -> None:
    if value:
        print(f"xlam-jax {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


for _name in _MODULES:
    _module = importlib.import_module(f"xlam_jax.cli.{_name}")
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_name)
    else:
        _module.register(app)


def main() -> None:
    """The `xlam` command."""
    run(app)


def run(command: Callable[[], None]) -> None:
    """Runs a command; XlamError becomes one screen and its exit status, other system errors exit status 1."""
    # Local folders never need the hub; without this a missing file costs a minute of retries offline.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Orbax tells absl of files that it does without, and of what it raises, with the whole way there.
    absl.logging.set_verbosity(absl.logging.FATAL)
    try:
        command()
    except XlamError as e:
        sys.exit(_told(e))
    except OSError as e:
        if is_no_room(e):
            hint = "free some space or choose another disk"
            sys.exit(_told(NoRoomError(f"the disk is full: {e.strerror}", where=_file(e), hint=hint)))
        _told(XlamError(str(e)))
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)


def _told(e: XlamError) -> int:
    """Prints an error on one screen; returns the exit status."""
    err.print(Text.assemble(("error:", "bold red"), f" {e.what}"), soft_wrap=True)
    if e.where:
        err.print(f"  where: {e.where}", highlight=False, soft_wrap=True)
    if e.hint:
        err.print(f"  try:   {e.hint}", highlight=False, soft_wrap=True)
    return e.exit_code


def _file(error: OSError) -> str:
    return str(error.filename or Path.cwd())


if __name__ == "__main__":
    main()
