"""`xlam bench train|moe|attention|load|accelerator`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, out, print_table, working, write_json

Model = Annotated[str, typer.Option(help="Name of a released shape, or a model folder.")]
Layers = Annotated[int | None, typer.Option(min=1, help="Only this many of its layers.")]
SeqLen = Annotated[int, typer.Option(min=2, help="Positions of a row.")]
Rows = Annotated[int, typer.Option(min=1, help="Packed rows of a step.")]
Steps = Annotated[int, typer.Option(min=1, help="Timed steps.")]
Warmup = Annotated[int, typer.Option(min=1, help="Steps before, which are not counted.")]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
ProfileOption = Annotated[bool, typer.Option("--profile", help="Also show where the time goes.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep the result as JSON in DIR.")]


def register(app: typer.Typer) -> None:
    def add(function: Any, example: str) -> None:
        app.command(epilog=f"Example: xlam bench {example}")(function)

    add(train, "train --model tiny-llama --seq-len 64 --steps 2 --warmup 1")
    add(moe, "moe --model tiny-mixtral --tokens 64 --steps 2 --warmup 1")
    add(attention, "attention --model tiny-llama --seq-len 64 --backend xla --steps 2 --warmup 1")
    add(load, "load runs/demo/shards --steps 5")
    add(accelerator, "accelerator runs/bench --rehearse --only attention")


def cut(model: str, layers: int | None) -> Any:
    from xlam_jax.bench.train import cut_layers
    from xlam_jax.plan.work import find_model

    return cut_layers(find_model(model), layers)


def numbers(text: str, where: str) -> list[int]:
    from xlam_jax.errors import InputError

    parts = [p.strip() for p in text.split(",") if p.strip()]
    if not parts or not all(p.isdigit() and int(p) for p in parts):
        raise InputError(f"{text!r} is no list of numbers", where=where, hint="for example 4,8,16")
    return [int(p) for p in parts]


def _tried_attention(name: str, cfg: Any, seq_len: int, dtype: str) -> str:
    """`name`, or for "auto" the kernel that agrees with the reference on this machine."""
    from xlam_jax.bench.protocol import need_dtype
    from xlam_jax.models.attention import Facts, probe_attention

    heads = (cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.v_head_dim)
    facts = Facts(*heads, seq_len, need_dtype(dtype, "--compute-dtype"), cfg.sliding_window)
    choice = probe_attention(facts, asked=name, max_segments=2)
    if choice.backend != name:
        err.print(f"attention: {choice.backend}: {choice.reason}", highlight=False)
    return choice.backend


def named(model: str, layers: int | None) -> str:
    return f"{Path(model).name}-{layers}layers" if layers else Path(model).name


def train(
    model: Model = "smollm2-135m",
    layers: Layers = None,
    rows: Rows = 1,
    seq_len: SeqLen = 1024,
    steps: Steps = 30,
    warmup: Warmup = 10,
    remat: Annotated[str, typer.Option(help="none, full, dots, names:a,b.")] = "none",
    compute_dtype: Dtype = "float32",
    param_dtype: Dtype = "float32",
    moment_dtype: Dtype = "float32",
    lora_rank: Annotated[int, typer.Option(min=0, help="Adapters of this rank on a frozen base.")] = 0,
    attention: Annotated[str, typer.Option(help="Backend, or auto: the one that works here.")] = "xla",
    experts: Annotated[str, typer.Option(help="Backend of a mixture's experts.")] = "batched",
    mesh: Annotated[str, typer.Option(help="For example fsdp=8.")] = "",
    data: Annotated[Path | None, typer.Option(help="Folder of packed shards; else synthetic rows.")] = None,
    profile: ProfileOption = False,
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Time the training step: tokens/s, MFU with its formula, and the share of the measured matmul ceiling."""
    from xlam_jax.bench import protocol
    from xlam_jax.bench.train import StepOptions, bench_train
    from xlam_jax.models.lora import LoraConfig
    from xlam_jax.plan.work import parse_mesh
    from xlam_jax.training.config import MoeOptions

    cfg = cut(model, layers)
    options = StepOptions(
        remat=remat,
        param_dtype=param_dtype,
        compute_dtype=compute_dtype,
        attention=_tried_attention(attention, cfg, seq_len, compute_dtype),
        mesh=parse_mesh(mesh),
        moe=MoeOptions(experts=experts),
        moment_dtype=moment_dtype,
        lora=LoraConfig(rank=lora_rank) if lora_rank else None,
    )
    with working("compiling and timing"):
        result = bench_train(
            cfg,
            rows=rows,
            seq_len=seq_len,
            steps=steps,
            warmup=warmup,
            options=options,
            data=data,
            profiled=profile,
        )
    result = {"model": model, **result}
    write_json(json_file, result)
    protocol.keep(folder, "train", named(model, layers), result)
    keys = (
        "model",
        "layers",
        "rows",
        "seq_len",
        "tokens_per_second_per_device",
        "step_seconds",
        "step_seconds_p90",
    )
    rates = ("tflops", "ceiling_tflops", "of_ceiling", "mfu")
    print_table("training step", [{"": key, "value": result[key]} for key in (*keys, *rates)])
    peak = result["peak_device_mib"]
    out.print(
        f"{result['gflops_per_token']:.4g} GFLOP a token = {result['formula']}; compiled in "
        f"{result['compile_seconds']:.1f} s; "
        + (
            f"peak memory {peak:,.0f} MiB; "
            if peak
            else f"{result['temporaries_mib']:,.0f} MiB of temporaries; "
        )
        + f"{result['device']}, jax {result['versions']['jax']}",
        highlight=False,
    )
    show_profile(result)


