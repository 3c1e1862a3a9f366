"""`xlam convert to-peft` and `from-peft`: LoRA adapters to and from PEFT folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xlam_jax.cli.common import JsonOption, need_dir, out, write_json
from xlam_jax.cli.convert_card import BaseOption, LicenseOption, NameOption, card_facts
from xlam_jax.cli.convert_folders import OverwriteOption, check_dst, documents, say_documents
from xlam_jax.errors import InputError


def register(app: typer.Typer) -> None:
    app.command("to-peft", epilog="Example: xlam convert to-peft runs/lora runs/adapter")(to_peft)
    app.command(
        "from-peft", epilog="Example: xlam convert from-peft runs/adapter runs/merged --base runs/demo/base"
    )(from_peft)


def to_peft(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A training run with `lora:`, or one of its checkpoints.")
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The PEFT folder to write.")],
    overwrite: OverwriteOption = False,
    license: LicenseOption = "",
    base_model: BaseOption = "",
    name: NameOption = "",
    json_file: JsonOption = None,
) -> None:
    """Write the adapters of a run for PEFT and vLLM, without their base model."""
    need_dir(run, "training run")
    from xlam_jax.weights.adapters import adapter_run, read_adapters
    from xlam_jax.weights.cards import write_card
    from xlam_jax.weights.carried import carry
    from xlam_jax.weights.checksums import write_checksums
    from xlam_jax.weights.hf_in import read_config
    from xlam_jax.weights.peft_out import save_peft
    from xlam_jax.weights.source import inspect

    source = inspect(run)
    adapters = adapter_run(source.params) if source.params else None
    if adapters is None:
        raise InputError("this holds no adapters", where=str(run), hint="xlam convert to-hf for whole models")
    check_dst(dst, overwrite, json_file, RUN=run)
    facts = card_facts(run, license, base_model, name)
    cfg = read_config(source.folder)

    def finish(folder: Path) -> None:
        carry(source.folders, folder)
        write_card(folder, facts)
        write_checksums(folder, {})

    named = base_model or str(adapters.model)
    result = save_peft(read_adapters(adapters, cfg), cfg, dst, base_model=named, finish=finish)
    write_json(json_file, {"source": str(run), "folder": str(dst), **result})
    _say(
        dst,
        f"{result['modules']} modules, rank {result['rank']}, {result['parameters'] / 1e6:.2f} M parameters",
    )


def from_peft(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="A PEFT folder.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Hugging Face folder to write.")],
    base: Annotated[
        Path | None, typer.Option("--base", metavar="DIR", help="The base model; else the one SRC names.")
    ] = None,
    overwrite: OverwriteOption = False,
    json_file: JsonOption = None,
) -> None:
    """Merge a PEFT adapter into its base model and write a Hugging Face folder, to train or convert from."""
    need_dir(src, "PEFT folder")
    from xlam_jax.files import write_json as write_object
    from xlam_jax.models.lora import attach, merge
    from xlam_jax.weights.carried import PROVENANCE, left_of_adapter
    from xlam_jax.weights.hf_out import save_hf
    from xlam_jax.weights.peft_config import read_peft_config
    from xlam_jax.weights.peft_in import load_peft
    from xlam_jax.weights.provenance import merged_facts
    from xlam_jax.weights.source import inspect, load_model

    named = str(read_peft_config(src).get("base_model_name_or_path") or "")
    model = base or Path(named)
    if not model.is_dir() or not (named or base):
        raise InputError(
            f"the base model {str(model)!r} is no folder"
            if named or base
            else "the adapter names no base model",
            where=str(src),
            hint="--base DIR",
        )
    check_dst(dst, overwrite, json_file, SRC=src, BASE=model)
    facts = merged_facts(model, src)
    cfg, params = load_model(model)
    merged = merge(attach(params, load_peft(src, cfg)))
    source = inspect(model)
    report = save_hf(
        *(merged, cfg, dst),
        tokenizer=source.tokenizer,
        codec=source.codec,
        dtype=None,
        carry=source.folders,
        finish=lambda folder: write_object(folder / PROVENANCE, facts),
    )
    others = documents(model, dst)
    others["left_behind"] += [f"{name} of the adapter" for name in left_of_adapter(src, dst)]
    result = {"source": str(src), "base": str(model), **report.to_json(), "folder": str(dst), **others}
    write_json(json_file, result)
    _say(dst, f"{report.parameters / 1e6:.1f} M parameters, {report.dtype}, the adapter merged")
    say_documents(others)


def _say(dst: Path, text: str) -> None:
    out.print(f"{dst}: {text}", highlight=False, soft_wrap=True)
