"""`xlam plan`: will it fit, on which mesh, how fast, at what cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, out, print_table, working, write_json

EXAMPLE = "Example: xlam plan --model tiny-mixtral --gpus 4 --rows 16 --seq-len 128 --no-compile"


def register(app: typer.Typer) -> None:
    app.command(epilog=EXAMPLE)(plan)


def plan(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file of a training run; or give --model.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="For example batch.rows=64")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Released shape or folder, in place of the config's.")
    ] = None,
    mesh: Annotated[
        str | None, typer.Option(help="Judge this one: fsdp=8,expert=8. Else all are tried.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Devices to find the best mesh for.")] = None,
    hardware: Annotated[
        str | None, typer.Option(help="h100-sxm (taken without it), h200, b200, tpu-v5p, tpu-v6e.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Packed rows of a step over all devices.")] = None,
    accumulation: Annotated[int | None, typer.Option(min=1, help="Micro-batches of a step.")] = None,
    seq_len: Annotated[int | None, typer.Option(min=2, help="Positions of a row; else the data's.")] = None,
    remat: Annotated[str | None, typer.Option(help="auto, none, full, dots, names:a,b")] = None,
    param_dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    moment_dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    lora_rank: Annotated[
        int | None, typer.Option(min=0, help="Adapters of this rank on a frozen base.")
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(min=1, help="Positions to train on; else the recipe's.")
    ] = None,
    sample_tokens: Annotated[
        int, typer.Option(min=1, help="Mean tokens of a sample, while the data is not built.")
    ] = 560,
    price: Annotated[float | None, typer.Option(min=0, help="Dollars a device and hour.")] = None,
    efficiency: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Share of the matmul ceiling.")
    ] = None,
    compile: Annotated[
        bool, typer.Option(help="Measure memory by compiling a slice on fake devices.")
    ] = True,
    compile_for: Annotated[
        str | None,
        typer.Option(
            help="Compile the step by this device's own compiler, without the device: "
            "h100, h200, b200, tpu-v5p, tpu-v6e."
        ),
    ] = None,
    topology: Annotated[
        str | None, typer.Option(help="Of --compile-for: 2x8 nodes of GPUs, 2x2x2 of TPUs.")
    ] = None,
    flag_profile: Annotated[
        str | None, typer.Option(help="Of --compile-for: XLA's flags, see xlam bench flags.")
    ] = None,
    keep_hlo: Annotated[
        Path | None, typer.Option(help="Of --compile-for: write the optimised program here.")
    ] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Of the model, only so many layers.")] = None,
    attention: Annotated[
        str | None, typer.Option(help="Backend of attention; auto takes the device's own.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Meshes to list.")] = 10,
    json_file: JsonOption = None,
) -> None:
    """Plan a training run before a device is booked: bytes, traffic, time, cost, and the mesh that fits best."""
    from xlam_jax.cli.plan_compiled import show_compiled
    from xlam_jax.config import load_config
    from xlam_jax.errors import InputError
    from xlam_jax.models.lora import LoraConfig
    from xlam_jax.parallel.hardware import hardware as find_hardware
    from xlam_jax.parallel.mesh import AXES
    from xlam_jax.plan.device_compile import compile_for as compile_for_device
    from xlam_jax.plan.device_compile import order
    from xlam_jax.plan.plan import make_plan, report
    from xlam_jax.plan.recipe import amount, read_recipe, values
    from xlam_jax.plan.targets import target as find_target
    from xlam_jax.plan.work import Work, find_model, find_shape, parse_mesh, sizes_of, work_of
    from xlam_jax.training.config import BatchConfig, TrainConfig
    from xlam_jax.training.setup import with_defaults

    budget = recipe = None
    pairs = False
    asked = parse_mesh(mesh) if mesh else None
    if config is None:
        if model is None:
            raise InputError("nothing to plan", hint="xlam plan CONFIG, or --model NAME")
        if not (seq_len and rows):
            kinds = [
                f"--{k} {v}" for k, v, given in (("rows", 64, rows), ("seq-len", 4096, seq_len)) if not given
            ]
            out.print(f"an example: {' '.join(kinds)}", highlight=False)
        work = Work(
            find_model(model),
            seq_len or 4096,
            rows or 64,
            remat="full",
            attention="auto",
            compute_dtype="bfloat16",
        )
    else:
        written = load_config(TrainConfig, config, overrides or ())
        train = with_defaults(written, "gpu")
        if rows or accumulation:
            batch = {"rows": rows} if rows else train.batch.model_dump(exclude_unset=True)
            batch["accumulation"] = accumulation or train.batch.accumulation
            train = train.model_copy(update={"batch": BatchConfig(**batch)})
        recipe, pairs = read_recipe(train, config.parent), train.objective.kind != "sft"
        seq_len = seq_len or recipe.seq_len
        if not seq_len:
            raise InputError(
                "how long the rows are is not known: the data is not built, and no config beside builds it",
                where=f"data.train: {train.data.train}",
                hint="--seq-len N",
            )
        budget = amount(recipe, seq_len, asked or train.mesh, gpus, sample_tokens)
        work = work_of(train, find_model(model) if model else find_shape(train), seq_len).replace(
            rows=budget.rows
        )
        asked = asked or (written.mesh if gpus is None and "mesh" in written.model_fields_set else None)
    changes: dict[str, Any] = {
        "rows": rows,
        "accumulation": accumulation,
        "remat": remat,
        "attention": attention,
        "param_dtype": param_dtype,
        "cfg": work.cfg.replace(num_layers=layers) if layers else None,
        "lora": LoraConfig(rank=lora_rank) if lora_rank else None,
        "optim": work.optim.model_copy(update={"moment_dtype": moment_dtype}) if moment_dtype else None,
    }
    work = work.replace(**{k: v for k, v in changes.items() if v is not None})
    for option, dtype in (("--param-dtype", work.param_dtype), ("--moment-dtype", work.optim.moment_dtype)):
        if dtype not in ("float32", "bfloat16"):
            raise InputError(f"unknown dtype {dtype!r}", where=option, hint="float32, bfloat16")
    device = find_target(compile_for) if compile_for else None
    hw = find_hardware(
        hardware or (device.hardware if device else "h100-sxm"), price=price, efficiency=efficiency
    )
    sizes = None
    if asked is not None:
        fixed = [size for axis in AXES if (size := getattr(asked, axis)) > 0]
        sizes = sizes_of(asked, gpus or math.prod(fixed))
    with working("tracing and compiling"):
        # Memory is counted for the kernel that the hardware is likely to run.
        own = "splash" if hw.name.startswith("tpu") else "cudnn"
        planned = work.replace(attention=own) if work.attention == "auto" else work
        made = make_plan(planned, hw, sizes=sizes, devices=gpus or 1, compile=compile and device is None)
    compiled = None
    if device:
        chosen = made.work.replace(attention=work.attention)
        kept = str(keep_hlo or "")
        asked_for = order(chosen, made.best.sizes, device, topology, flag_profile, hlo=kept)
        with working(f"compiling for {device.name}"):
            compiled = compile_for_device(asked_for)
    length = budget.steps * work.tokens if budget and budget.steps else None
    result = report(made, tokens or length or 1e9)
    result["tokens_from"] = "asked" if tokens else "recipe" if length else "an example of 1e9"
    if budget and recipe:
        result["batch"] = values(budget, recipe)
    if compiled:
        result["compiled_for"] = compiled
    write_json(json_file, result)
    _show(result, top)
    if compiled:
        show_compiled(result)
    for line in result.get("batch", {}).get("lines", ()):
        out.print(line, highlight=False)
    if pairs:
        out.print(
            "preference pairs are planned as a fine-tuning step on the same rows; a reference held as a copy adds "
            "its weights and a forward pass",
            highlight=False,
        )


def _show(r: dict[str, Any], top: int) -> None:
    gib = 2**30
    model, hw, speed, cost = r["model"], r["hardware"], r["speed"], r["cost"]
    out.print(
        f"{model['total'] / 1e9:.2f} G parameters, {model['active'] / 1e9:.2f} G active; "
        f"{r['step']['rows']} rows of {r['step']['seq_len']:,} positions a step; {r['devices']} x {hw['name']}"
    )
    print_table("meshes, the fastest that fits first", r["ranked"][:top])
    for reason in dict.fromkeys(row["reason"] for row in r["refused"]):
        names = [row["mesh"] for row in r["refused"] if row["reason"] == reason]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        out.print(f"  refused {names[0]}{more}: {reason}", highlight=False)
    chosen = ",".join(f"{k}={v}" for k, v in r["mesh"].items() if v > 1) or "1 device"
    parts = [{"part": k, "GiB": v / gib} for k, v in r["memory"].items() if v or k == "total"]
    print_table("memory of one device", parts)
    fits = "fits" if r["fits"] else "DOES NOT FIT"
    out.print(f"  {chosen}: {fits}, remat {r['step']['remat']}; {r['memory_note']}", highlight=False)
    print_table("collectives of one step, into each device", r["traffic"])
    flops = r["flops"]
    out.print(f"{flops['total'] / 1e9:.2f} GFLOP a token = {flops['formula']}", highlight=False)
    ceiling = "measured" if hw["measured"] else "0.8 of the peak, not measured"
    out.print(
        f"step {speed['expected']:.3g} s expected, {speed['floor']:.3g} s at the roofline "
        f"(ceiling {hw['ceiling'] / 1e12:.0f} TFLOP/s, {ceiling}; {hw['efficiency']:.0%} of it expected)",
        highlight=False,
    )
    if not r["fits"]:
        lacking = (r["memory"]["total"] - r["memory"]["budget"]) / gib
        out.print(
            f"{lacking:.1f} GiB too many a device: more --gpus, fewer --rows, more --accumulation, --remat full, or "
            "--param-dtype bfloat16; so there is no cost to tell",
            highlight=False,
        )
        return
    out.print(
        f"{speed['tokens_per_second']:,.0f} tokens/s, {speed['tokens_per_second_per_device']:,.0f} a device, "
        f"MFU {speed['mfu']:.1%}; {cost['tokens']:.3g} tokens ({r['tokens_from']}): {cost['hours']:.1f} h, "
        f"about ${cost['dollars']:,.0f} at an example price of ${hw['price']:g} a device and hour",
        highlight=False,
    )
