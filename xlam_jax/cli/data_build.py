"""`xlam data build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, err, out, print_table, write_json


def register_build(app: typer.Typer) -> None:
    app.command(
        "build", epilog="Example: xlam data build configs/demo/data.yaml out=runs/demo/shards seq_len=1024"
    )(build)


def build(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file: inputs, tokenizer, codec, seq_len, out.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="For example seq_len=1024")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Tokenise Records once, mask, pack, write shards and a manifest; every dropped row is in the ledger."""
    from xlam_jax.config import load_config
    from xlam_jax.data.build import BuildConfig
    from xlam_jax.data.build import build as run

    settings = load_config(BuildConfig, config, overrides or ())
    with err.status("tokenising") as status:
        manifest = run(settings, lambda n, path: status.update(f"{n:,} records kept, reading {path}"))
    write_json(json_file, manifest)
    print_table("yields", manifest["yields"])
    keys = ("rows", "records", "tokens", "target_tokens", "padding", "fill_percent")
    print_table("packed", [{key: manifest[key] for key in keys}])
    out.print(f"{settings.out} (ledger: {settings.out}.ledger.jsonl)", highlight=False)
