"""`xlam convert`: models from and to Hugging Face folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli import convert_card, convert_peft
from xlam_jax.cli.common import JsonOption, err, need_output, out, write_json
from xlam_jax.cli.convert_card import BaseOption, LicenseOption, NameOption, card_facts
from xlam_jax.cli.convert_folders import OverwriteOption, check_dst, documents, say_documents
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.weights.hf_out import SaveReport

app = typer.Typer(
    help="Convert models from and to Hugging Face folders.",
    epilog="Example: xlam convert to-hf runs/base runs/released --dtype bfloat16",
    no_args_is_help=True,
)

convert_peft.register(app)
convert_card.register(app)

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


_Source = Annotated[
    Path,
    typer.Argument(
        metavar="SRC",
        help="A Hugging Face folder, a training run or one of its checkpoints (adapters are "
        "merged), or a .gguf file.",
    ),
]
_Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where the same command was killed; what it finished is kept."),
]
_ShardSize = Annotated[str, typer.Option(metavar="SIZE", help="Of one file: 5GB, 500MB, 1GiB.")]
_DtypeOption = Annotated[Dtype | None, typer.Option(help="Of the weights; as stored in SRC if not given.")]


@app.command("from-hf", epilog="Example: xlam convert from-hf runs/demo/model runs/base")
def from_hf(
    src: Annotated[
        Path, typer.Argument(metavar="SRC", help="A Hugging Face folder, or a Llama-type .gguf file.")
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write, to train from.")],
    dtype: _DtypeOption = None,
    max_shard_size: _ShardSize = "5GB",
    overwrite: OverwriteOption = False,
    resume: _Resume = False,
    json_file: JsonOption = None,
) -> None:
    """Take a model in: every key and tensor checked, one layout, checksums, what is known of its origin kept.

    Training reads Hugging Face folders as they are; this checks one once, before a hundred hosts read it.
    """
    from xlam_jax.files import write_json as write_object
    from xlam_jax.weights import stream
    from xlam_jax.weights.carried import PROVENANCE
    from xlam_jax.weights.hf_out import HfOptions
    from xlam_jax.weights.provenance import provenance
    from xlam_jax.weights.source import inspect

    max_shard_bytes = parse_size(max_shard_size)
    if src.suffix != ".gguf" and inspect(src).kind != "hf":
        raise InputError("this is no Hugging Face folder", where=str(src), hint="xlam convert to-hf reads it")
    check_dst(dst, overwrite, json_file, SRC=src)
    facts = provenance(src)
    options = HfOptions(
        dtype=dtype.value if dtype else None,
        max_shard_bytes=max_shard_bytes,
        finish=lambda folder: write_object(folder / PROVENANCE, facts),
    )
    with stream.open_model(src) as model, _bar("converting", model.nbytes) as advance:
        report = stream.to_hf(model, dst, options, resume=resume, progress=advance)
    _finish(report, src, dst, json_file)


@app.command("to-hf", epilog="Example: xlam convert to-hf runs/base runs/released --dtype bfloat16")
def to_hf(
    src: _Source,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Hugging Face folder to write.")],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare logits with transformers on SRC and on DST (needs torch)."),
    ] = False,
    dtype: _DtypeOption = None,
    license: LicenseOption = "",
    base_model: BaseOption = "",
    name: NameOption = "",
    max_shard_size: _ShardSize = "5GB",
    vocab_size: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of the embedding: cut those no token uses, or pad with their mean."),
    ] = None,
    overwrite: OverwriteOption = False,
    resume: _Resume = False,
    json_file: JsonOption = None,
) -> None:
    """Write a Hugging Face folder: safetensors, configs, tokenizer, chat template, vLLM tool parser, model card."""
    from xlam_jax.format import get_codec
    from xlam_jax.format.vllm_plugin import vllm_plugin
    from xlam_jax.weights import stream
    from xlam_jax.weights.cards import write_card
    from xlam_jax.weights.hf_out import HfOptions
    from xlam_jax.weights.verify import Verified, need_torch, verify_export

    max_shard_bytes = parse_size(max_shard_size)
    check_dst(dst, overwrite, json_file, SRC=src)
    if verify:
        need_torch()
    agreements: list[Verified] = []

    def check(folder: Path) -> None:
        agreements.append(verify_export(src, folder, called=dst))

    facts = card_facts(src, license, base_model, name)
    with stream.open_model(src) as model:
        try:
            codec = get_codec(**model.codec) if model.codec else None
        except TypeError as e:
            raise InputError(f"unknown codec choice: {e}", where=str(src)) from e
        options = HfOptions(
            chat_template=codec.jinja() if codec else None,
            stop=codec.stop if codec else None,
            dtype=dtype.value if dtype else None,
            max_shard_bytes=max_shard_bytes,
            vocab_size=vocab_size,
            files={"tool_parser.py": vllm_plugin(codec)} if codec else {},
            finish=lambda folder: write_card(folder, facts),
            check=check if verify else None,
        )
        with _bar("converting", model.nbytes) as advance:
            report = stream.to_hf(model, dst, options, resume=resume, progress=advance)
    _finish(report, src, dst, json_file, *(agreement.to_json() for agreement in agreements))


@app.command("upcycle", epilog="Example: xlam convert upcycle runs/demo/model runs/moe --experts 4")
def upcycle(
    src: _Source,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Hugging Face folder to write.")],
    experts: Annotated[int, typer.Option(min=1, help="Experts of a layer.")] = 4,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Experts that a token goes to.")] = 2,
    noise: Annotated[
        float, typer.Option(help="Noise on each expert, as a share of its weights' spread; 0 keeps logits.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of routers and noise.")] = 0,
    dtype: _DtypeOption = None,
    license: LicenseOption = "",
    base_model: BaseOption = "",
    name: NameOption = "",
    max_shard_size: _ShardSize = "5GB",
    overwrite: OverwriteOption = False,
    resume: _Resume = False,
    json_file: JsonOption = None,
) -> None:
    """Make a mixture of experts of a dense model: Llama and Mistral to Mixtral, Qwen3 to Qwen3-MoE."""
    from xlam_jax.weights import stream
    from xlam_jax.weights.cards import write_card
    from xlam_jax.weights.hf_out import HfOptions
    from xlam_jax.weights.upcycle import Upcycling, open_upcycled

    max_shard_bytes = parse_size(max_shard_size)
    check_dst(dst, overwrite, json_file, SRC=src)
    how = Upcycling(experts, top_k, noise, seed=seed)
    made = f"Its MLP was copied into {experts} experts, {top_k} a token, with noise {noise:g}."
    facts = {**card_facts(src, license, base_model, name), "made": made}
    options = HfOptions(
        dtype=dtype.value if dtype else None,
        max_shard_bytes=max_shard_bytes,
        finish=lambda folder: write_card(folder, facts),
    )
    with open_upcycled(src, how) as model, _bar("upcycling", model.nbytes) as advance:
        report = stream.to_hf(model, dst, options, resume=resume, progress=advance)
    _finish(report, src, dst, json_file)


@app.command("verify", epilog="Example: xlam convert verify runs/released")
def verify_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that xlam convert wrote.")],
    json_file: JsonOption = None,
) -> None:
    """Read every file back and compare with checksums.json (or the weights with xlam.json)."""
    from xlam_jax.weights.stream import verify_checksums

    with _bar("reading", None) as advance:
        what = verify_checksums(folder, advance)
    write_json(json_file, {"folder": str(folder), "verified": what})
    out.print(f"{folder}: {what} as written", highlight=False, soft_wrap=True)


@app.command("vllm-parser", epilog="Example: xlam convert vllm-parser runs/parser.py --call-format hermes")
def vllm_parser(
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Python file to write.")],
    call_format: Annotated[str, typer.Option(help="Call format.")] = "xlam-json",
    template: Annotated[str, typer.Option(help="Chat template.")] = "chatml",
    overwrite: OverwriteOption = False,
) -> None:
    """Write the vLLM tool parser of a call format: one file, for --tool-parser-plugin."""
    from xlam_jax.format import get_codec
    from xlam_jax.format.vllm_plugin import parser_name, vllm_plugin

    codec = get_codec(call_format, template)
    need_output(dst)
    if dst.exists() and not overwrite:
        raise InputError("the file exists", where=str(dst), hint="--overwrite")
    dst.parent.mkdir(parents=True, exist_ok=True)
    dst.write_text(vllm_plugin(codec), encoding="utf-8")
    out.print(
        f"vllm serve MODEL --enable-auto-tool-choice --tool-parser-plugin {dst} "
        f"--tool-call-parser {parser_name(codec)}",
        highlight=False,
        soft_wrap=True,
    )


def parse_size(text: str) -> int:
    """Bytes of "5GB" (10^9), "1GiB" (2^30), "1000".

    Raises:
      InputError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)?\s*", text, flags=re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match else 0
    if size < 1:
        raise InputError(f"{text!r} is no size", where="--max-shard-size", hint="for example 5GB or 500MB")
    return size


