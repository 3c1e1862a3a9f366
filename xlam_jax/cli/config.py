"""`xlam config`."""

from __future__ import annotations

import importlib
from enum import StrEnum
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, out, print_table, write_json

MODELS = {
    "train": ("xlam_jax.training.config", "TrainConfig", "xlam train"),
    "data": ("xlam_jax.shards.build", "BuildConfig", "xlam data build"),
    "pairs": ("xlam_jax.shards.build", "BuildConfig", "xlam data build"),
    "augment": ("xlam_jax.records.augment.config", "AugmentConfig", "xlam data augment"),
    "verify": ("xlam_jax.records.quality.verify", "VerifyConfig", "xlam data verify"),
    "apigen": ("xlam_jax.apigen.run", "RunConfig", "xlam apigen run"),
    "ablation": ("xlam_jax.evaluation.ablation.config", "AblationConfig", "xlam ablate"),
}


# Said above the keys of a kind.
NOTES = {
    "pairs": "Preference pairs are built by the same keys, with `kind: preference` and inputs that `xlam data pairs` "
    "wrote (its choices are options of the command). `pair_layout` is for pairs alone, `share_prompts` not for them.",
}


class Kind(StrEnum):
    train = "train"
    data = "data"
    pairs = "pairs"
    augment = "augment"
    verify = "verify"
    apigen = "apigen"
    ablation = "ablation"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: xlam config train optim")(config)


def config(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"Of which config: {', '.join(MODELS)}.")],
    key: Annotated[
        str, typer.Argument(help="A key or a section, such as optim.lr or mesh; all when left out.")
    ] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema, for editors.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Every key of a config file: type, default, meaning, example."""
    import dataclasses
    import json

    from xlam_jax.config_reference import find_keys, keys_of

    model = model_of(kind.value)
    if schema:
        print(json.dumps(model.model_json_schema(), indent=2))
        return
    keys = find_keys(model, key) if key else list(keys_of(model))
    write_json(json_file, [{**dataclasses.asdict(k), "example": k.example} for k in keys])
    if len(keys) == 1:
        facts = {**dataclasses.asdict(keys[0]), "example": keys[0].example}
        print_table(kind.value, [{"": name, "value": value} for name, value in facts.items()])
        return
    if not key and kind.value in NOTES:
        out.print(NOTES[kind.value], highlight=False)
    for k in keys:
        default = f"  [{k.default}]" if k.default else ""
        out.print(f"{k.name}  {k.type}{default}", style="bold", highlight=False, soft_wrap=True)
        if k.meaning:
            out.print(f"    {k.meaning}", highlight=False)


def model_of(kind: str) -> type:
    """The config class of a kind."""
    module, name, _ = MODELS[kind]
    return getattr(importlib.import_module(module), name)


def page() -> str:
    """docs/config.md."""
    from xlam_jax.config_reference import markdown

    parts = [
        "# Every key of every config\n",
        "Made from the docstrings of the code; `xlam config KIND KEY` prints a part of it, `--schema` a JSON Schema\n"
        "for editors. A key is set in the file, or behind the command (`optim.lr=1e-5`).\n",
        "```console\n"
        "xlam config train\n"
        "xlam config train optim.lr\n"
        "xlam config data validation --json runs/keys.json\n"
        "xlam config pairs pair_layout\n"
        "xlam config apigen --schema\n"
        "```\n",
    ]
    for kind, (_, _, command) in MODELS.items():
        note = [NOTES[kind] + "\n"] if kind in NOTES else []
        parts += [f"## {kind}: `{command}`\n", *note, markdown(model_of(kind))]
    return "\n".join(parts)