def moe(
    model: Model = "mixtral-8x7b",
    tokens: Annotated[str, typer.Option(help="Numbers of tokens: 1024,8192.")] = "1024",
    backend: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    dtype: Dtype = "float32",
    skew: Annotated[
        float, typer.Option(min=0, help="0: balanced routing; 1: the first expert gets most.")
    ] = 0.0,
    steps: Steps = 30,
    warmup: Warmup = 10,
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Time a layer of experts by backend: forward, gradient of tokens, gradient of weights."""
    from xlam_jax.bench import protocol
    from xlam_jax.bench.moe import bench_moe
    from xlam_jax.plan.work import find_model

    counts = numbers(tokens, "--tokens")
    with working("compiling and timing"):
        result = bench_moe(
            find_model(model), counts, only=backend or (), dtype=dtype, skew=skew, steps=steps, warmup=warmup
        )
    result = {"model": model, **result}
    write_json(json_file, result)
    protocol.keep(folder, "moe", model, result)
    _table(f"experts {result['shape']}, ceiling {result['ceiling_tflops']:.3g} TFLOP/s", result["rows"])


def attention(
    model: Model = "mixtral-8x7b",
    seq_len: Annotated[str, typer.Option(help="Lengths: 1024,4096.")] = "1024",
    rows: Rows = 1,
    backend: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    dtype: Dtype = "float32",
    documents: Annotated[int, typer.Option(min=1, help="Documents packed in a row.")] = 2,
    steps: Steps = 30,
    warmup: Warmup = 10,
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Time attention by backend and length, forward and backward."""
    from xlam_jax.bench import protocol
    from xlam_jax.bench.attention import bench_attention
    from xlam_jax.plan.work import find_model

    lengths = numbers(seq_len, "--seq-len")
    with working("compiling and timing"):
        result = bench_attention(
            find_model(model),
            lengths,
            rows=rows,
            only=backend or (),
            dtype=dtype,
            documents=documents,
            steps=steps,
            warmup=warmup,
        )
    result = {"model": model, **result}
    write_json(json_file, result)
    protocol.keep(folder, "attention", model, result)
    _table(f"attention {result['shape']}, ceiling {result['ceiling_tflops']:.3g} TFLOP/s", result["rows"])


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    print_table(title, [row for row in rows if "error" not in row])
    for row in rows:
        if "error" in row:
            out.print(f"  {row['backend']}: {row['error']}", highlight=False)


def show_profile(result: dict[str, Any]) -> None:
    from xlam_jax.bench.profile import KINDS

    if rows := result.get("time_by_part"):
        print_table("where the time goes, a step", [row for row in rows if row["share"] >= 0.005])
        kinds = {kind: sum(row["share"] for row in rows if row["kind"] == kind) for kind in KINDS}
        out.print("; ".join(f"{kind} {share:.1%}" for kind, share in kinds.items() if share), highlight=False)


def load(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder written by xlam data build.")],
    rows: Rows = 8,
    steps: Steps = 50,
    threads: Annotated[int, typer.Option(min=1, help="Threads that read.")] = 2,
    step_seconds: Annotated[
        float | None, typer.Option(min=0, help="Of a training step with these rows, to compare.")
    ] = None,
    folder: Out = None,
    json_file: JsonOption = None,
) -> None:
    """Rows a second of the data loader, against what a training step needs."""
    from xlam_jax.bench import protocol
    from xlam_jax.bench.load import bench_load

    result = bench_load(data, rows=rows, steps=steps, threads=threads, step_seconds=step_seconds)
    write_json(json_file, result)
    protocol.keep(folder, "load", data.name, result)
    keys = ("rows", "seq_len", "first_batch_seconds", "rows_per_second", "tokens_per_second", "headroom")
    print_table(f"loader, {threads} threads", [{key: result[key] for key in keys}])


def accelerator(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where each part's JSON goes.")],
    seconds: Annotated[float, typer.Option(min=1, help="For all parts together.")] = 360.0,
    only: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Tiny shapes: tries the list on any machine.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Measure one accelerator in about six minutes; a part that fails costs only itself."""
    from xlam_jax.bench.accelerator import PARTS, bench_accelerator
    from xlam_jax.errors import InputError, WorkError

    names = [name for name, _, _ in PARTS]
    if unknown := set(only or ()) - set(names):
        raise InputError(f"unknown part {min(unknown)!r}", where="--only", hint=", ".join(names))
    with working("starting") as status:
        rows = bench_accelerator(folder, seconds=seconds, only=only or (), rehearse=rehearse, progress=status)
    write_json(json_file, rows)
    print_table(f"measured into {folder}", rows)
    if not any(row["status"] == "done" for row in rows):
        raise WorkError("no part could be measured", where=rows[0]["detail"] if rows else "")
