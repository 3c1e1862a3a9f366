"""`xlam data augment` and `xlam data pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import (
    AddressOption,
    EngineOption,
    JsonOption,
    WorkersOption,
    err,
    need_output,
    print_table,
    say,
    working,
    write_json,
)

# Of the copies on which a rate falls this share must allow the transform, or a warning says how many did.
_REACHED = 0.9

SourceArgument = Annotated[Path, typer.Argument(metavar="IN", help="Records: JSONL, gzip when named .gz.")]


def register_augment(app: typer.Typer) -> None:
    example = "xlam data augment configs/demo/records.jsonl runs/demo/augmented.jsonl --copies 2"
    app.command("augment", epilog=f"Example: {example}")(augment)
    example = "xlam data pairs configs/demo/records.jsonl runs/demo/pairs.jsonl --corruptions all"
    app.command("pairs", epilog=f"Example: {example}")(pairs)


def augment(
    source: SourceArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Originals and copies, JSONL likewise.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML file: rates, layouts, formats, ...")
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option("--rate", metavar="NAME=P", help="Probability of one transform, or all=P; repeatable."),
    ] = None,
    pool: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Other tools to draw from: Records, or tools; repeatable."),
    ] = None,
    copies: Annotated[int | None, typer.Option(min=0, help="Copies of every row.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all choices.")] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
    address: AddressOption = "",
    json_path: JsonOption = None,
) -> None:
    """Varies records: orders, markers, call formats, wordings, masked names, rows without a right call."""
    from xlam_jax.config import load_config, make_config
    from xlam_jax.records.augment.config import AugmentConfig
    from xlam_jax.records.augment.run import augment_file
    from xlam_jax.records.engines import make_engine

    overrides = _rates(rate or [])
    overrides += [f"copies={copies}"] if copies is not None else []
    overrides += [f"seed={seed}"] if seed is not None else []
    if config:
        settings = load_config(AugmentConfig, config, overrides)
    else:
        settings = make_config(AugmentConfig, {}, overrides, where="--rate")
    if pool:
        settings = settings.model_copy(update={"pool": (*settings.pool, *pool)})
    models: dict[str, Any] = {}
    if ask := settings.rephrase:
        from xlam_jax.llm import LLM

        def model(temperature: float) -> LLM:
            return LLM(
                ask.base_url,
                ask.model,
                ask.api_key_env,
                ask.cache,
                temperature,
                ask.max_tokens,
                ask.concurrency,
            )

        models = {"writer": model(ask.temperature), "answerer": model(0.0)}
    need_output(target, source)
    with working("augmenting") as status:
        result = augment_file(
            source,
            target,
            settings,
            make_engine(engine, workers, address),
            lambda n: status(f"{n:,} rows written"),
            **models,
        )
    write_json(json_path, result)
    print_table("transforms", [_transform(row) for row in result["transforms"] if row["rate"]])
    keys = ("rows_in", "rows_out", "copies", "refused", "nothing_applied", "pool")
    print_table("augmented", [{key: result[key] for key in keys}])
    for row in result["transforms"]:
        if row["drawn"] and row["applied"] < _REACHED * row["drawn"]:
            err.print(_unreached(row), highlight=False, soft_wrap=True)
    say(f"{target} (ledger: {target}.ledger.jsonl)")


def pairs(
    source: SourceArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Preference pairs, JSONL likewise.")],
    negatives: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='A weaker model\'s answers: JSONL of {"id", "answer" or "calls"}.'),
    ] = None,
    model: Annotated[str, typer.Option(help="Its name; the file's by default.")] = "",
    call_format: Annotated[str, typer.Option(help="Call format of its answers.")] = "xlam-json",
    corruptions: Annotated[
        str, typer.Option(metavar="NAMES", help="all, or names with commas between; none by default.")
    ] = "",
    per_row: Annotated[int, typer.Option(min=1, help="At most so many pairs a row.")] = 1,
    keep_unparsable: Annotated[
        bool, typer.Option("--keep-unparsable", help="Answers that do not parse are rejected answers, too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all choices.")] = 0,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
    address: AddressOption = "",
    json_path: JsonOption = None,
) -> None:
    """Builds preference pairs that the scorer confirms: it passes the chosen answer and fails the other."""
    from xlam_jax.records.engines import make_engine
    from xlam_jax.records.pairs import NEGATIVES, build_pairs

    names = list(NEGATIVES) if corruptions == "all" else [n for n in corruptions.split(",") if n]
    need_output(target, source, *([negatives] if negatives else []))
    with working("pairing") as status:
        result = build_pairs(
            source,
            target,
            negatives=negatives,
            model=model,
            call_format=call_format,
            corruptions=names,
            per_row=per_row,
            keep_unparsable=keep_unparsable,
            seed=seed,
            engine=make_engine(engine, workers, address),
            progress=lambda n: status(f"{n:,} pairs written"),
        )
    write_json(json_path, result)
    print_table("negatives", [_negative(row) for row in result["negatives"]])
    print_table("yields", result["yields"])
    say(f"{target} (ledger: {target}.ledger.jsonl)")


def _rates(given: list[str]) -> list[str]:
    from xlam_jax.records.augment.config import Rates

    out: list[str] = []
    for text in given:
        name, sign, value = text.partition("=")
        asked = [n for n in Rates.model_fields if not n.startswith("rephrase_")] if name == "all" else [name]
        out.extend(f"rates.{n}{sign}{value}" for n in asked)
    return out


def _transform(row: dict[str, Any]) -> dict[str, Any]:
    shown = {key: row[key] for key in ("transform", "rate", "drawn", "applied", "rows_out")}
    return {**shown, "not applicable": row["reasons"]}


def _unreached(row: dict[str, Any]) -> str:
    """What to know of a rate that the rows did not allow."""
    reasons = ", ".join(f"{code} {n}" for code, n in row["reasons"].items())
    text = f"warning: {row['transform']} was drawn on {row['drawn']} copies and applied to {row['applied']}: {reasons}"
    return text + ("; --pool FILE brings other tools" if "no_unrelated_tools" in row["reasons"] else "")


def _negative(row: dict[str, Any]) -> dict[str, Any]:
    shown = {key: row[key] for key in ("negative", "tried", "kept")}
    return {**shown, "not kept": {key: n for key, n in row.items() if key not in shown and n}}
