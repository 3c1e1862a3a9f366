"""`xlam convert`: models from and to Hugging Face folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli import convert_peft
from xlam_jax.cli.common import JsonOption, err, out, write_json
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.release.hf_out import SaveReport

app = typer.Typer(
    help="Convert models from and to Hugging Face folders.",
    epilog="Example: xlam convert from-hf runs/demo/model runs/native",
    no_args_is_help=True,
)

convert_peft.register(app)

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace DST if it holds a model.")]


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


@app.command("from-hf", epilog="Example: xlam convert from-hf runs/demo/model runs/native")
def from_hf(
    src: Annotated[
        Path, typer.Argument(metavar="SRC", help="A Hugging Face folder, or a Llama-type .gguf file.")
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The native folder to write.")],
    overwrite: _Overwrite = False,
    json_file: JsonOption = None,
) -> None:
    """Read a Hugging Face folder or a GGUF file into a native folder (Orbax, any mesh)."""
    import tempfile

    import jax

    from xlam_jax.models.spec import hf_entries
    from xlam_jax.release.folders import PeakMemory
    from xlam_jax.release.gguf import load_gguf, save_gguf_tokenizer
    from xlam_jax.release.hf_in import load_hf, read_config
    from xlam_jax.release.native import inspect, save_native
    from xlam_jax.release.tokenizer_files import check_vocabulary

    source = None if src.suffix == ".gguf" else inspect(src)
    if source and source.kind != "hf":
        raise InputError("this folder is native already", where=str(src), hint="xlam convert to-hf")
    _check_dst(src, dst, overwrite)
    jax.block_until_ready(jax.numpy.zeros(()))  # the backend's own memory is not the conversion's
    memory = PeakMemory().start()
    with _bar() as show, tempfile.TemporaryDirectory() as temporary:
        if source:
            cfg, params = load_hf(src, progress=show("reading", len(hf_entries(read_config(src)))))
            tokenizer = source.tokenizer
            shards = {p.name: p.stat().st_size for p in sorted(src.glob("*.safetensors"))}
        else:
            cfg, params = load_gguf(src, progress=show("dequantising"))
            tokenizer, shards = Path(temporary), {src.name: sum(a.nbytes for a in jax.tree.leaves(params))}
            save_gguf_tokenizer(src, tokenizer)
        if tokenizer:
            check_vocabulary(tokenizer, cfg.vocab_size)
        reading = memory.bytes() - _host_bytes(params)
        show("writing")
        report = save_native(params, cfg, dst, tokenizer=tokenizer, codec=source.codec if source else None)
    _finish(_result(replace(report, shards=shards), reading), src, dst, json_file)


@app.command("to-hf", epilog="Example: xlam convert to-hf runs/native runs/released --dtype bfloat16")
def to_hf(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A native folder, a training run or one of its checkpoints (adapters are merged), HF folder.",
        ),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Hugging Face folder to write.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Load DST with transformers (needs torch) and compare logits.")
    ] = False,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Of the weights; as stored in SRC if not given.")
    ] = None,
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Of one file: 5GB, 500MB, 1GiB.")
    ] = "5GB",
    overwrite: _Overwrite = False,
    json_file: JsonOption = None,
) -> None:
    """Write a Hugging Face folder: safetensors, configs, tokenizer, chat template, vLLM tool parser."""
    max_shard_bytes = parse_size(max_shard_size)

    import jax
    import numpy as np

    from xlam_jax.format import get_codec
    from xlam_jax.format.vllm_plugin import vllm_plugin
    from xlam_jax.models.spec import hf_entries
    from xlam_jax.release.folders import PeakMemory, whole_folder
    from xlam_jax.release.hf_out import DTYPES, save_hf
    from xlam_jax.release.native import inspect, load_model
    from xlam_jax.release.verify import need_torch, verify_hf

    source = inspect(src)
    try:
        codec = get_codec(**source.codec) if source.codec else None
    except TypeError as e:
        raise InputError(f"unknown codec choice: {e}", where=str(src)) from e
    _check_dst(src, dst, overwrite)
    if verify:
        need_torch()
    jax.block_until_ready(jax.numpy.zeros(()))  # the backend's own memory is not the conversion's
    memory = PeakMemory().start()
    with _bar() as show, whole_folder(dst) as folder:
        cfg, params = load_model(src, progress=show("reading"))
        reading = memory.bytes() - _host_bytes(params)
        report = save_hf(
            params,
            cfg,
            folder,
            tokenizer=source.tokenizer,
            chat_template=codec.jinja() if codec else None,
            stop=codec.stop if codec else None,
            codec=source.codec,
            dtype=dtype.value if dtype else None,
            max_shard_bytes=max_shard_bytes,
            progress=show("writing", len(hf_entries(cfg))),
        )
        if codec:
            (folder / "tool_parser.py").write_text(vllm_plugin(codec), encoding="utf-8")
        result = _result(report, reading)
        if verify:
            show("comparing with transformers")
            rounded = jax.tree.map(lambda a: a.astype(np.dtype(DTYPES[report.dtype])), params)
            result["verify"] = verify_hf(folder, rounded, cfg).to_json()
    _finish(result, src, dst, json_file)
    if verify:
        found = result["verify"]
        out.print(
            f"verified with transformers: relative logit difference {found['relative']:.2g}, "
            f"same first choice in {found['argmax']:.1%} of {found['tokens']} positions",
            highlight=False,
            soft_wrap=True,
        )


@app.command("vllm-parser", epilog="Example: xlam convert vllm-parser runs/parser.py --call-format hermes")
def vllm_parser(
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Python file to write.")],
    call_format: Annotated[str, typer.Option(help="Call format.")] = "xlam-json",
    template: Annotated[str, typer.Option(help="Chat template.")] = "chatml",
    overwrite: _Overwrite = False,
) -> None:
    """Write the vLLM tool parser of a call format: one file, for --tool-parser-plugin."""
    from xlam_jax.format import get_codec
    from xlam_jax.format.vllm_plugin import parser_name, vllm_plugin

    codec = get_codec(call_format, template)
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


def _result(report: SaveReport, reading_bytes: int) -> dict[str, Any]:
    """The report, its peak covering reading too, as a share of the largest shard."""
    peak = max(report.peak_bytes, reading_bytes, 0)
    found = replace(report, peak_bytes=peak).to_json()
    return {**found, "peak_over_largest_shard": peak / report.largest_shard}


def _finish(result: dict[str, Any], src: Path, dst: Path, json_file: Path | None) -> None:
    result |= {"source": str(src), "folder": str(dst)}
    write_json(json_file, result)
    peak, share, shard = (result[k] for k in ("peak_bytes", "peak_over_largest_shard", "largest_shard"))
    millions = result["parameters"] / 1e6
    out.print(
        f"{dst}: {millions:.1f} M parameters, {result['dtype']}, {result['seconds']:.1f} s\n"
        f"peak host memory beyond the arrays: {peak / 2**20:.0f} MiB, "
        f"{share:.2f} x the largest shard of {shard / 2**20:.0f} MiB",
        highlight=False,
        soft_wrap=True,
    )


def _host_bytes(params: Any) -> int:
    """Bytes of the arrays in host memory: all of them on the CPU backend, none on an accelerator."""
    import jax

    leaves = jax.tree.leaves(params)
    shards = [s for leaf in leaves for s in leaf.addressable_shards]
    return sum(s.data.nbytes for s in shards if s.device.platform == "cpu")


def _check_dst(src: Path, dst: Path, overwrite: bool) -> None:
    from xlam_jax.release.folders import check_free

    check_free(dst, overwrite=overwrite)
    inside = dst.resolve() == src.resolve() or dst.resolve() in src.resolve().parents
    if inside:
        raise InputError("DST would replace SRC", where=str(dst), hint="name another DST")
    model = any((dst / name).is_file() for name in ("config.json", "xlam.json"))
    if overwrite and dst.is_dir() and any(dst.iterdir()) and (not model or (dst / "checkpoints").exists()):
        raise InputError(
            "--overwrite replaces folders that hold a converted model; this one holds something else",
            where=str(dst),
            hint="name another DST",
        )


@contextmanager
def _bar() -> Iterator[Callable[..., Callable[[str, int], None]]]:
    """A progress bar; `show(title, total)` begins a stage and returns its callback, called per tensor."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:

        def show(title: str, total: int | None = None) -> Callable[[str, int], None]:
            for done in progress.task_ids:
                progress.remove_task(done)
            task = progress.add_task(title, total=total)
            return lambda name, nbytes: progress.advance(task)

        yield show