def _finish(
    report: SaveReport, src: Path, dst: Path, json_file: Path | None, verify: dict[str, Any] | None = None
) -> None:
    result = {**report.to_json(), "source": str(src), "folder": str(dst)}
    result["peak_over_largest_shard"] = report.peak_bytes / report.largest_shard
    result |= {"verify": verify} if verify else {}
    result["unread_keys"] = _unread(src)
    result |= (others := documents(src, dst))
    write_json(json_file, result)
    weights = sum(report.shards.values())
    lines = [
        f"{dst}: {report.parameters / 1e6:.1f} M parameters, {report.dtype}, {report.seconds:.1f} s, "
        f"{weights / 1e6 / report.seconds:.0f} MB/s",
        f"peak host memory: {report.peak_bytes / 2**20:.0f} MiB, "
        f"{result['peak_over_largest_shard']:.2f} x the largest file of "
        f"{report.largest_shard / 2**20:.0f} MiB",
    ]
    if verify:
        lines += [
            f"verified with transformers on {name}: relative logit difference {agreement['relative']:.2g}, "
            f"same first choice in {agreement['argmax']:.1%} of {agreement['tokens']} positions"
            for name, agreement in ((src, verify["source"]), (dst, verify))
            if agreement
        ]
    if result["unread_keys"]:
        lines.append(f"config.json: no model of this type reads {', '.join(result['unread_keys'])}")
    out.print("\n".join(lines), highlight=False, soft_wrap=True)
    say_documents(others)


def _unread(src: Path) -> list[str]:
    from xlam_jax.weights.hf_in import unread_keys
    from xlam_jax.weights.source import inspect

    return [] if src.suffix == ".gguf" else unread_keys(inspect(src).folder)


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[str, int], None]]:
    """A progress bar over bytes with their rate and the time left; yields its callback, called per tensor."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda name, nbytes: progress.advance(task, nbytes)
