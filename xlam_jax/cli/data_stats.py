"""`xlam data stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import (
    AddressOption,
    EngineOption,
    JsonOption,
    WorkersOption,
    need_file,
    out,
    print_table,
    working,
    write_json,
)
from xlam_jax.cli.data_show import (
    CallFormatOption,
    LayoutOption,
    TemplateOption,
    ThoughtOption,
    TokenizerOption,
    printable,
)

_BAR = 40


def register_stats(app: typer.Typer) -> None:
    app.command("stats", epilog="Example: xlam data stats configs/demo/records.jsonl")(stats)


def stats(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Records (JSONL, gzip when named .gz) or built data folders."),
    ],
    tokenizer: TokenizerOption = None,
    call_format: CallFormatOption = "xlam-json",
    template: TemplateOption = "chatml",
    layout: LayoutOption = "brackets",
    thought: ThoughtOption = False,
    top: Annotated[int, typer.Option(min=1, help="How many functions, sources and styles to list.")] = 10,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
    ray_address: AddressOption = "",
    json_file: JsonOption = None,
) -> None:
    """Counts what Records or packed shards hold: lengths, calls, tools, sources, licences, drops."""
    from xlam_jax.format.codec import get_codec
    from xlam_jax.records.engines import make_engine
    from xlam_jax.shards.stats import record_stats, shard_stats

    codec = get_codec(call_format, template, layout, thought)
    runner = make_engine(engine, workers, ray_address)
    folders = [path for path in paths if path.is_dir()]
    files = [need_file(path, "Records") for path in paths if path not in folders]
    result: dict[str, Any] = {}
    if files:
        with working("counting") as status:
            counts = record_stats(
                files, codec, str(tokenizer or ""), runner, lambda n: status(f"{n:,} rows counted")
            )
        records = counts.summary(top=max(top, 100))
        result["records"] = {"paths": [str(f) for f in files], "codec": codec.name, **records}
        _print_records(records, top)
    if folders:
        result["shards"] = [shard_stats(folder) for folder in folders]
        for shards in result["shards"]:
            _print_shards(shards, top)
    write_json(json_file, result)


def _print_records(found: dict[str, Any], top: int) -> None:
    totals = {k: v for k, v in found.items() if isinstance(v, int)}
    print_table("records", [{k.replace("_", " "): v for k, v in totals.items()}])
    _print_distributions(found["distributions"])
    _print_counts("refused, by reason", found["refused"], top, found["rows"])
    for name in ("sources", "licences", "styles"):
        _print_counts(name, found[name], top, found["rows"])
    functions = dict(list(found["top_functions"].items())[:top])
    _print_counts(f"functions called most, of {found['functions']}", functions, top)


def _print_shards(found: dict[str, Any], top: int) -> None:
    out.print(printable(f"{found['path']}: data {found['fingerprint'][:12]}"), highlight=False)
    keys = ("rows", "seq_len", "records", "tokens", "target_tokens", "padding", "fill_percent", "shards")
    print_table("packed", [{k.replace("_", " "): found[k] for k in keys}])
    _print_distributions(found["distributions"])
    print_table("yields", found.get("yields", []))
    for name in ("sources", "licences"):
        _print_counts(name, found.get(name, {}), top)


def _print_distributions(found: dict[str, Any]) -> None:
    """Each with its quantiles in one table, then the histograms of lengths."""
    rows = [{"": name, **{k: v for k, v in d.items() if k != "histogram"}} for name, d in found.items()]
    if rows:
        print_table("how much in a row", rows)
    for name, d in found.items():
        if d["max"] - d["min"] < 2:
            continue
        most = max(b["rows"] for b in d["histogram"])
        bars = [{**b, "": "#" * round(_BAR * b["rows"] / most)} for b in d["histogram"]]
        print_table(name, bars)


def _print_counts(title: str, counts: dict[str, int], top: int, total: int = 0) -> None:
    """The `top` most frequent names; with `total`, the share of each."""
    if not counts:
        return
    rows = []
    for name, n in list(counts.items())[:top]:
        row: dict[str, Any] = {"name": printable(name), "count": n}
        rows.append(row | ({"percent": round(100 * n / total, 2)} if total else {}))
    if len(counts) > top:
        title += f" ({top} of {len(counts)})"
    print_table(title, rows)
