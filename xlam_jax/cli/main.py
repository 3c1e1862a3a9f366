"""The `xlam` command. Modules import their heavy parts inside the commands, so that help is instant."""

from __future__ import annotations

import importlib
import os
import sys

import absl.logging
import typer

from xlam_jax import __version__
from xlam_jax.cli.common import err
from xlam_jax.errors import XlamError

app = typer.Typer(
    name="xlam",
    help="Train, evaluate and release models that call functions.",
    epilog="Example: xlam data show configs/demo/records.jsonl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# A module either offers `app` (a command group of its name) or `register(app)` (plain commands).
_MODULES = ("convert", "data", "apigen", "plan", "train", "launch", "doctor", "call", "eval", "bench", "demo")


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
    """Runs a command; XlamError becomes one screen and its exit status, other system errors exit status 1."""
    # Local folders never need the hub; without this a missing file costs a minute of retries offline.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Orbax warns through absl of files that it does without; what matters raises.
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        app()
    except XlamError as e:
        err.print(f"[bold red]error:[/] {_escape(e.what)}", highlight=False)
        if e.where:
            err.print(f"  where: {_escape(e.where)}", highlight=False)
        if e.hint:
            err.print(f"  try:   {_escape(e.hint)}", highlight=False)
        sys.exit(e.exit_code)
    except OSError as e:
        err.print(f"[bold red]error:[/] {_escape(str(e))}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    main()
