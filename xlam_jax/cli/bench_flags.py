"""`xlam bench flags`: XLA flag profiles, listed, and printed for a shell."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, err, out, print_table, write_json


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam bench flags --print h100")(flags)


def flags(
    name: Annotated[
        str | None,
        typer.Option("--print", metavar="NAME", help="Print a profile's XLA_FLAGS and nothing else."),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", metavar="NAME", help="Print a profile as lines of `export`.")
    ] = None,
    jax_version: Annotated[
        str | None, typer.Option(help="Judge for this jaxlib, not the installed one.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """XLA flag profiles. A flag that this jaxlib does not know would end the process, so it is left out."""
    from xlam_jax.parallel.xla_flags import flag_table, profile, profile_flags, profiles

    with warnings.catch_warnings(record=True) as dropped:
        warnings.simplefilter("always")
        if name or env:
            text = profile_flags(name or env or "", jax_version)
    for warning in dropped:
        err.print(str(warning.message), highlight=False)
    if name:
        print(text)
        return
    if env:
        values = {"XLA_FLAGS": text, "XLAM_XLA_PROFILE": env, **profile(env).env}
        print("\n".join(f'export {key}="{value}"' for key, value in values.items()))
        return
    table = flag_table(jax_version)
    write_json(json_file, table)
    print_table(
        "profiles", [{"name": p.name, "flags": len(p.flags), "about": p.about} for p in profiles().values()]
    )
    print_table("flags", [row for row in table if row["profiles"] or row["here"] != "yes"])
    out.print("xlam bench flags --env NAME prints lines for a shell", highlight=False)
