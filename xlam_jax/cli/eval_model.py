"""What the commands of `xlam eval` share: options of a model, its engine, and what a result is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xlam_jax.cli.common import err, need_dir
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.evaluation.endpoint import Completions, Endpoint
    from xlam_jax.inference import Engine

ConstrainedOption = Annotated[
    bool,
    typer.Option(
        "--constrained", help="Answers must follow the grammar of their tools (an empty list may be one)."
    ),
]
AdapterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter", metavar="NAME=DIR", help="Score this PEFT adapter on the model; again for several."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of the sample and of scripted:random.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on in --out after a stop; the same options as before.")
]
ConcurrencyOption = Annotated[
    int, typer.Option("--concurrency", min=1, help="Requests to an endpoint at a time.")
]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer in tokens.")]
CompletionsOption = Annotated[
    Path | None,
    typer.Option(
        "--completions",
        metavar="DIR",
        help="Ask a URL by /completions, with the prompts of this model folder.",
    ),
]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Sequences that decode together.")]
LenOption = Annotated[int, typer.Option("--max-len", min=2, help="Prompt and answer together, in tokens.")]


def kind_of(
    model: str,
    constrained: bool = False,
    adapter: list[str] | None = None,
    completions: Path | None = None,
) -> tuple[Literal["script", "endpoint", "folder"], str]:
    """What `--model` names, and the name: of a script without its prefix.

    Raises:
      InputError: no such folder, an adapter or a grammar for what takes none, or completions of no URL.
    """
    from xlam_jax.evaluation.scripted import PREFIX

    if completions and not model.startswith(("http://", "https://")):
        raise InputError("only a URL is asked for completions", where=model, hint="leave --completions out")
    if model.startswith(PREFIX):
        kind, what, name = "script", "a scripted model", model.removeprefix(PREFIX)
    elif model.startswith(("http://", "https://")):
        kind, what, name = "endpoint", "an endpoint", model
    else:
        need_dir(Path(model), "model folder")
        return "folder", model
    if adapter or constrained:
        raise InputError(f"{what} takes no adapter and no grammar", where=model, hint="--model alone")
    return kind, name


def endpoint_of(
    url: str, completions: Path | None, concurrency: int, max_tokens: int, out_dir: Path | None
) -> tuple[Endpoint | Completions, dict[str, Any]]:
    """The model behind a URL, and what a journal keeps of it; answers are cached in `out_dir`.

    Args:
      completions: the folder whose prompts are continued; None asks by chat with tools.
    """
    from xlam_jax.evaluation.endpoint import Completions, Endpoint

    cache = out_dir / "requests.jsonl" if out_dir else None
    settings: dict[str, Any] = {"concurrency": concurrency, "max_tokens": max_tokens, "cache": cache}
    if completions is None:
        model = Endpoint(url, **settings)
        return model, {"model": model.name, "max_new_tokens": max_tokens}
    model = Completions(url, need_dir(completions, "model folder"), **settings)
    return model, {"model": model.name, "max_new_tokens": max_tokens, "completions": str(completions)}


def engine_of(model: Path, max_len: int, batch_size: int, adapters: list[str] | None) -> Engine:
    """The engine of a model folder, with its adapters read."""
    from xlam_jax.inference import Engine

    named = dict(_named_folder(text) for text in adapters or ())
    return Engine.from_folder(model, max_len=max_len, batch_size=batch_size, adapters=named)


@contextmanager
def answers_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Shows how many answers are there; yields what is told so."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("answers", total=total)

        def progress(done: int) -> None:
            bar.update(task, completed=done)

        yield progress


def about_model(dataset: str, model: Path) -> dict[str, Any]:
    """What a result is of; a model card takes it for the weights that it names."""
    from xlam_jax.weights import inspect, read_xlam_json

    weights = read_xlam_json(inspect(model).folder).get("weights_xxh3_128")
    return {"dataset": dataset, "model": str(model), "weights_xxh3_128": weights}


def speed_of(engine: Engine) -> dict[str, Any]:
    """Tokens per second of prefill and decode, compilation included, and microseconds per mask."""
    stats, grammars = engine.stats, engine.grammars
    return {
        "prefill_tokens_per_second": stats.prefill_tokens / max(stats.prefill_seconds, 1e-9),
        "decode_tokens_per_second": stats.decode_tokens / max(stats.decode_seconds, 1e-9),
        "mask_microseconds": 1e6 * grammars.mask_seconds / grammars.masks if grammars.masks else None,
    }


def speed_words(speed: dict[str, Any]) -> str:
    """`speed_of` for the eye."""
    words = (
        f"prefill {speed['prefill_tokens_per_second']:.0f} tokens/s, "
        f"decode {speed['decode_tokens_per_second']:.0f} tokens/s"
    )
    mask = speed["mask_microseconds"]
    return words if mask is None else f"{words}, {mask:.0f} microseconds per mask"


def _named_folder(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise InputError(f"{text!r} is not NAME=DIR", where="--adapter", hint="--adapter mine=runs/adapter")
    return name, need_dir(Path(folder), "PEFT folder")
