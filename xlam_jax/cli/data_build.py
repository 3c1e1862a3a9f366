"""`xlam data build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import (
    AddressOption,
    EngineOption,
    JsonOption,
    WorkersOption,
    print_table,
    say,
    working,
    write_json,
)


def register_build(app: typer.Typer) -> None:
    app.command("build", epilog="Example: xlam data build configs/demo/data.yaml")(build)


def build(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file: inputs, tokenizer, codec, seq_len, out.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="For example seq_len=1024")
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
    ray_address: AddressOption = "",
    json_file: JsonOption = None,
) -> None:
    """Tokenise Records once, mask, pack, write shards and a manifest; every dropped row is in the ledger."""
    from xlam_jax.config import load_config
    from xlam_jax.records.engines import make_engine
    from xlam_jax.shards.build import BuildConfig
    from xlam_jax.shards.build import build as run

    settings = load_config(BuildConfig, config, overrides or ())
    rows = make_engine(engine, workers, ray_address)
    with working("tokenising") as status:
        manifest = run(settings, lambda n, path: status(f"{n:,} records kept, reading {path}"), rows)
    write_json(json_file, manifest)
    keys = ("path", "records", "usable", "epochs", "rows_percent", "tokens_percent")
    print_table("mixture", [{key: facts[key] for key in keys} for facts in manifest["inputs"]])
    print_table("licences", [{"licence": name, "rows": n} for name, n in manifest["licences"].items()])
    if held := manifest.get("validation"):
        print_table("validation, of functions that the training rows never show", [held])
    print_table("yields", manifest["yields"])
    if manifest["repaired"]:
        print_table("repaired", [{"code": code, "rows": n} for code, n in manifest["repaired"].items()])
    keys = ("rows", "records", "tokens", "target_tokens", "padding", "fill_percent")
    print_table("packed", [{key: manifest[key] for key in keys}])
    say(f"{settings.out} (ledger: {settings.out}.ledger.jsonl)")
