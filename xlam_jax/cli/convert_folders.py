"""What the commands of `xlam convert` ask of the folder they write, and what they say of the files in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import need_apart, say
from xlam_jax.errors import InputError

OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace DST if it is what xlam convert wrote.")
]


def check_dst(dst: Path, overwrite: bool, json_file: Path | None, **sources: Path) -> None:
    """Raises InputError, before any work, when `dst` cannot be written or something of others would be lost."""
    from xlam_jax.files import check_beside, check_free
    from xlam_jax.weights.carried import would_be_lost
    from xlam_jax.weights.checksums import CHECKSUMS
    from xlam_jax.weights.hf_out import XLAM_JSON

    check_free(dst, overwrite=overwrite)
    need_apart(dst, **sources)
    for name, source in sources.items():
        # The place of a run's release may be in the run; a model's folder would become part of itself.
        if source.resolve() in dst.resolve().parents and not (source / "checkpoints").is_dir():
            raise InputError(f"DST lies in {name}", where=f"{dst}, {source}", hint="name another DST")
    check_beside(dst)
    if json_file and json_file.resolve() == dst.resolve():
        raise InputError("--json is DST", where=str(dst), hint="the name of a file")
    if not dst.is_dir() or not any(dst.iterdir()):
        return
    made = any((dst / name).is_file() for name in (CHECKSUMS, XLAM_JSON))
    if not made or (dst / "checkpoints").exists():
        raise InputError(
            "--overwrite replaces folders that hold a converted model; this one holds something else",
            where=str(dst),
            hint="name another DST",
        )
    if lost := would_be_lost(dst):
        raise InputError(
            f"--overwrite would delete what is no part of a release: {', '.join(lost[:5])}"
            + (f" and {len(lost) - 5} more" if len(lost) > 5 else ""),
            where=str(dst),
            hint="move it away, or name another DST",
        )


def documents(src: Path, dst: Path) -> dict[str, Any]:
    """What was carried from the folder `src` (of a run: its base model's) to `dst`, and what was not."""
    from xlam_jax.weights.carried import carried, left_behind
    from xlam_jax.weights.source import inspect

    folder = inspect(src).folders[-1] if src.is_dir() else None
    return {"carried": carried(dst), "left_behind": left_behind(folder, dst) if folder else []}


def say_documents(found: dict[str, Any]) -> None:
    """Two lines, where there is something to say."""
    for key, names in found.items():
        if names:
            say(f"{key.replace('_', ' ')}: {', '.join(names)}")
